"""``python -m bench``: every op and layer against its peers, figures beside limits, accuracy; ``--quick``: a minute."""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.environment import limit_threads

parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
parser.add_argument("--quick", action="store_true", help="fewer shapes, shorter batches, one thread")
parser.add_argument(
    "--threads", type=int, default=1, metavar="N", help="of every library; more than 1: large arrays alone"
)
parser.add_argument("--op", action="append", metavar="NAME", help="only this op (may be repeated)")
parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ops' figures, a PNG")
parser.add_argument("--readme", action="store_true", help="put the tables into bench/README.md and README.md")

if __name__ == "__main__":
    options = parser.parse_args()
    limit_threads(options.threads)

from rich.console import Console  # noqa: E402
from rich.progress import Progress  # noqa: E402

import fastnn  # noqa: E402
from bench import accuracy, layers, limits, measure, ops, peers, report, training  # noqa: E402
from fastnn.backends import config  # noqa: E402

SHAPES = [(1, 10), (100, 10), (100, 50), (256, 1024), (4096, 1024), (16384, 1024), (65536, 10), (64, 50257)]
LAYER_SHAPES = [(1, 10), (100, 50), (256, 1024), (4096, 1024), (65536, 10)]
QUICK = [(1, 10), (100, 50), (256, 1024), (65536, 10)]
QUICK_LAYERS = [(1, 10), (256, 1024)]
THREADED = [(1024, 1024), (4096, 1024), (131072, 10)]
DTYPES = ["float32", "float64"]


def with_one_thread(call):
    def alone():
        threads = fastnn.get_num_threads()
        fastnn.set_num_threads(1)
        call()
        fastnn.set_num_threads(threads)

    return alone


def measured(calls, name, dtype, shape, pace):
    """A row: seconds a call, once all results have been found equal."""
    expected = calls["fastnn"]()
    for peer, call in calls.items():
        if peer != "fastnn":  # a step in place changes its arrays: each makes one before it is compared
            measure.assert_equal(call(), expected, dtype, f"{name} {dtype} {shape}: {peer}")
    if fastnn.get_num_threads() > 1:
        calls["fastnn, 1 thread"] = with_one_thread(calls["fastnn"])
    seconds, processors = measure.times(calls, **pace)
    row = {"op": name, "dtype": dtype, "shape": shape, "seconds": seconds, "processors": processors}
    return row | {"copy": limits.seconds_of_a_copy(calls["fastnn"], expected)}


def all_cells(kind, names, dtypes, shapes, available, pace, progress):
    """Of `ops` or `layers`."""
    todo = [(n, dtype, shape) for n in names for dtype in dtypes for shape in ops.shapes(kind.op_of(n), shapes)]
    task = progress.add_task("", total=len(todo))
    for name, dtype, shape in todo:
        progress.update(task, description=f"{name} {dtype} {shape}")
        yield measured(kind.calls(name, dtype, shape, available), name, dtype, shape, pace)
        progress.advance(task)


def with_two_threads():
    """The same program once more, since libraries take their number of threads when they are imported."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "threads.json")
        command = [sys.executable, "-m", "bench", "--threads", "2", "--json", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return json.loads(path.read_text())


def show_cells(console, rows, names, title):
    console.print(report.cells(rows, names, title))
    for key, value in report.summary(rows).items():
        console.print(f"{key}: {value:.4g}", highlight=False)


def main(options):
    console = Console(width=None if sys.stdout.isatty() else 150)
    available, versions, missing = peers.available()
    several, chosen = options.threads > 1, options.op or ops.TIMED
    if several:
        available = {name: peer for name, peer in available.items() if name in peers.WITH_THREADS}
    header = config() | {"peers": versions, "not installed": missing}
    pace = {"batch": 0.002, "rounds": 5} if options.quick else {"batch": 0.01, "rounds": 7}
    if several:
        pace["rest"] = 0.02
    figures = {"version": 2, "header": header}
    if not several and not options.op and not options.quick:
        figures["two threads"] = with_two_threads()
    shapes = THREADED if several else QUICK if options.quick else SHAPES
    with Progress(console=Console(stderr=True), transient=True) as progress:
        rows = list(all_cells(ops, chosen, DTYPES, shapes, available, pace, progress))
        figures |= {"ops": rows, "summary": report.summary(rows)}
        if not several and not options.op:
            dtypes, shapes = (["float32"], QUICK_LAYERS) if options.quick else (DTYPES, LAYER_SHAPES)
            figures["layers"] = list(all_cells(layers, layers.LAYERS, dtypes, shapes, available, pace, progress))
            figures["training"] = list(progress.track(training.rows(available, pace), description="training"))
            figures["limits"] = list(training.figures(figures["training"]))
            figures["limits"] += progress.track(limits.all_of(available, pace), description="limits")
            task = progress.add_task("accuracy", total=accuracy.COUNT)
            figures["accuracy"] = accuracy.rows(lambda: progress.advance(task))
    if options.json:
        options.json.write_text(json.dumps(figures))
    report.refuse_if_busier([*rows, *figures.get("layers", []), *figures.get("training", [])], options.threads)
    names = list(available)
    for key in ("cpu", "backend", "threads", "fastnn", "python", "blas", "peers", "not installed"):
        console.print(f"{key}: {header[key]}", highlight=False)
    used = ", ".join(f"{name} {number:.2f}" for name, number in report.processors(rows).items())
    console.print(f"processors used (time of the process over time on the wall): {used}", highlight=False)
    show_cells(console, rows, [*(["fastnn, 1 thread"] if several else []), *names], f"Ops, threads: {options.threads}")
    if "layers" in figures:
        show_cells(console, figures["layers"], names, "Layers, forward and backward")
        console.print(report.training(figures["training"]))
        console.print(report.limits(figures["limits"]))
        console.print(report.accuracy(figures["accuracy"]))
        if "two threads" in figures:
            beside = ["fastnn, 1 thread", *peers.WITH_THREADS]
            show_cells(console, figures["two threads"]["ops"], beside, "Ops, threads: 2")
    if options.readme:
        measured_rows = [*rows, *figures.get("layers", [])]
        report.write(report.PAGE, "bench", report.markdown(measured_rows, names))
        report.write(report.README, "bench", report.markdown(report.for_readme(measured_rows), names))
        if "training" in figures:
            report.write(report.PAGE, "training", report.training_markdown(figures["training"]))
    if options.plot:
        report.plot(rows, names, header, options.plot)


if __name__ == "__main__":
    main(options)
