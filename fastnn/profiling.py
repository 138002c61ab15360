"""Where the time goes: a recording proxy around the ops of a backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fastnn import reference
from fastnn.backends import active, name_of, use
from fastnn.optable import OPS

__all__ = ["OpTime", "Recorder", "record"]


@dataclass
class OpTime:
    """What one op took.

    Attributes
    ----------
    calls : int
    seconds : float
        Wall time of all calls.
    by_reference : int
        Calls that a compiled backend handed over to the reference, for their dtypes.
    """

    calls: int = 0
    seconds: float = 0.0
    by_reference: int = 0


class Recorder:
    """A backend that times the ops of another one.

    Parameters
    ----------
    backend : module
        What runs the ops.

    Attributes
    ----------
    times : dict of str to OpTime
        By op, in the order of the op table, those that were called.
    """

    def __init__(self, backend: Any) -> None:
        self.compiled_for = name_of(backend)
        self._times = {name: OpTime() for name in OPS}
        for name in OPS:
            setattr(self, name, self._timed(getattr(backend, name), self._times[name]))

    @staticmethod
    def _timed(op: Callable[..., Any], time: OpTime) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = perf_counter()
            try:
                return op(*args, **kwargs)
            finally:
                time.seconds += perf_counter() - start
                time.calls += 1

        return timed

    def handed_over(self, name: str) -> None:
        self._times[name].by_reference += 1

    @property
    def times(self) -> dict[str, OpTime]:
        return {name: time for name, time in self._times.items() if time.calls}


@contextmanager
def record() -> Iterator[Recorder]:
    """Time the ops of a ``with`` block, in this thread or task, on the backend that is active there."""
    recorder = Recorder(active())
    token = reference.handed_over.set(recorder.handed_over)
    try:
        with use(recorder):
            yield recorder
    finally:
        reference.handed_over.reset(token)
