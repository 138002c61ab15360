"""A script profiled as it stands and with fastnn's layers, each in a process of its own.

In both runs the layers, functions and optimizers that fastnn replaces are timed in the same way, theirs or ours, and so
is what NumPy and Python do beside them, as far as that goes through functions which can be wrapped.  What the timing
itself costs inside a layer is measured and taken off.
"""

from __future__ import annotations

import builtins
import gzip
import json
import os
import pickle
import random
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from threading import get_ident
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import dropin, profiling
from fastnn.backends import active, config, use
from fastnn.reports import Line, Report, Run
from fastnn.trials import is_loss

__all__ = ["ScriptError", "profile_script"]

LOSSES = {f"{name}.forward" if isinstance(ours, type) else name for name, ours in dropin.OURS.items() if is_loss(ours)}
PRODUCTS, LOADING, IMPORTS, LEFT = "matrix products", "loading data", "imports", "left as they are"
READERS = [
    *((np, name) for name in ("load", "loadtxt", "genfromtxt", "fromfile")),
    (np.lib.npyio.NpzFile, "__getitem__"),
    (pickle, "load"),
    (json, "load"),
    (gzip, "decompress"),
    (gzip.GzipFile, "read"),
]
_Book = Callable[[float, tuple[Any, ...], Any], None]  # told the seconds, arguments and result of a call
UNSEEN = (
    "Outside layers, products written with @ and files read with open() count as everything else: they cannot be told "
    "from Python's own work."
)


class ScriptError(Exception):
    """A script could not be profiled."""


def profile_script(path: str | os.PathLike[str], argv: Sequence[str] = (), *, verify: bool = True) -> Report:
    """
    Run a script twice, as it stands and with fastnn's layers in place of its own.

    Both runs start from the same random seeds, for scripts that set none.  What the first one prints is shown.

    Parameters
    ----------
    path : path
    argv : sequence of str, optional
        The script's own arguments.
    verify : bool, optional
        Replace only what gives the same numbers as fastnn's on random input.

    Returns
    -------
    Report

    Raises
    ------
    ScriptError
        A run ended with an exit code other than 0, or without leaving its figures.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is no file")
    before, after = (_in_a_process(path, argv, patched, verify) for patched in (False, True))
    runs = [_run(measured["run"]) for measured in (before, after)]
    notes = [f"{finding} was left as it is: {reason}." for finding, reason in after["left"]]
    if not runs[-1].lines:
        notes = ["Nothing was replaced: the two runs are the same.", *notes]
    return Report(f"Profile of {os.path.basename(path)}", runs, after["config"], [*notes, UNSEEN])


def _run(figures: dict[str, Any]) -> Run:
    lines = {
        name: [Line(**{**line, "shape": tuple(line["shape"])}) for line in figures[name]]
        for name in ("lines", "inside")
    }
    return Run(**{**figures, **lines})


# ---------------------------------------------------------------- the parent

# The folder of the parent's own fastnn is looked into last, if the child would not find fastnn without it.
_CHILD = "import sys; sys.path.append(sys.argv.pop(1)); from fastnn import scripts; sys.path.pop(); scripts.child()"


def _in_a_process(path: str, argv: Sequence[str], patched: bool, verify: bool) -> Any:
    """What `child` measures in a fresh process."""
    which = "with fastnn's layers" if patched else "as it stands"
    with tempfile.TemporaryDirectory() as folder:
        results = os.path.join(folder, "run.json")
        task = json.dumps({"path": path, "argv": [*argv], "patched": patched, "verify": verify, "results": results})
        run = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, str(Path(__file__).parents[1]), task],
            stdin=subprocess.DEVNULL if patched else None,
            stdout=subprocess.PIPE if patched else None,
            stderr=subprocess.STDOUT if patched else None,
            env={"PYTHONHASHSEED": "0", **os.environ},
            check=False,
        )
        if run.returncode or not os.path.exists(results):
            sys.stderr.write((run.stdout or b"").decode(errors="replace"))
            left = "" if run.returncode else " before its figures could be taken"
            raise ScriptError(f"{path} ended with exit code {run.returncode}{left}, {which}")
        return json.loads(Path(results).read_text(encoding="utf-8"))


# ---------------------------------------------------------------- the child


def child() -> None:
    """Run the script that the command line tells of, and write what it took."""
    task = json.loads(sys.argv.pop(1))
    patched, backend, clock = task["patched"], active(), _Clock()
    placed: list[Any] = []
    left: list[tuple[str, str]] = []

    def chooser(name: str, theirs: Any) -> tuple[Any, str]:
        if any(theirs is each for each in placed):
            return theirs, ""
        with clock.stopped(), use(backend):
            ours, reason = dropin.choose(name, theirs, verify=task["verify"])
            if reason:
                left.append((f"{theirs.__module__}.{name}", reason))
            chosen = ours if patched else theirs
            if name != "numerical_gradient" and (ours is not theirs or reason):  # it calls what the others time
                chosen = clock.around(name, chosen, LEFT if reason else "")
            placed.append(chosen)
            return chosen, reason

    np.random.seed(0)  # noqa: NPY002, the generator that scripts use
    random.seed(0)
    clock.watch()
    with profiling.profile() as profile:
        start = perf_counter()
        code, _ = dropin.run_script(task["path"], task["argv"], chooser=chooser)
        seconds = perf_counter() - start - clock.lost
    if not code:
        run = clock.run(profile.compiled_for if patched else "as it stands", seconds)
        if patched:
            run.inside = [replace(o, layer=o.op if "<locals>" in o.layer else o.layer) for o in profile.lines]
            recording: Any = profiling.Profile(backend)
            _take_off(run, _cost(recording.relu, backend.relu, np.ones(1)))
        measured = {"run": asdict(run), "left": left, "config": config()}
        Path(task["results"]).write_text(json.dumps(measured), encoding="utf-8")
    sys.exit(code)


class _Clock:
    """
    Where the time of the main thread goes, no moment counted twice.

    Attributes
    ----------
    lost : float
        Seconds that are not the script's.
    """

    def __init__(self) -> None:
        self.lost = 0.0
        self._counted = 0.0
        self._parts = dict.fromkeys((PRODUCTS, LOADING, IMPORTS, LEFT), 0.0)
        self._lines: dict[tuple[str, tuple[int, ...]], Line] = {}
        self._products = 0.0
        self._losses: list[Any] = []
        self._inside = self._importing = False
        self._in_product = True  # matrix products are told apart in layers only
        self._thread = get_ident()
        self._timed: dict[int, tuple[Any, Any]] = {}  # by the identity of what is timed

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens in here is not the script's time."""
        kept, lost, start = (self._inside, self._in_product), self.lost, perf_counter()
        self._inside = self._in_product = True
        try:
            yield
        finally:
            self._inside, self._in_product = kept
            self.lost = lost + perf_counter() - start

    def watch(self) -> None:
        """Time what NumPy and Python do beside the layers, from now on."""
        self._cost = 0.0
        self._inside, self._in_product = True, False
        self._cost = _cost(self._product(_nothing), _nothing, None)
        self._inside, self._in_product = False, True
        self.lost = self._products = 0.0
        for name in ("dot", "matmul", "einsum", "tensordot"):
            setattr(np, name, self._product(getattr(np, name)))
        for holder, name in READERS:
            setattr(holder, name, self._leaf(getattr(holder, name), self._to(LOADING)))
        builtins.__import__ = self._import(builtins.__import__)

    def around(self, name: str, thing: Any, part: str) -> Any:
        """A function timed, or a class whose methods are, as lines or as a part of the remainder."""
        if id(thing) not in self._timed:
            timed = thing
            if isinstance(thing, type):
                for method in dropin.methods(dropin.OURS[name]):
                    if hasattr(thing, method):
                        book = self._to(part) if part else self._to_line(f"{name}.{method}", 1)
                        setattr(thing, method, self._leaf(getattr(thing, method), book, is_layer=True))
            else:
                timed = self._leaf(thing, self._to(part) if part else self._to_line(name, 0), is_layer=True)
            self._timed[id(thing)] = thing, timed
        return self._timed[id(thing)][1]

    def run(self, name: str, seconds: float) -> Run:
        """What there is to report, after `seconds` in all."""
        lines = sorted(self._lines.values(), key=lambda line: -line.seconds)
        remainder = {part: each for part, each in self._parts.items() if each}
        losses = [float(loss) for loss in self._losses if np.ndim(loss) == 0]
        return Run(name, seconds, lines, remainder=remainder, products=self._products, losses=losses)

    def _to(self, part: str) -> _Book:
        def book(seconds: float, args: tuple[Any, ...], result: Any) -> None:
            self._parts[part] += seconds

        return book

    def _to_line(self, name: str, first: int) -> _Book:
        def book(seconds: float, args: tuple[Any, ...], result: Any) -> None:
            shape = profiling.shape_of(args[first]) if len(args) > first else ()
            line = self._lines.get((name, shape))
            if line is None:
                line = self._lines[name, shape] = Line(name, "", shape)
            line.calls += 1
            line.seconds += seconds
            if name in LOSSES and result is not None:
                self._losses.append(result)

        return book

    def _leaf(self, function: Any, book: _Book, *, is_layer: bool = False) -> Any:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._inside or get_ident() != self._thread:
                return function(*args, **kwargs)
            self._inside, self._in_product = True, not is_layer
            result, lost, start = None, self.lost, perf_counter()
            try:
                result = function(*args, **kwargs)
                return result
            finally:
                seconds = perf_counter() - start - (self.lost - lost)
                self._inside, self._in_product = False, True
                self._counted += seconds
                book(seconds, args, result)

        return timed

    def _product(self, function: Any) -> Any:
        outside = self._leaf(function, self._to(PRODUCTS))

        @wraps(function)
        def product(*args: Any, **kwargs: Any) -> Any:
            if self._in_product or get_ident() != self._thread:
                return outside(*args, **kwargs)
            self._in_product, start = True, perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._products += perf_counter() - start
                self._in_product = False
                self.lost += self._cost

        return product

    def _import(self, function: Any) -> Any:
        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if self._importing or self._inside or get_ident() != self._thread:
                return function(*args, **kwargs)
            self._importing, before, start = True, self.lost + self._counted, perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._parts[IMPORTS] += perf_counter() - start - (self.lost + self._counted - before)
                self._importing = False

        return timed


def _nothing(x: Any) -> None:
    pass


def _cost(timed: Callable[[Any], Any], plain: Callable[[Any], Any], x: Any) -> float:
    """Seconds that timing adds to one call."""

    def fastest(function: Callable[[Any], Any]) -> float:
        return min(timeit.repeat(lambda: function(x), number=1000, repeat=5)) / 1000

    return max(0.0, fastest(timed) - fastest(plain))


def _take_off(run: Run, cost: float) -> None:
    """What recording the ops has cost, from the layers that called them."""
    for name in {line.layer for line in run.lines}:
        lines = [line for line in run.lines if line.layer == name]
        recorded = sum(op.calls for op in run.inside if op.layer == name) / sum(line.calls for line in lines)
        for line in lines:
            took = min(line.seconds, cost * recorded * line.calls)
            line.seconds -= took
            run.seconds -= took
