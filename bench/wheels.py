"""``python -m bench.wheels PYTHON_A PYTHON_B``: two installed versions of fastnn side by side; ``--quick``: seconds.

A release is checked with it: A has the last one.  Each runs in a process of its own, both on one processor in turns,
A B A B, so that they do not disturb each other and what else the machine does meets both.  Nothing is timed before the
results have been found equal.
"""

import argparse
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import geometric_mean, median
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import layers, measure, ops, training
from bench.environment import limit_threads
from fastnn.optable import OPS

SHAPES = [(1, 10), (256, 1024), (4096, 1024), (65536, 10)]
QUICK = SHAPES[:2]
DTYPES = ["float32", "float64"]

parser = argparse.ArgumentParser(prog="python -m bench.wheels", description=__doc__)
parser.add_argument("a", metavar="PYTHON_A", help="interpreter of an environment with the older version")
parser.add_argument("b", metavar="PYTHON_B", help="with the newer one")
parser.add_argument("--quick", action="store_true", help="fewer sizes, shorter batches")


@contextmanager
def installed(python):
    """A function that asks the fastnn of an interpreter's environment, and gives its answer."""
    processor = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    command = [python, "-I", Path(__file__).with_name("ours.py"), str(processor)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def ask(*request):
            try:
                pickle.dump(request, process.stdin, protocol=5)
                process.stdin.flush()
                return pickle.load(process.stdout)
            except (EOFError, BrokenPipeError):
                sys.exit(f"{python} has not answered: {' '.join(map(str, request[:2]))}")

        yield ask


class Cell(NamedTuple):
    """What is timed: the request, and what raises an AssertionError if two answers differ."""

    what: str
    dtype: str
    shape: str
    request: tuple
    check: Callable


def op_cells(names, shapes):
    for name, dtype in product(names, DTYPES):
        op = OPS[name]
        for shape in ops.shapes(op, shapes):
            args = op.example(np.random.default_rng(shape), shape, dtype)
            yield Cell(name, dtype, by(shape), ("op", name, args, ops.written(op)), partial(check_op, op, args))


def check_op(op, args, a, b):
    # Each is within `ulp` of the reference; products are those of two BLAS libraries where NumPy is not the same.
    apart, limit = op.apart(b, a, op.floors(*args)), 2 * np.asarray(op.ulp) + op.products
    assert np.all(np.asarray(apart) <= limit), f"{apart} ULP apart"


def layer_cells(names, shapes):
    for name, dtype in product(names, DTYPES):
        for shape in ops.shapes(layers.op_of(name), shapes):
            request = "layer", name, *layers.case(name, dtype, shape)
            yield Cell(name, dtype, by(shape), request, partial(check_array, dtype))


def step_cells():
    for (sizes, batch, loss, *_), dtype in product(training.CASES, DTYPES):
        made = *training.parameters(sizes, dtype), *training.batch_of(sizes, batch, loss, dtype)
        what = f"{'-'.join(map(str, sizes))}, batch {batch}"
        for name, request in (
            ("Trainer", ("step", sizes, loss, *made)),
            ("fit, many steps", ("fit", sizes, loss, *made, training.SAMPLES // batch)),
        ):
            yield Cell(name, dtype, what, request, partial(check_array, dtype))


def check_array(dtype, a, b):
    measure.assert_equal(b, a, dtype, "")


def by(shape):
    return "x".join(map(str, shape))


def timed(a, b, *, batch, rounds):
    """Seconds a call of B, and how many times as long as A's it takes, of what was last asked for: medians."""
    number = 1
    while (took := a("seconds", number)) < batch / 4 and number < 1_000_000:
        number *= 4
    number = max(1, round(number * batch / took))
    pairs = [(a("seconds", number), b("seconds", number)) for _ in range(rounds)]
    return median(y for _, y in pairs) / number, median(y / x for x, y in pairs)


def table(title, rows):
    """Of (cell, seconds, ratio)."""
    shapes = dict.fromkeys(cell.shape for cell, *_ in rows)
    made = Table(title=f"{title}: microseconds a call of B; in brackets how many times as long as A")
    for column in ("", "dtype", *shapes, "worst", "mean"):
        made.add_column(column, justify="right" if column else "left", no_wrap=True)
    lines = {}
    for cell, seconds, ratio in rows:
        lines.setdefault((cell.what, cell.dtype), {})[cell.shape] = seconds, ratio
    for (what, dtype), found in lines.items():
        texts = [f"{1e6 * found[s][0]:.3g} ({found[s][1]:.2f})" if s in found else "" for s in shapes]
        ratios = [ratio for _, ratio in found.values()]
        made.add_row(what, dtype.removeprefix("float"), *texts, f"{max(ratios):.2f}", f"{geometric_mean(ratios):.2f}")
    return made


def main(options):
    console = Console(width=None if sys.stdout.isatty() else 150)
    pace = {"batch": 0.001, "rounds": 5} if options.quick else {"batch": 0.005, "rounds": 15}
    shapes, different = QUICK if options.quick else SHAPES, []
    with installed(options.a) as a, installed(options.b) as b:
        for side, ask in (("A", a), ("B", b)):
            console.print(f"{side}: {ask('who')}", highlight=False, soft_wrap=True)
        names = [*OPS, *layers.LAYERS]
        both = {*a("has", *names)} & {*b("has", *names)}
        console.print(f"not in both: {', '.join(name for name in names if name not in both) or 'nothing'}")
        for title, cells in (
            ("Ops", op_cells([name for name in OPS if name in both], shapes)),
            ("Layers, forward and backward", layer_cells([name for name in layers.LAYERS if name in both], shapes)),
            ("A training step", step_cells()),
        ):
            rows = []
            with Console(stderr=True).status(title) as status:
                for cell in cells:
                    status.update(" ".join(cell[:3]))
                    try:
                        cell.check(a(*cell.request), b(*cell.request))
                    except (AssertionError, ValueError) as error:
                        different.append(f"{' '.join(cell[:3])}: {error}")
                    else:
                        rows.append((cell, *timed(a, b, **pace)))
            if rows:
                console.print(table(title, rows))
                worst, *_, ratio = max(rows, key=lambda row: row[-1])
                mean = geometric_mean(ratio for *_, ratio in rows)
                console.print(f"{len(rows)} cells, geometric mean {mean:.3f}, worst {ratio:.2f}: {' '.join(worst[:3])}")
    for text in different:
        console.print(f"different: {text}", style="red", soft_wrap=True)
    return 1 if different else 0


if __name__ == "__main__":
    limit_threads(1)
    sys.exit(main(parser.parse_args()))
