"""Where the time goes: a recording proxy around the ops of a backend, and backends side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isfunction
from sys import _getframe
from time import perf_counter
from typing import Any

import numpy as np

from fastnn import fallback, ops, reference
from fastnn.backends import active, config, name_of, use, use_backend
from fastnn.backends import backends as usable_backends
from fastnn.reports import Line, Report, Run, text_table

__all__ = ["Comparison", "OpTime", "Profile", "compare", "profile"]

_FASTNN = os.path.join(os.path.dirname(__file__), "")
_BETWEEN = "fastnn.trials.", "fastnn.scripts"  # somebody's function and the op that serves it
_OPS = [name for name, value in vars(reference).items() if isfunction(value)]


@dataclass(slots=True)
class OpTime:
    """What one op took.

    Attributes
    ----------
    calls : int
    seconds : float
        Wall time of all calls.
    by_reference : int
        Calls that a compiled backend left to the reference, for their dtypes.
    """

    calls: int = 0
    seconds: float = 0.0
    by_reference: int = 0


class Profile:
    """
    A backend that times the ops of another one.

    Parameters
    ----------
    backend : module
        What runs the ops.

    Attributes
    ----------
    seconds : float
        Wall time of the ``with`` block; 0 inside it.
    """

    def __init__(self, backend: Any) -> None:
        self.compiled_for = name_of(backend)
        self.seconds = 0.0
        # By op, then by the code that called it and the shape of the first argument.  It takes long to hash code, not
        # to hash its address, which stays its own as long as it is kept.
        self._times: dict[str, dict[tuple[int, Any], tuple[Any, OpTime]]] = {name: {} for name in _OPS}
        self._fell_back = ""
        for name in _OPS:
            setattr(self, name, self._timed(name, getattr(backend, name)))

    def _timed(self, name: str, op: Callable[..., Any]) -> Callable[..., Any]:
        times, functional = self._times[name], ops.__dict__

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            try:
                return op(*args, **kwargs)
            finally:
                seconds = perf_counter() - start
                caller: Any = _getframe(1)
                while caller.f_globals is functional or caller.f_globals["__name__"].startswith(_BETWEEN):
                    caller = caller.f_back
                code, first = caller.f_code, args[0]
                key = id(code), first.shape if type(first) is np.ndarray else shape_of(first)
                try:
                    time = times[key][1]
                except KeyError:
                    times[key] = code, (time := OpTime())
                time.calls += 1
                time.seconds += seconds
                if self._fell_back:
                    self._fell_back = ""
                    time.by_reference += 1

        return timed

    def fell_back(self, name: str) -> None:
        """To be told that the op that runs now is computed by the reference."""
        self._fell_back = name

    @property
    def times(self) -> dict[str, OpTime]:
        """By op, those that were called."""
        return {
            name: OpTime(
                sum(time.calls for _, time in times.values()),
                sum(time.seconds for _, time in times.values()),
                sum(time.by_reference for _, time in times.values()),
            )
            for name, times in self._times.items()
            if times
        }

    @property
    def lines(self) -> list[Line]:
        """By layer, op and shape, what took longest first."""
        return self.lines_by(_layer)

    def lines_by(self, layer: Callable[[Any], str]) -> list[Line]:
        """The same, by what `layer` calls the code that called an op."""
        lines = [
            Line(layer(code), name, shape, time.calls, time.seconds, time.by_reference)
            for name, times in self._times.items()
            for (_, shape), (code, time) in times.items()
        ]
        return sorted(lines, key=lambda line: -line.seconds)

    def run(self, losses: Sequence[float] = (), *, seconds: float | None = None) -> Run:
        """As a run of a report; `seconds` is its wall time if that is not the block's."""
        return Run(self.compiled_for, self.seconds if seconds is None else seconds, self.lines, losses=list(losses))

    def report(self) -> Report:
        """What the methods below show."""
        with use(self):
            return Report("Profile", [self.run()], config())

    def table(self) -> str:
        """As text, for a terminal; drawn by rich where that is installed."""
        return self.report().table()

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """As JSON, written to `path` if there is one."""
        return self.report().to_json(path)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page that needs nothing else."""
        self.report().to_html(path)

    def plot(self, path: str | os.PathLike[str] | None = None) -> None:
        """Draw it; needs matplotlib.  The picture is written to `path`, or shown without one."""
        self.report().plot(path)

    def __str__(self) -> str:
        return self.table()


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of an array or of what would be one, else that of a number."""
    try:
        return np.shape(value)
    except ValueError:
        return ()


def _layer(code: Any) -> str:
    """The method or function of fastnn's, if it is one, that some code is."""
    return code.co_qualname if code.co_filename.startswith(_FASTNN) else ""


@contextmanager
def profile() -> Iterator[Profile]:
    """
    Time the ops of a ``with`` block, in this thread or task, on the backend that is active there.

    Yields
    ------
    Profile
    """
    recorder = Profile(active())
    token = fallback.fell_back.set(recorder.fell_back)
    start = perf_counter()
    try:
        with use(recorder):
            yield recorder
    finally:
        recorder.seconds = perf_counter() - start
        fallback.fell_back.reset(token)


# ---------------------------------------------------------------- side by side

# Of the largest number in an array: between two orders of a sum, not between two formulas.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
ROUNDS, ROUND = 7, 0.02  # times that each backend is measured, and the seconds that one measurement takes at least


@dataclass
class Comparison:
    """
    The time of a callable under several backends.

    Attributes
    ----------
    seconds : dict of str to float
        By backend, of one call: the median of the measurements.
    """

    seconds: dict[str, float]

    def table(self) -> str:
        """As text, for a terminal; drawn by rich where that is installed."""
        slowest = max(self.seconds.values())
        rows = [(name, f"{1e6 * each:,.1f}", f"{slowest / each:.2f}") for name, each in self.seconds.items()]
        return text_table("", ["backend", "us a call", "times the slowest"], rows, left=1)

    def __str__(self) -> str:
        return self.table()


def compare(fn: Callable[[], Any], *, backends: Sequence[str] | None = None) -> Comparison:
    """
    Call a function under several backends, check that its results agree, then time it in turns.

    Parameters
    ----------
    fn : callable
        Called without arguments, many times; what it gives may not depend on earlier calls.
    backends : sequence of str, optional
        All that are usable here if not given.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        The results differ: numbers by more than 1e-9 of an array's largest in float64 and 1e-4 in float32, anything
        else at all.
    """
    names = usable_backends() if backends is None else tuple(dict.fromkeys(backends))
    if not names:
        raise ValueError("backends names none to compare")
    results = {}
    for name in names:
        with use_backend(name):
            results[name] = fn()
    for name in names[:-1]:
        reason = _difference(results[name], results[names[-1]], "the result")
        if reason:
            raise ValueError(f"{name} and {names[-1]} disagree: {reason}")
    with use_backend(names[0]):
        calls = max(1, math.ceil(ROUND / max(_seconds(fn, 1), 1e-7)))
    measured: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            with use_backend(name):
                measured[name].append(_seconds(fn, calls) / calls)
    return Comparison({name: float(np.median(each)) for name, each in measured.items()})


def _seconds(fn: Callable[[], Any], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        fn()
    return perf_counter() - start


def _difference(a: Any, b: Any, what: str) -> str:
    """How two results differ; empty if they agree."""
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        if len(a) != len(b):
            return f"{what} has {len(a)} and {len(b)} items"
        pairs = enumerate(zip(a, b, strict=True))
        return next(filter(None, (_difference(x, y, f"{what}[{i}]") for i, (x, y) in pairs)), "")
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return f"{what} has the keys {', '.join(map(repr, a))} and {', '.join(map(repr, b))}"
        return next(filter(None, (_difference(a[k], b[k], f"{what}[{k!r}]") for k in a)), "")
    x, y = np.asarray(a), np.asarray(b)
    if (x.dtype, x.shape) != (y.dtype, y.shape):
        return f"{what} is {x.dtype} {x.shape} and {y.dtype} {y.shape}"
    if x.dtype.kind != "f":
        return "" if np.array_equal(x, y) else f"{what} is not the same"
    x64, y64 = x.astype(np.float64), y.astype(np.float64)
    limit = TOLERANCE.get(x.dtype.name, 0.0) * np.max(np.abs(x64[np.isfinite(x64)]), initial=0.0)
    with np.errstate(invalid="ignore"):
        apart = np.where((x64 == y64) | (np.isnan(x64) & np.isnan(y64)), 0.0, np.abs(x64 - y64))
    if np.all(apart <= limit):
        return ""
    return f"{what} differs by up to {np.max(apart):.3g}, in {x.dtype}"
