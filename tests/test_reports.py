"""Reports: the terminal's table, JSON, and the page, in a real browser where there is one."""

import json
import math
import os
import re
import shutil
import sys
from html import escape, unescape

import processes
import pytest

from fastnn.backends import config
from fastnn.reports import Line, Report, Run, text_table

NASTY = '<script>alert("1")</script> & "quotes".py'
LONG = "softmax_cross_entropy_and_grad"


@pytest.fixture
def report():
    first = Run(
        "as it stands",
        1.0,
        [Line("Affine.forward", "", (50, 784), 10, 0.4), Line("Affine.forward", "", (50, 50), 10, 0.1)]
        + [Line(NASTY, "", (8,), 4, 0.2), Line("Sgd.update", "", (), 3, 0.1)],
        remainder={"loading data": 0.05},
        products=0.3,
        losses=[2.0 * 0.999**n for n in range(2000)],
    )
    second = Run(
        "x86-64-v4",
        0.5,
        [Line("Affine.forward", "", (50, 784), 10, 0.2), Line("Affine.forward", "", (50, 50), 10, 0.001)]
        + [Line(NASTY, "", (8,), 4, 0.25), Line("Relu.forward", "", (8,), 4, 0.01)],
        inside=[Line("Affine.forward", LONG, (50, 784), 20, 0.2, by_reference=2)],
        remainder={"imports": 0.001},
        losses=[2.0 * 0.999**n * (1 + 1e-13 * n) for n in range(2000)],
    )
    return Report(NASTY, [first, second], config(), ["A note with <b>."])


def test_rows_are_put_together(report):
    affine, nasty, sgd, relu = report.rows
    assert (affine.shapes, affine.calls, affine.seconds) == (((50, 784), (50, 50)), 20, (0.5, 0.201))
    assert affine.ratio == pytest.approx(0.5 / 0.201) and nasty.ratio == pytest.approx(0.8)
    assert sgd.ratio is None and relu.seconds == (0, 0.01)
    assert [row.op for row in report.inside(affine)] == [LONG] and report.inside(sgd) == []
    assert [row.shapes for row in report.rows_by_size][-2:] == [((50, 50),), ((50, 784),)]
    assert report.speed_up == 2.0


def test_parts_and_lines_add_up_to_the_whole(report):
    for run in report.runs:
        assert run.in_lines + sum(run.parts.values()) == pytest.approx(run.seconds)
    assert report.parts == {
        "loading data": [0.05, 0.0],
        "imports": [0.0, 0.001],
        "everything else": pytest.approx([0.15, 0.038]),
    }


def test_below_names_what_is_too_slow(report):
    assert report.below(0.5) == []
    assert report.below(1.0) == [f"{NASTY} is 0.80 times as fast"]
    assert report.below(2.1)[-1] == "the whole is 2.00 times as fast"


def test_what_amdahl_leaves_is_said(report):
    said = " ".join(report.sentences)
    assert "200.0 of 1,000.0 ms (20%)" in said and "5.00 times as fast" in said
    assert "300.0 ms inside them are NumPy's matrix products" in said and "the limit is 2.00" in said
    assert "2,000 losses, at most 2.0e-10 apart" in said
    assert "2 calls were computed by NumPy" in said and "A note" in said


@pytest.mark.parametrize("rich", [True, False])
def test_the_table(report, rich, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    lines = report.table().splitlines()
    affine = next(line for line in lines if "Affine.forward" in line)
    assert affine.split() == "Affine.forward 50 x 784, 1 more 20 500.0 50% 201.0 40% 2.49".split()
    assert any(line.split() == [LONG, *"50 x 784 20* 200.0 40%".split()] for line in lines)
    assert any(line.split() == "the whole 1,000.0 100% 500.0 100% 2.00".split() for line in lines)
    assert len({len(line) for line in lines if line.endswith(("2.49", "2.00"))}) == 1
    assert lines[-1].startswith("backend ") and "blas core" in lines[-1]


def test_a_table_without_rows():
    assert "seconds" in text_table("", ["what", "seconds"], [], left=1)


def test_json(report, tmp_path):
    report.runs[0].losses[3] = math.nan
    text = report.to_json(tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == text
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert list(found) == ["version", "title", "config", "runs", "rows", "speed-up", "notes"]
    assert found["version"] == 1 and found["title"] == NASTY and found["speed-up"] == 2.0
    run = found["runs"][1]
    assert list(run) == ["name", "seconds", "lines", "inside", "remainder", "products", "losses", "trying"]
    assert list(run["lines"][0]) == ["layer", "op", "shape", "calls", "seconds", "by_reference"]
    assert list(run["remainder"]) == ["imports", "everything else"]
    assert found["runs"][0]["losses"][3] is None and len(run["losses"]) == 2000
    assert found["rows"][2]["speed-up"] is None and found["rows"][0]["shapes"] == [[50, 784], [50, 50]]


def test_the_page_escapes_and_needs_nothing_else(report, tmp_path):
    path = tmp_path / "report.html"
    report.to_html(path)
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;" in page
    assert "<b>." not in page and "A note with &lt;b&gt;." in page
    assert not re.search(r"https?:|//|@import|\bsrc=|url\(", page)
    assert page.count("<polyline") == 3 and "Speed-up by size" in page
    assert len(page) < 100_000


@pytest.mark.parametrize("losses", [([], []), ([1.0, 0.5], [1.0, 0.5]), ([math.nan], [math.nan]), ([0.0], [1.0])])
def test_pages_with_odd_losses(report, losses, tmp_path):
    report.runs[0].losses, report.runs[1].losses = losses
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert ("<h2>Loss</h2>" in page) == any(math.isfinite(loss) for run in losses for loss in run)
    assert ("to the last bit" in page) == (losses[0] == [1.0, 0.5])
    assert "nan" not in page.lower().split("<body>")[1].replace("nanme", "")


def test_a_run_by_itself(report, tmp_path):
    alone = Report("Profile", report.runs[1:], report.config)
    assert alone.speed_up is None and alone.below(100.0) == [] and "ratio" not in alone.table()
    alone.to_html(tmp_path / "report.html")
    assert "Speed-up" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.demo
def test_a_picture(report, tmp_path):
    report.plot(tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


# ---------------------------------------------------------------- the browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MEASURE = """<script>
const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5);
const cut = [...document.querySelectorAll("p, h1, h2, h3, td, th, dd, dt, span, b")].filter(
  e => getComputedStyle(e).display != "inline" && e.scrollWidth > e.clientWidth + 1);
parent.document.title = JSON.stringify({width: innerWidth, scroll: document.documentElement.scrollWidth,
  wide: wide.map(e => e.outerHTML), cut: cut.map(e => e.outerHTML), bars: document.querySelectorAll(".bar").length,
  curve: document.querySelector("svg").getBoundingClientRect().width});
</script></body>"""


def browse(tmp_path, *options):
    """Chromium without a network, nor with what this process was made to load."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
    words += [f"--user-data-dir={tmp_path / 'browser'}", "--host-resolver-rules=MAP * ~NOTFOUND", *options]
    run = processes.run(*words, env=environment)
    assert run.returncode == 0, run.stderr
    return run


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(report, width, tmp_path):
    path, measured, picture = (tmp_path / name for name in ("report.html", "measured.html", "report.png"))
    report.to_html(path)
    run = browse(tmp_path, f"--window-size={width},2000", f"--screenshot={picture}", path.as_uri())
    assert "CONSOLE" not in run.stderr
    assert len(picture.read_bytes()) > 20_000
    # In a frame, since a window has a least width.
    page = path.read_text(encoding="utf-8").replace("</body>", MEASURE)
    measured.write_text(f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(page)}"></iframe>')
    run = browse(tmp_path, "--dump-dom", measured.as_uri())
    assert "CONSOLE" not in run.stderr
    found = json.loads(unescape(re.search("<title>(.*?)</title>", run.stdout)[1]))
    assert found["width"] == width and found["scroll"] <= width
    assert found["wide"] == [] and found["cut"] == []
    assert found["bars"] == 14 and found["curve"] > width / 2
