"""Runs beside each other: as text for a terminal, as JSON, as a page and as a picture."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from fastnn import pictures

__all__ = ["Line", "Report", "Row", "Run", "text_table"]

REST = "everything else"
CONFIG = "backend", "threads", "blas", "blas core", "blas threads", "cpu", "numpy", "python", "fastnn"


@dataclass
class Line:
    """What one op or layer took on arrays of one shape.

    Attributes
    ----------
    layer : str
        The layer's method or the function; empty if an op was called by itself.
    op : str
        Empty for a layer or function as a whole.
    shape : tuple of int
        Of the first argument.
    calls : int
    seconds : float
    by_reference : int
        Calls that a compiled backend handed over to the reference, for their dtypes.
    """

    layer: str
    op: str
    shape: tuple[int, ...]
    calls: int = 0
    seconds: float = 0.0
    by_reference: int = 0


@dataclass
class Run:
    """One run of something.

    Attributes
    ----------
    name : str
    seconds : float
        Wall time of it all.
    lines : list of Line
        What can be faster or slower: no moment is counted in two of them.
    inside : list of Line
        The ops within `lines`, where those are layers.
    remainder : dict of str to float
        Seconds that are in no line, by what they are.
    products : float
        Seconds of NumPy's matrix products within `lines`, as far as they were seen.
    losses : list of float
    trying : float
        Seconds in which functions were tried beside fastnn's; they are in nothing else.
    """

    name: str
    seconds: float
    lines: list[Line] = field(default_factory=list)
    inside: list[Line] = field(default_factory=list)
    remainder: dict[str, float] = field(default_factory=dict)
    products: float = 0.0
    losses: list[float] = field(default_factory=list)
    trying: float = 0.0

    @property
    def in_lines(self) -> float:
        return sum(line.seconds for line in self.lines)

    @property
    def parts(self) -> dict[str, float]:
        """The whole remainder: what `remainder` does not name is everything else."""
        return {**self.remainder, REST: self.seconds - self.in_lines - sum(self.remainder.values())}


class Row(NamedTuple):
    """One layer or op, in every run."""

    layer: str
    op: str
    shapes: tuple[tuple[int, ...], ...]
    calls: int
    seconds: tuple[float, ...]
    by_reference: int

    @property
    def name(self) -> str:
        return ": ".join(filter(None, (self.layer, self.op)))

    @property
    def ratio(self) -> float | None:
        """How many times as fast the last run is as the first, if both have it."""
        return self.seconds[0] / self.seconds[-1] if len(self.seconds) > 1 and all(self.seconds) else None

    @property
    def size(self) -> int:
        return math.prod(self.shapes[0])


@dataclass
class Report:
    """
    A run by itself, or two beside each other.

    Attributes
    ----------
    title : str
    runs : list of Run
        One, or the one to compare with and the one that should be faster.
    config : dict
        What `fastnn.show_config` prints.
    notes : list of str
        Sentences for the reader.
    """

    title: str
    runs: list[Run]
    config: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Layers and ops, what took longest in the first run first."""
        return _rows([run.lines for run in self.runs], lambda line: (line.layer, line.op))

    @property
    def rows_by_size(self) -> list[Row]:
        """The same for each shape, small ones first."""
        rows = _rows([run.lines for run in self.runs], lambda line: (line.layer, line.op, line.shape))
        return sorted(rows, key=lambda row: row.size)

    @property
    def speed_up(self) -> float | None:
        """How many times as fast the last run is as the first, if there are two."""
        return self.runs[0].seconds / self.runs[-1].seconds if len(self.runs) > 1 else None

    @property
    def loss_differences(self) -> list[float]:
        """|a - b| / |a| for the losses of the first and the last run, at each step."""
        pairs = zip(self.runs[0].losses, self.runs[-1].losses, strict=False)
        return [_relative_difference(a, b) for a, b in pairs] if len(self.runs) > 1 else []

    def inside(self, row: Row) -> list[Row]:
        """The ops of the last run within a layer."""
        lines = [line for line in self.runs[-1].inside if line.layer == row.layer]
        return [] if row.op else _rows([lines], lambda line: (line.layer, line.op))

    def below(self, limit: float) -> list[str]:
        """What is less than `limit` times as fast in the last run as in the first, in words."""
        ratios = {row.name: row.ratio for row in self.rows} | {"the whole": self.speed_up}
        return [
            f"{name} is {ratio:.2f} times as fast"
            for name, ratio in ratios.items()
            if ratio is not None and ratio < limit
        ]

    @property
    def sentences(self) -> list[str]:
        """What Amdahl leaves, how far the losses are apart, what was handed over, and the notes."""
        said = []
        first = self.runs[0]
        rest = first.seconds - first.in_lines
        if len(self.runs) > 1 and rest > 0:
            said.append(
                f"{_ms(rest)} of {_ms(first.seconds)} ms ({rest / first.seconds:.0%}) are outside the layers and ops. "
                "If the layers and ops took no time at all, the whole would be "
                f"{_times(first.seconds / rest)} times as fast."
            )
            if first.products:
                stays = rest + first.products
                said.append(
                    f"{_ms(first.products)} ms inside them are NumPy's matrix products. If they take as long with "
                    f"fastnn, the limit is {_times(first.seconds / stays)} times; they take less where NumPy converts "
                    "arrays for them, or asks anew for their memory."
                )
        differences = self.loss_differences
        if differences:
            said.append(f"{len(differences):,} losses, at most {max(differences):.1e} apart (relative).")
        if len(self.runs) > 1 and len(first.losses) != len(self.runs[-1].losses):
            said.append(f"One run has {len(first.losses)} losses, the other {len(self.runs[-1].losses)}.")
        handed = sum(line.by_reference for run in self.runs for line in (*run.lines, *run.inside))
        if handed:
            said.append(f"{handed} calls were computed by NumPy for their dtypes (marked *).")
        return said + self.notes

    def table(self) -> str:
        """As text, for a terminal; drawn by rich where that is installed."""
        columns = self._columns()
        rows = [cells for _, cells in self._cells()]
        table = text_table(f"{self.title}, times in ms", columns, rows, left=columns.index("calls"))
        return "\n".join([table, *self.sentences, ", ".join(f"{key} {self.config[key]}" for key in CONFIG)])

    def _columns(self) -> list[str]:
        figures = [name for run in self.runs for name in (run.name, "share")]
        return ["layer", *["op"] * self._has_ops, "shape", "calls", *figures, *["ratio"] * (len(self.runs) > 1)]

    @property
    def _has_ops(self) -> bool:
        """Whether the rows are ops; else they are layers, and what is inside of one stands below its name."""
        return any(row.op for row in self.rows)

    def _cells(self) -> Iterator[tuple[str, list[str]]]:
        """The rows of the table, each with its kind: "row", "inside", "part" or "whole"."""
        before = [0.0] * (len(self.runs) - 1)
        empty = ["", "", *[""] * self._has_ops]
        for row in self.rows:
            yield "row", [row.layer, *[row.op] * self._has_ops, *_calls(row), *self._figures(row.seconds)]
            for op in self.inside(row):
                yield "inside", [f"  {op.op}", *_calls(op), *self._figures([*before, *op.seconds])]
        for part, seconds in self.parts.items():
            yield "part", [part, *empty, *self._figures(seconds)]
        yield "whole", ["the whole", *empty, *self._figures([run.seconds for run in self.runs])]

    @property
    def parts(self) -> dict[str, list[float]]:
        """The remainder of each run, by what it is."""
        names = dict.fromkeys(name for run in self.runs for name in run.parts)
        return {name: [run.parts.get(name, 0.0) for run in self.runs] for name in names}

    def _figures(self, seconds: Sequence[float]) -> list[str]:
        """Milliseconds and share for each run that has any, and how the runs compare."""
        texts = []
        for run, each in zip(self.runs, seconds, strict=True):
            texts += [_ms(each), f"{each / run.seconds:.0%}"] if each else ["", ""]
        return [*texts, _ratio(seconds)] if len(self.runs) > 1 else texts

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """As JSON, written to `path` if there is one; what is no number is null."""
        report = {
            "version": 1,
            "title": self.title,
            "config": self.config,
            "runs": [{**asdict(run), "remainder": run.parts} for run in self.runs],
            "rows": [{**row._asdict(), "speed-up": row.ratio} for row in self.rows],
            "speed-up": self.speed_up,
            "notes": self.sentences,
        }
        text = json.dumps(_finite(report), indent=1, allow_nan=False) + "\n"
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page that needs nothing else: no other file, no network, no script."""
        Path(path).write_text(_page(self), encoding="utf-8")

    def plot(self, path: str | os.PathLike[str] | None = None) -> None:
        """Draw it; needs matplotlib.  The picture is written to `path`, or shown without one."""
        pictures.draw(self._paint, path, figsize=(8, 5), layout="constrained")

    def _paint(self, figure: Any) -> None:
        rows = self.rows
        curves = [run for run in self.runs if run.losses]
        axes, *right = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
        height = 0.8 / len(self.runs)
        for i, run in enumerate(self.runs):
            places = [n + height * i for n in range(len(rows))]
            axes.barh(places, [1e3 * row.seconds[i] for row in rows], height, label=run.name)
        axes.set_yticks([n + height * (len(self.runs) - 1) / 2 for n in range(len(rows))], [row.name for row in rows])
        axes.invert_yaxis()
        axes.set(xlabel="ms", title=self.title)
        if rows:
            axes.legend()
        for axis in right:
            for run, style in zip(curves, ("-", "--"), strict=False):
                axis.plot(run.losses, style, label=run.name)
            axis.set(xlabel="step", title="loss")
            axis.legend()


def text_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table whose columns but the first `left` are aligned to the right; drawn by rich where that is installed."""
    rows = list(rows)
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ModuleNotFoundError:
        widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
        lines = [
            "  ".join(t.ljust(w) if i < left else t.rjust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True)))
            for row in [columns, ["-" * width for width in widths], *rows]
        ]
        return "\n".join(line.rstrip() for line in [title, *lines] if line)
    table = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD)
    for i, name in enumerate(columns):
        table.add_column(Text(name), justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(width=shutil.get_terminal_size((120, 24)).columns, color_system=None, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines() if line.strip())


def _rows(runs: Sequence[Sequence[Line]], key: Any) -> list[Row]:
    """The lines of each run that have one key, put together."""
    grouped: dict[Any, list[list[Line]]] = {}
    for i, lines in enumerate(runs):
        for line in lines:
            grouped.setdefault(key(line), [[] for _ in runs])[i].append(line)
    rows = []
    for of_runs in grouped.values():
        every = [line for lines in of_runs for line in lines]
        by_time = sorted(every, key=lambda line: -line.seconds)
        rows.append(
            Row(
                every[0].layer,
                every[0].op,
                tuple(dict.fromkeys(tuple(line.shape) for line in by_time)),
                max(sum(line.calls for line in lines) for lines in of_runs),
                tuple(sum(line.seconds for line in lines) for lines in of_runs),
                sum(line.by_reference for line in every),
            )
        )
    return sorted(rows, key=lambda row: -row.seconds[0])


def _relative_difference(a: float, b: float) -> float:
    if a == b or (a != a and b != b):
        return 0.0
    difference = abs(a - b) / abs(a) if a else math.inf
    return difference if difference == difference else math.inf


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.1f}"


def _ratio(seconds: Sequence[float]) -> str:
    return _times(seconds[0] / seconds[-1]) if min(seconds) > 0 else ""


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _calls(row: Row) -> tuple[str, str]:
    """On what, and how often."""
    more = len(row.shapes) - 1
    shapes = _shape(row.shapes[0]) + (f", {more} more" if more else "")
    return shapes, f"{row.calls:,}" + ("*" if row.by_reference else "")


# ---------------------------------------------------------------- the page

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c2227; --soft: #59646e; --line: #d5dbe0; --before: #98a3ad;
  --after: #1668ac; --track: #eef1f3; }
@media (prefers-color-scheme: dark) { :root { --page: #14181b; --ink: #e6eaed; --soft: #a3aeb8; --line: #39424a;
  --before: #76828d; --after: #63b0f0; --track: #22282d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 16px 48px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, "Liberation Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 24px; line-height: 1.25; margin: 0 0 4px; } h2 { font-size: 18px; margin: 36px 0 10px; }
h3 { font-size: 14px; margin: 0 0 6px; } p { margin: 6px 0; max-width: 75ch; }
.lead { font-size: 18px; } .soft, .key { color: var(--soft); } .number, .bar b { font-variant-numeric: tabular-nums; }
.key span { display: inline-block; margin-right: 18px; } .key i { display: inline-block; width: 12px; height: 12px;
  margin-right: 6px; background: var(--before); } .key .after i { background: var(--after); }
.op { display: grid; grid-template-columns: 260px 1fr 72px; gap: 2px 14px; align-items: center; padding: 7px 0;
  border-top: 1px solid var(--line); } .op .ratio { text-align: right; font-weight: 600; }
.bar { display: grid; grid-template-columns: 1fr 84px; gap: 8px; align-items: center; }
.bar i { display: block; height: 11px; background: var(--before); min-width: 1px; }
.bar .after { background: var(--after); }
.bar b { font-weight: 400; font-size: 13px; text-align: right; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(290px, 1fr)); gap: 24px; }
.size { display: grid; grid-template-columns: 104px 1fr 60px; gap: 8px; align-items: center; font-size: 13px; }
.size div { position: relative; background: var(--track); height: 12px; } .size i { display: block; height: 12px;
  background: var(--after); }
.size u { position: absolute; top: -2px; bottom: -2px; width: 2px; background: var(--ink); }
.size span:last-child { text-align: right; }
.plot { display: grid; grid-template-columns: 64px minmax(0, 1fr); gap: 4px 8px; font-size: 13px; color: var(--soft);
  margin-bottom: 18px; }
.plot .y { display: flex; flex-direction: column; justify-content: space-between; text-align: right; }
.plot .x { grid-column: 2; display: flex; justify-content: space-between; }
svg { display: block; width: 100%; height: 200px; border: 1px solid var(--line); }
polyline { fill: none; stroke: var(--before); stroke-width: 5px; vector-effect: non-scaling-stroke; }
polyline.after { stroke: var(--after); stroke-width: 1.5px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 4px 8px; border-top: 1px solid var(--line);
  vertical-align: top; } .number { text-align: right; overflow-wrap: normal; }
tr.inside td { color: var(--soft); border-top: 0; padding-top: 0; } tr.whole td { font-weight: 600; }
dl { display: grid; grid-template-columns: 130px 1fr; gap: 2px 12px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
@media (max-width: 640px) {
  .op { grid-template-columns: 1fr auto; } .op .bars { grid-row: 2; grid-column: 1 / 3; }
  thead { display: none; } tr { display: grid; grid-template-columns: 1fr 1fr; gap: 0 16px; padding: 7px 0;
    border-top: 1px solid var(--line); } th, td { border: 0; padding: 1px 0; } td:empty { display: none; }
  td.wide { grid-column: 1 / 3; font-weight: 600; } tr.inside td.wide { font-weight: 400; }
  td[data-label="calls"] { grid-column: 1 / 3; }
  td[data-label] { display: flex; justify-content: space-between; gap: 8px; }
  td[data-label]::before { content: attr(data-label); color: var(--soft); font-weight: 400; text-align: left; }
}
"""
_POINTS = 600  # of a curve, at most
_NUMBER = ' class="number"'


def _page(report: Report) -> str:
    first, last = report.runs[0], report.runs[-1]
    if len(report.runs) > 1:
        whole = (
            f"{_ms(first.seconds)} ms {first.name}, {_ms(last.seconds)} ms {last.name}: "
            f"{_ratio([first.seconds, last.seconds])} times as fast"
        )
    else:
        whole = f"{_ms(first.seconds)} ms, {first.name}"
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="lead">{escape(whole)}</p>',
        *(f"<p>{escape(sentence)}</p>" for sentence in report.sentences),
        _bars(report),
        _sizes(report),
        _losses(report),
        _details(report),
        "<h2>Where it ran</h2><dl>",
        *(f"<dt>{escape(key)}</dt><dd>{escape(str(report.config[key]))}</dd>" for key in CONFIG),
        "</dl>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(report.title)}</title><style>{_STYLE}</style></head>\n'
        "<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _key(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return ""
    first, last = (escape(run.name) for run in (runs[0], runs[-1]))
    return f'<p class="key"><span><i></i>{first}</span><span class="after"><i></i>{last}</span></p>'


def _bars(report: Report) -> str:
    rows: list[tuple[str, Sequence[float]]] = [(row.name, row.seconds) for row in report.rows]
    rows += report.parts.items()
    longest = max((max(seconds) for _, seconds in rows), default=0.0) or 1.0
    out = ["<h2>Time</h2>", _key(report.runs)]
    for name, seconds in rows:
        bars = "".join(
            f'<div class="bar"><i{_after(report, i)} style="width:{100 * max(each, 0) / longest:.2f}%"></i>'
            f"<b>{_ms(each)} ms</b></div>"
            for i, each in enumerate(seconds)
        )
        ratio = f"{_ratio(seconds)} x" if len(seconds) > 1 and _ratio(seconds) else ""
        out.append(
            f'<div class="op"><div>{escape(name)}</div><div class="bars">{bars}</div>'
            f'<div class="ratio">{ratio}</div></div>'
        )
    return "\n".join(out)


def _after(report: Report, i: int) -> str:
    return ' class="after"' if i == len(report.runs) - 1 else ""


def _sizes(report: Report) -> str:
    panels: dict[str, list[tuple[str, float]]] = {row.name: [] for row in report.rows}
    for row in report.rows_by_size:
        if row.ratio is not None and row.shapes[0]:
            panels[row.name].append((_shape(row.shapes[0]), row.ratio))
    if not any(panels.values()):
        return ""
    out = [
        '<h2>Speed-up by size</h2><p class="soft">By the shape of the first argument. The upright line is 1: as fast '
        'as before.</p><div class="panels">'
    ]
    for name, sizes in panels.items():
        if sizes:
            largest = max(1.0, *(ratio for _, ratio in sizes))
            bars = "".join(
                f'<div class="size"><span>{shape}</span><div><i style="width:{100 * ratio / largest:.2f}%"></i>'
                f'<u style="left:{100 / largest:.2f}%"></u></div><span class="number">{_times(ratio)} x</span></div>'
                for shape, ratio in sizes
            )
            out.append(f"<div><h3>{escape(name)}</h3>{bars}</div>")
    return "\n".join([*out, "</div>"])


def _losses(report: Report) -> str:
    runs = [run for run in report.runs if any(map(math.isfinite, run.losses))]
    if not runs:
        return ""
    steps = max(len(run.losses) for run in runs)
    finite = [loss for run in runs for loss in run.losses if math.isfinite(loss)]
    out = [
        "<h2>Loss</h2>",
        _key(runs),
        _chart([run.losses for run in runs], min(0.0, *finite), max(finite), "{:.3g}", steps),
    ]
    differences = report.loss_differences
    positive = [math.log10(d) for d in differences if 0 < d < math.inf]
    if positive:
        low, high = math.floor(min(positive)), math.ceil(max(positive) + 1e-9)
        logs = [math.log10(d) if d > 0 else low for d in differences]
        out += [
            '<p class="soft">Their relative difference, on a logarithmic scale.</p>',
            _chart([logs], low, high, "1e{:.0f}", steps),
        ]
    elif differences and not any(differences):
        out.append("<p>The two runs have the same losses, to the last bit.</p>")
    return "\n".join(out)


def _chart(curves: Sequence[Sequence[float]], low: float, high: float, form: str, steps: int) -> str:
    """Curves over the number of the step; the drawing is stretched to the page, its words are not."""
    height = (high - low) or 1.0
    lines = []
    for i, curve in enumerate(curves):
        stride = -(-len(curve) // _POINTS)
        points = " ".join(
            f"{1000 * n / max(1, steps - 1):.1f},{200 * (high - curve[n]) / height:.1f}"
            for n in range(0, len(curve), stride)
            if math.isfinite(curve[n])
        )
        lines.append(f'<polyline class="{"after" if i == len(curves) - 1 else "before"}" points="{points}"/>')
    labels = "".join(f"<span>{form.format(value)}</span>" for value in (high, low))
    return (
        f'<div class="plot"><div class="y">{labels}</div>'
        f'<svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img">{"".join(lines)}</svg>'
        f'<div class="x"><span>step 1</span><span>{steps:,}</span></div></div>'
    )


def _details(report: Report) -> str:
    columns = report._columns()
    left = columns.index("calls")
    labels = [""] * left + columns[left:]
    pairs = zip(columns, labels, strict=True)
    head = "".join(f"<th{_NUMBER if label else ''}>{escape(name)}</th>" for name, label in pairs)
    body = [f'<tr class="{kind}">{"".join(map(_cell, labels, cells))}</tr>' for kind, cells in report._cells()]
    return (
        '<h2>Figures</h2><p class="soft">Times in milliseconds.</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def _cell(label: str, text: str) -> str:
    if not label:
        return f'<td class="wide">{escape(text.strip())}</td>'
    return f'<td{_NUMBER} data-label="{escape(label)}">{escape(text)}</td>' if text else "<td></td>"
