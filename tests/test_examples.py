"""The examples, through the command: what they print holds, and their pictures are there."""

import os
import re
import sys

import numpy as np
import processes
import pytest

import fastnn
from fastnn import cli
from fastnn.examples import EXAMPLES

pytestmark = pytest.mark.demo

PICTURES = {"graph": ["graph_apples.png", "graph_softmax.png"]}


@pytest.fixture
def run(tmp_path, capsys):
    """Runs an example and gives what it prints, once its pictures have been looked at."""
    from matplotlib.image import imread

    def run(name):
        assert cli.main(["example", name, "--folder", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        expected = PICTURES.get(name, [f"{name}.png"])
        assert sorted(path.name for path in tmp_path.iterdir()) == expected
        for path in map(tmp_path.joinpath, expected):
            assert str(path) in text.splitlines()
            pixels = imread(path)[..., :3]
            assert min(pixels.shape[:2]) > 100 and pixels.std() > 0.05
        return text

    return run


def numbers(pattern, text):
    return [float(number) for number in re.findall(pattern, text, re.MULTILINE)]


def test_layers(backend, run):
    text = run("layers")
    [first] = numbers(r"^step    0  loss (\S+)", text)
    [last] = numbers(r"^last step  loss (\S+)", text)
    assert first == pytest.approx(np.log(10), rel=0.1) and last < 0.05
    [training] = numbers(r"^training accuracy (\S+)", text)
    [test] = numbers(r"^test accuracy (\S+)", text)
    assert training > 0.99 and test > 0.97


def test_gradients(backend, run, monkeypatch):
    with fastnn.profile() as profile:  # its clock counts calls of ops, which are the same on any machine

        def counted():
            return 1e-6 * sum(time.calls for time in profile.times.values())

        monkeypatch.setattr("fastnn.examples.gradients.perf_counter", counted)
        text = run("gradients")
    assert " 39,760 " in text and "79,520 values of the loss" in text
    errors = numbers(r"^[Wb][12] +\(.*\) +(\S+)$", text)
    assert len(errors) == 4 and max(errors) < 1e-7
    largest = numbers(r"^[Wb][12]: the largest error of a number is (\S+)$", text)
    assert len(largest) == 4 and max(largest) < 1e-7
    times = numbers(r"(\S+) ms$", text)
    assert len(times) == 3 and 0 < times[0] < times[1] < times[2]
    [difference] = numbers(r"gradient differs by (\S+)", text)
    assert difference < 1e-15


def test_regression(backend, run):
    text = run("regression")
    losses = re.findall(r"^seed (\d) +(\S+) +(\S+)$", text, re.MULTILINE)
    assert [int(seed) for seed, _, _ in losses] == list(range(10))
    for _, before, after in losses:
        assert float(before) > 0.5 and float(after) < 3e-3
    descents = re.findall(r"^(batch|mini-batch|stochastic|online) +(\S+) +1,000 +\S+ +(\S+)$", text, re.MULTILINE)
    assert [samples for _, samples, _ in descents] == ["1,000", "50", "1", "1"]
    assert all(float(loss) < 3e-3 for _, _, loss in descents)
    differences = numbers(r"^(?:regression|two classes|classes) .* (\S+)$", text)
    assert len(differences) == 3 and max(differences) < 1e-15


def test_graph(backend, run):
    text = run("graph")
    assert re.findall(r"^(apple|number|tax|price) +(\S+) +(\S+)$", text, re.MULTILINE) == [
        ("apple", "100", "2.2"),
        ("number", "2", "110"),
        ("tax", "1.1", "200"),
        ("price", "220", "1"),
    ]
    rows = dict(re.findall(r"^ *(gradient at .*?|-t.*?|\(y - t\) / N|fused kernel) ( +-?\d.*)$", text, re.MULTILINE))
    assert len(rows) == 5
    assert rows["gradient at y, graph"] == rows["-t / (y N)"]
    assert rows["gradient at x, graph"] == rows["(y - t) / N"] == rows["fused kernel"]
    [difference] = numbers(r"differ by at most (\S+)", text)
    assert difference < 1e-12


def test_volume2(backend, run):
    text = run("volume2")
    [accuracy] = numbers(r"^accuracy (\S+)", text)
    assert accuracy > 0.95
    two, one = numbers(r"  loss (\S+)$", text)
    assert two == pytest.approx(one, rel=1e-11, abs=0) and one < 0.2
    [difference] = numbers(r"differ by at most (\S+)", text)
    assert difference < 1e-12


@pytest.mark.parametrize("words", [[], ["--list"], ["layers", "--list"]])
def test_the_list(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["example", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(EXAMPLES) and max(map(len, lines)) < 120
    assert not list(tmp_path.iterdir())


def test_pictures_go_to_the_current_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["example", "graph"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == PICTURES["graph"]


def test_a_backend_of_a_notebook_that_is_not_installed(tmp_path):
    """A notebook's processes inherit it."""
    command = "import sys; from fastnn.cli import main; sys.exit(main(['example', 'graph', '--folder', sys.argv[1]]))"
    done = processes.run(
        sys.executable,
        "-P",
        "-c",
        command,
        tmp_path,
        env=os.environ | {"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
    )
    assert done.returncode == 0 and (tmp_path / "graph_apples.png").exists(), done.stderr


def test_an_unknown_name_and_a_missing_folder(capsys, tmp_path):
    with pytest.raises(SystemExit) as info:
        cli.main(["example", "nothing"])
    assert info.value.code == 2 and "invalid choice: 'nothing'" in capsys.readouterr().err
    assert cli.main(["example", "layers", "--folder", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err == f"fastnn example: --folder: {tmp_path / 'nowhere'} is not a folder\n"
