"""The ``fastnn`` command."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from fastnn import data, dropin, info, profiling, progress, reports, runner, scripts
from fastnn.backends import backends, config, get_backend, use_backend
from fastnn.examples import EXAMPLES
from fastnn.networks import MLP
from fastnn.optable import LOSS_CURVE, LOSS_CURVE_STEPS
from fastnn.optimizers import SGD
from fastnn.training import mini_batches

if TYPE_CHECKING:
    from rich.table import Table


class Run(NamedTuple):
    """One training run."""

    backend: str
    losses: list[float]
    accuracy: float
    seconds: float
    profile: profiling.Profile

    @property
    def times(self) -> dict[str, profiling.OpTime]:
        return self.profile.times


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The words after ``fastnn``; those of the process if not given.

    Returns
    -------
    int
        The exit code: 0, 1 where the command found what it warns of, 2 where it could not run.
    """
    parser = argparse.ArgumentParser(prog="fastnn", description="Neural-network layers as compiled kernels.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('fastnn-kernels')}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_compare(commands.add_parser("compare", help="train with NumPy and with the kernels, and compare"))
    _add_example(commands.add_parser("example", help="run an example, or list them"))
    _add_run(commands.add_parser("run", help="run a script with fastnn's ops behind its own functions"))
    _add_profile(commands.add_parser("profile", help="run a script as it stands and with fastnn's layers, and compare"))
    _add_info(commands.add_parser("info", help="report versions, processor, backend and BLAS, and what is faster here"))
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in ("matplotlib", "rich", "sklearn"):
            raise
        return _fail(f'fastnn {arguments.command} needs its demo extra: pip install "fastnn-kernels[demo]"')
    except (OSError, ValueError, scripts.ScriptError) as error:
        return _fail(f"fastnn {arguments.command}: {error}")
    except KeyboardInterrupt:
        print(f"fastnn {arguments.command}: interrupted", file=sys.stderr)
        return 130


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 2


def _whole(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}, not {text!r}")
        return int(text)

    return parse


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return rate


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Train the books' two-layer network twice from the same seed, on the NumPy reference and on the compiled "
        "kernels. Exit code 1 if the two disagree."
    )
    parser.add_argument("--data", type=Path, metavar="PATH", help="MNIST: a folder of IDX files or an .npz file")
    parser.add_argument("--hidden", type=_whole(1), default=50, metavar="N", help="hidden units (%(default)s)")
    parser.add_argument("--batch", type=_whole(1), default=50, metavar="N", help="samples a step (%(default)s)")
    parser.add_argument("--epochs", type=_whole(1), default=34, metavar="N", help="passes (%(default)s)")
    parser.add_argument("--lr", type=_rate, default=0.5, metavar="RATE", help="learning rate (%(default)s)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64", help="(%(default)s)")
    parser.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="weights, split and order (%(default)s)")
    parser.add_argument(
        "--backend",
        choices=backends()[:-1],
        default=get_backend() if get_backend() != "reference" else backends()[0],
        help="what to compare with the reference (%(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page to FILE")
    _add_fail_below(parser)
    parser.set_defaults(run=_compare)


def _add_example(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run an example: it prints its figures and writes its pictures. Without a name, list them."
    parser.add_argument("name", nargs="?", choices=EXAMPLES, metavar="NAME", help=f"one of {', '.join(EXAMPLES)}")
    parser.add_argument("--list", action="store_true", help="list the examples, one line each")
    parser.add_argument("--folder", type=Path, default=Path(), metavar="PATH", help="for the pictures (here)")
    parser.set_defaults(run=_example)


def _add_info(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Report versions, processor, backend, threads, NumPy's SIMD paths and BLAS. Where a setting of the environment "
        "may make matrix products faster, time some with it and without, and advise it if it is faster."
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON, for bug reports")
    parser.set_defaults(run=_info)


def _info(arguments: argparse.Namespace) -> int:
    report = info.report()
    print(json.dumps(report, indent=1) if arguments.json else info.text(report))
    return 0


def _example(arguments: argparse.Namespace) -> int:
    if arguments.list or arguments.name is None:
        for name, what in EXAMPLES.items():
            print(f"{name:<12}{what}")
        return 0
    if not arguments.folder.is_dir():
        raise ValueError(f"--folder: {arguments.folder} is not a folder")
    # Pictures are written, not shown: a notebook's own backend is no use, and may not be installed here.
    os.environ["MPLBACKEND"] = "agg"
    import_module(f"fastnn.examples.{arguments.name}").main(arguments.folder)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    _check_folders(arguments)
    console = Console()
    digits = data.mnist(arguments.data) if arguments.data else data.digits(seed=arguments.seed)
    reference, compiled = (_train(arguments, digits, name) for name in ("reference", arguments.backend))
    differences = _relative_differences(reference.losses, compiled.losses)
    console.print(_table(reference, compiled, differences))
    with use_backend(arguments.backend):
        machine = config()
    for key in ("cpu", "numpy", "blas", "blas core", "blas threads"):
        console.print(f"{key}: {machine[key]}", highlight=False)
    largest = differences[:LOSS_CURVE_STEPS].max()
    within = bool(largest <= LOSS_CURVE[arguments.dtype])
    if arguments.json:
        report = {
            "version": 1,
            "config": machine,
            "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items() if k != "run"},
            "reference": _figures(reference),
            "compiled": _figures(compiled),
            "speed-up": reference.seconds / compiled.seconds,
            "largest relative difference": float(differences.max()),
            "promised": LOSS_CURVE[arguments.dtype],
            "within": within,
        }
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    sides = [run.profile.run(run.losses, seconds=run.seconds) for run in (reference, compiled)]
    page = reports.Report("The reference and the kernels, training on digits", sides, machine)
    if arguments.html:
        page.to_html(arguments.html)
    if not np.isfinite(reference.losses).all():
        step = np.flatnonzero(~np.isfinite(reference.losses))[0]
        console.print(f"The loss is no number from step {step} on: nothing to compare. Try a lower --lr.", style="red")
        return 1
    if not within:
        console.print(
            f"The two runs disagree: their losses differ by up to {largest:.1e} within {LOSS_CURVE_STEPS} steps, and "
            f"{LOSS_CURVE[arguments.dtype]:.0e} is promised.",
            style="red",
        )
    return _judged(page, arguments) if within else 1


def _train(arguments: argparse.Namespace, digits: data.Data, backend: str) -> Run:
    x = digits.x_train.astype(arguments.dtype)
    classes = int(max(digits.t_train.max(), digits.t_test.max())) + 1
    network = MLP([x.shape[1], arguments.hidden, classes], seed=arguments.seed, dtype=arguments.dtype)
    steps = arguments.epochs * -(-len(x) // arguments.batch)
    losses, seconds = [], 0.0
    shown, quiet = progress.bar(backend, steps), np.errstate(all="ignore")
    with use_backend(backend), profiling.profile() as recorder, quiet, shown as advanced:
        for loss, took in _timed(_descent(network, arguments, x, digits.t_train)):
            losses.append(float(loss))
            seconds += took
            advanced(len(losses), f"loss {losses[-1]:.4f}")
    with use_backend(backend):
        accuracy = network.accuracy(digits.x_test.astype(arguments.dtype), digits.t_test)
    return Run(backend, losses, accuracy, seconds, recorder)


def _descent(network: MLP, arguments: argparse.Namespace, x: Any, t: Any) -> Iterator[Any]:
    """Layer by layer, as the books' scripts train, so that each op has its time."""
    rng, optimizer = np.random.default_rng(arguments.seed), SGD(arguments.lr)
    params, grads = network.params, network.grads
    for _ in range(arguments.epochs):
        for x_batch, t_batch in mini_batches(x, t, arguments.batch, rng):
            loss = network.loss(x_batch, t_batch)
            dout = network.loss_layer.backward()
            for layer in reversed(network.layers):
                dout = layer.backward(dout)
            optimizer.update(params, grads)
            yield loss


def _timed(steps: Iterator[Any]) -> Iterator[tuple[Any, float]]:
    """Each step with its own seconds: the progress bar is not counted."""
    while True:
        start = perf_counter()
        try:
            value = next(steps)
        except StopIteration:
            return
        yield value, perf_counter() - start


def _relative_differences(a: list[float], b: list[float]) -> Any:
    first, second = np.array(a), np.array(b)
    both_nan = np.isnan(first) & np.isnan(second)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.where(first == second, 0.0, np.abs(first - second) / np.abs(first))
    return np.nan_to_num(np.where(both_nan, 0.0, difference), nan=np.inf, posinf=np.inf)


def _figures(run: Run) -> dict[str, Any]:
    return {
        "backend": run.backend,
        "accuracy": run.accuracy,
        "seconds": run.seconds,
        "losses": run.losses,
        "ops": {name: asdict(time) for name, time in run.times.items()},
    }


def _table(reference: Run, compiled: Run, differences: Any) -> Table:
    from rich.table import Table

    table = Table(title=f"{len(reference.losses)} steps", caption_justify="left")
    table.add_column("")
    for name in (reference.backend, compiled.backend, "ratio"):
        table.add_column(name, justify="right")
    table.add_row("test accuracy", f"{reference.accuracy:.4f}", f"{compiled.accuracy:.4f}", "")
    table.add_row("last loss", f"{reference.losses[-1]:.6f}", f"{compiled.losses[-1]:.6f}", "")
    table.add_row("largest relative difference of loss", "", f"{differences.max():.1e}", "", end_section=True)
    for name, time in reference.times.items():
        table.add_row(f"{name}, ms", *_ratio(1e3 * time.seconds, 1e3 * compiled.times[name].seconds))
    remainders = (run.seconds - sum(time.seconds for time in run.times.values()) for run in (reference, compiled))
    table.add_row("Python, data, update, ms", *_ratio(*(1e3 * seconds for seconds in remainders)), end_section=True)
    table.add_row("training, ms", *_ratio(1e3 * reference.seconds, 1e3 * compiled.seconds), style="bold")
    return table


def _ratio(before: float, after: float) -> tuple[str, str, str]:
    return f"{before:.1f}", f"{after:.1f}", f"{before / after:.2f}"


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run a Python script as python does. The functions and methods that it and the modules beside it define are "
        "tried beside fastnn's ops, kind of call by kind of call, and served by those that agree with them. The exit "
        "code is the script's."
    )
    parser.add_argument("--quiet", action="store_true", help="do not say what was served and what was left")
    parser.add_argument("-m", dest="as_module", action="store_true", help="run a module by its name, as python -m does")
    _add_script(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> NoReturn:
    replacer = dropin.Replacer()

    def report() -> None:
        print(f"\nfastnn run\n{dropin.told(replacer.findings)}", file=sys.stderr)

    at_end = None if arguments.quiet else report
    runner.run(arguments.script, arguments.args, replacer.compile, as_module=arguments.as_module, at_end=at_end)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run a Python script twice in fresh processes, as it stands and as fastnn run does, from the same random "
        "seeds. Report where the time goes in both: by layer, op and shape, and in what no layer has part."
    )
    options = (
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE"),
        parser.add_argument("--html", type=Path, metavar="FILE", help="write a page to FILE"),
        _add_fail_below(parser),
    )
    _add_script(parser)
    parser.set_defaults(run=_profile, own=[name for option in options for name in option.option_strings])


def _add_script(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [options] script [the script's arguments]"
    parser.add_argument("script", help="the script; what follows is for it")
    parser.add_argument("args", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def _add_fail_below(parser: argparse.ArgumentParser) -> argparse.Action:
    return parser.add_argument(
        "--fail-below",
        type=_rate,
        metavar="X",
        help="exit code 1 if a layer, an op or the whole is less than X times as fast",
    )


def _profile(arguments: argparse.Namespace) -> int:
    _check_folders(arguments)
    for given in arguments.args:
        if given.partition("=")[0] in arguments.own:
            print(
                f"fastnn profile: {given} stands after the script and goes to it; fastnn's own options stand before it",
                file=sys.stderr,
            )
    report = scripts.profile_script(arguments.script, arguments.args)
    print(report.table())
    if arguments.json:
        report.to_json(arguments.json)
    if arguments.html:
        report.to_html(arguments.html)
    return _judged(report, arguments)


def _check_folders(arguments: argparse.Namespace) -> None:
    for option, path in (("--json", arguments.json), ("--html", arguments.html)):
        if path and not path.parent.is_dir():
            raise ValueError(f"{option}: {path.parent} is not a folder")


def _judged(report: reports.Report, arguments: argparse.Namespace) -> int:
    """The exit code that `--fail-below` asks for."""
    slow = report.below(arguments.fail_below) if arguments.fail_below else []
    for what in slow:
        print(f"fastnn {arguments.command}: {what}, less than {arguments.fail_below:g}", file=sys.stderr)
    return 1 if slow else 0
