"""The gates of one script: what is tried when a call of a new kind comes, and what is known at the end."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from fastnn import trials
from fastnn._kernels.gates import Gate, Kind
from fastnn.dropin.reach import Reach
from fastnn.dropin.reach import of as reach_of
from fastnn.dropin.search import Search
from fastnn.dropin.states import Args, Unlike, copied, is_plain, walk
from fastnn.trials.base import Path

MOST_BYTES = 1 << 26  # of arguments that are copied to be tried
MOST_KINDS = 24
FEW_KINDS = 12  # of which one should have come twice
PATIENCE = 3.0  # seconds that the kinds of one function may take to be tried
LONGEST = 0.25  # seconds of a call that is run some thirty times to be tried
_spent = [0.0]  # seconds for trying, in all


@dataclass
class Trial:
    """A call on its way: its arguments as they were, its arguments, and where the generators and the clock stood."""

    before: Args
    args: Args
    names: dict[str, Any]
    drawn: Any
    reach: Reach
    start: float


@dataclass
class Outcome:
    """What came of a kind: the op that serves it, or the reason why none does."""

    ours: str
    reason: str
    kind: Kind


@dataclass
class Definition:
    """
    A function or method of somebody's that has a gate.

    Attributes
    ----------
    module, of_class, name : str
    kinds : list of Outcome
    closed : str
        Why none of its calls is looked at; empty if they are.
    has_parts : bool
        Whether it calls others that have gates.
    around : callable
        Gives a context for whatever is no work of the script's.
    spent : float
        Seconds that its kinds have taken to be tried.
    """

    module: str
    of_class: str
    name: str
    kinds: list[Outcome] = field(default_factory=list)
    closed: str = ""
    has_parts: bool = False
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    spent: float = 0.0

    def __str__(self) -> str:
        return ".".join(filter(None, (self.module, self.of_class, self.name)))

    def gate(self, code: CodeType) -> Gate:
        return Gate(code, self._begin, self._end)

    def _begin(self, gate: Gate, frame: FrameType, args: Args) -> Trial | None:
        """What is needed to learn from a call; None where nothing is to be learnt."""
        try:
            with self.around():
                return self._begun(gate, frame, args)
        except Exception as error:  # whatever it is, the script must not break by it
            self._close(gate, f"could not be tried: {error!r}")
            return None

    def _end(self, gate: Gate, trial: Trial, result: Any) -> None:
        """Learn from what a call has done."""
        start = perf_counter()
        try:
            with self.around():
                self._learn(gate, trial, result)
        except Exception as error:
            self._close(gate, f"could not be tried: {error!r}")
        finally:
            seconds = perf_counter() - start
            _spent[0] += seconds
            self.spent += seconds

    def _begun(self, gate: Gate, frame: FrameType, args: Args) -> Trial | None:
        if len(self.kinds) >= MOST_KINDS or self.spent > PATIENCE:
            return None
        if len(self.kinds) >= FEW_KINDS and not any(outcome.kind.calls for outcome in self.kinds):
            self._close(gate, "is called in another way each time")
            return None
        subject = args[0] if args and self._is_mine(args[0]) else None
        found = reach_of(gate.code, frame.f_globals, subject)
        self.has_parts |= found.has_parts
        if found.loops and not any(rule.loops for rule in trials.of(self.of_class, self.name)):
            found.reason = found.reason or "has a loop whose end its numbers decide"
        if found.reason:
            self._close(gate, found.reason)
            return None
        if subject is None and gate.names is not None:  # a method that is called with something else
            return None
        names = None if subject is None else tuple(sorted({*(gate.names or ()), *found.names}))
        methods = tuple(sorted({*gate.methods, *found.methods}))
        gate.look_at(names, gate.by_shape or found.by_shape, methods, type(subject))
        leaves = [leaf for _, leaf in walk(args, names)]
        others = {type(leaf).__name__ for leaf in leaves if not is_plain(leaf)}
        try:
            if others:
                raise Unlike(f"is given a {min(others)}")
            if not any(isinstance(leaf, np.ndarray) and leaf.dtype.kind == "f" for leaf in leaves):
                raise Unlike("")  # there is nothing to gain
            if sum(leaf.nbytes for leaf in leaves if isinstance(leaf, np.ndarray)) > MOST_BYTES:
                return None  # a smaller one of this kind may come
            return Trial(copied(args, names), args, frame.f_globals, _drawn(), found, perf_counter() - _spent[0])
        except Unlike as error:
            self._leave(gate, args, str(error))
            return None

    def _learn(self, gate: Gate, trial: Trial, result: Any) -> None:
        if _drawn() != trial.drawn:
            self._close(gate, "draws random numbers")
            return
        if perf_counter() - _spent[0] - trial.start > LONGEST:
            self._close(gate, "takes too long to be tried")
            return
        theirs = self._function(gate.code, trial)
        search = Search(theirs, gate.names, trial.before, (result, trial.args), trial.reach.floats)
        found = search.plan(trials.of(self.of_class, self.name))
        if found is None:
            self._leave(gate, trial.before, search.reason)
        else:
            gate.look_at(gate.names, gate.by_shape or found.by_shape, gate.methods)
            watched = tuple(trial.reach.watched)
            kind = gate.learn(trial.before, found.plan, watched, found.others, _types(trial.before, gate))
            self.kinds.append(Outcome(found.ours, "", kind))

    def _leave(self, gate: Gate, args: Args, reason: str) -> None:
        """Let theirs serve this kind, whatever its numbers are."""
        try:
            others = copied(args, gate.names, _other)
        except Unlike:
            others = args
        self.kinds.append(Outcome("", reason, gate.learn(args, None, (), others, _types(args, gate))))

    def _function(self, code: CodeType, trial: Trial) -> Any:
        """The body, as a function of its arguments in order."""
        closure = None
        if code.co_freevars:
            owner = next(c for c in type(trial.args[0]).__mro__ if c.__name__ == self.of_class)
            closure = (CellType(owner),)
        function = FunctionType(code, trial.names, code.co_name, None, closure)
        by_position = code.co_argcount
        by_name = code.co_varnames[by_position : by_position + code.co_kwonlyargcount]
        if not by_name:
            return function
        return lambda *args: function(*args[:by_position], **dict(zip(by_name, args[by_position:], strict=True)))

    def _is_mine(self, first: Any) -> bool:
        return bool(self.of_class) and any(c.__name__ == self.of_class for c in type(first).__mro__)

    def _close(self, gate: Gate, reason: str) -> None:
        gate.is_open, self.closed = False, reason


def _other(path: Path, value: Any) -> Any:
    return value + 1 if isinstance(value, int | float | np.floating) and not isinstance(value, bool) else value


def _types(args: Args, gate: Gate) -> list[Any]:
    """What a kind knows by its address."""
    first = [type(args[0])] if args else []
    return [*first, *(leaf if isinstance(leaf, type) else type(leaf) for _, leaf in walk(args, gate.names))]


def _drawn() -> Any:
    """Where the global generators stand."""
    state: Any = np.random.get_state()  # noqa: NPY002, theirs is what is looked at
    return state[1].tobytes(), state[2:], random.getstate()
