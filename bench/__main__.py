"""``python -m bench``: every op against its peers; ``--quick`` for less than a minute."""

import argparse
import json
import sys
from math import prod
from pathlib import Path

from bench import peers

peers.limit_threads()

import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402
from rich.table import Table  # noqa: E402

from bench import measure  # noqa: E402
from fastnn import ops  # noqa: E402
from fastnn.backends import config  # noqa: E402
from fastnn.optable import OPS  # noqa: E402

SHAPES = [(1, 10), (100, 10), (100, 50), (256, 1024), (4096, 1024), (16384, 1024), (65536, 10), (64, 50257)]
QUICK = [(1, 10), (100, 50), (256, 1024), (65536, 10)]
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
README_SHAPE = (256, 1024)
# softmax_cross_entropy gives its peers' losses with another eps or none: they are equal to 1e-7, not to rounding.
TIMED = [name for name in OPS if name != "dot"]


def cells(shapes):
    return [(op, dtype, shape) for op in TIMED for dtype in ("float32", "float64") for shape in shapes]


def run_cell(op, dtype, shape, available, *, batch, rounds):
    """Seconds a call of fastnn and of every peer that has the op."""
    args = OPS[op].example(np.random.default_rng(prod(shape)), shape, dtype)
    function = getattr(ops, op)
    calls = {"fastnn": lambda: function(*args)}
    expected = calls["fastnn"]()
    for name, peer in available.items():
        call = peer(op, args)
        if call is not None:
            result = call()
            measure.assert_equal(result, expected, np.dtype(dtype), f"{op} {dtype} {shape}: {name}")
            calls[name] = call
    return measure.times(calls, batch=batch, rounds=rounds)


def markdown(rows, names):
    """The README's table: one shape, both dtypes, the fastest in bold, empty where a peer has no such op."""
    lines = [
        "| op, 256 x 1024 | dtype | fastnn | " + " | ".join(names) + " |",
        "|---|---" + "|---:" * (1 + len(names)) + "|",
    ]
    for row in rows:
        if row["shape"] == README_SHAPE:
            fastest = min(row["seconds"], key=row["seconds"].get)
            times = {name: f"{1e6 * seconds:.3g}" for name, seconds in row["seconds"].items()}
            times[fastest] = f"**{times[fastest]}**"
            columns = [row["op"], row["dtype"], *(times.get(name, "") for name in ("fastnn", *names))]
            lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def write_readme(text):
    before, _, rest = README.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def geometric_mean(values):
    return float(np.exp(np.mean(np.log(values)))) if values else float("nan")


def table(rows, names):
    made = Table(title="Microseconds a call, one thread; in brackets how many times as long as fastnn")
    for column in ("op", "shape", "dtype", "fastnn", *names):
        made.add_column(column, justify="left" if column == "op" else "right", no_wrap=True)
    for row in rows:
        ours = row["seconds"]["fastnn"]
        made.add_row(
            row["op"],
            "x".join(map(str, row["shape"])),
            row["dtype"].removeprefix("float"),
            f"{1e6 * ours:.3g}",
            *(
                f"{1e6 * row['seconds'][n]:.3g} ({row['seconds'][n] / ours:.2f})" if n in row["seconds"] else ""
                for n in names
            ),
            style="red" if min(row["seconds"].values()) < ours else None,
        )
    return made


def summary(rows):
    fastest = [min(s for n, s in row["seconds"].items() if n != "fastnn") / row["seconds"]["fastnn"] for row in rows]
    numpy = [
        row["seconds"]["NumPy layers"] / row["seconds"]["fastnn"] for row in rows if "NumPy layers" in row["seconds"]
    ]
    return {
        "cells": len(fastest),
        "cells not behind the fastest peer": sum(ratio >= 1 for ratio in fastest),
        "geometric mean against the fastest peer": geometric_mean(fastest),
        "geometric mean against the NumPy layers": geometric_mean(numpy),
    }


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer shapes, shorter batches")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--readme", action="store_true", help="put the table of one shape into README.md")
    parser.add_argument("--op", action="append", choices=TIMED, help="only this op (may be repeated)")
    options = parser.parse_args(argv)
    console = Console(width=None if sys.stdout.isatty() else 150)
    available, versions, missing = peers.available()
    todo = [cell for cell in cells(QUICK if options.quick else SHAPES) if not options.op or cell[0] in options.op]
    pace = {"batch": 0.002, "rounds": 5} if options.quick else {"batch": 0.01, "rounds": 7}
    rows = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("cells", total=len(todo))
        for op, dtype, shape in todo:
            progress.update(task, description=f"{op} {dtype} {shape}")
            seconds = run_cell(op, dtype, shape, available, **pace)
            rows.append({"op": op, "dtype": dtype, "shape": shape, "seconds": seconds})
            progress.advance(task)
    header = config() | {"peers": versions, "not installed": missing}
    for key in ("cpu", "backend", "threads", "fastnn", "python", "blas", "peers", "not installed"):
        console.print(f"{key}: {header[key]}", highlight=False)
    console.print(table(rows, list(available)))
    for key, value in summary(rows).items():
        console.print(f"{key}: {value:.4g}", highlight=False)
    if options.readme:
        write_readme(markdown(rows, list(available)))
    if options.json:
        options.json.write_text(json.dumps({"version": 1, "header": header, "rows": rows, "summary": summary(rows)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
