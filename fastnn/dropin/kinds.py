"""The gates of one script: what is tried when a call of a new kind comes, and what is known at the end."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from types import CellType, CodeType, FrameType, FunctionType
from typing import Any

import numpy as np

from fastnn import trials
from fastnn._kernels.gates import Gate
from fastnn.dropin import reach, states
from fastnn.dropin.reach import Reach
from fastnn.dropin.search import Args, Search

MOST_BYTES = 1 << 26  # of arguments that are copied to be tried
MOST_KINDS = 24


@dataclass
class Trial:
    """A call on its way: copies of its arguments, the arguments, the module's names, and the generators' states."""

    before: Args
    args: Args
    names: dict[str, Any]
    drawn: Any
    reach: Reach


@dataclass
class Definition:
    """
    A function or method of somebody's that has a gate.

    Attributes
    ----------
    module, of_class, name : str
    served : Counter
        What serves it, and how many kinds of calls.
    left : Counter
        Why its own body serves others, and how many kinds.
    """

    module: str
    of_class: str
    name: str
    served: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return ".".join(filter(None, (self.module, self.of_class, self.name)))

    def gate(self, code: CodeType) -> Gate:
        return Gate(code, self._begin, self._end)

    def _begin(self, gate: Gate, frame: FrameType, args: Args) -> Trial | None:
        """What is needed to learn from a call; None where nothing is to be learnt."""
        try:
            return self._begun(gate, frame, args)
        except Exception as error:  # whatever it is, the script must not break by it
            self._close(gate, f"could not be tried: {error!r}")
            return None

    def _end(self, gate: Gate, trial: Trial, result: Any) -> None:
        """Learn from what a call has done."""
        try:
            self._learn(gate, trial, result)
        except Exception as error:
            self._close(gate, f"could not be tried: {error!r}")

    def _begun(self, gate: Gate, frame: FrameType, args: Args) -> Trial | None:
        if len(gate.plans) >= MOST_KINDS:
            self.left["is called in too many ways"] = 1
            return None
        subject = args[0] if args and self._is_mine(args[0]) else None
        found = reach.of(gate.code, frame.f_globals, subject)
        if found.reason:
            self._close(gate, found.reason)
            return None
        if subject is not None:
            gate.look_at(tuple(sorted({*(gate.names or ()), *found.names})))
        leaves = [*states.walk(args, gate.names)]
        if sum(a.nbytes for _, a in leaves if isinstance(a, np.ndarray)) > MOST_BYTES:
            self.left["too large to be tried"] = 1
            return None
        others = {type(leaf).__name__ for _, leaf in leaves if not isinstance(leaf, (*states.SCALARS, np.ndarray))}
        try:
            if others:
                raise states.Unlike(f"is given a {min(others)}")
            return Trial(states.copied(args, gate.names), args, frame.f_globals, _drawn(), found)
        except states.Unlike as error:
            self.left[str(error)] += 1
            gate.learn(args, None, kept=[type(leaf) for _, leaf in leaves])
            return None

    def _learn(self, gate: Gate, trial: Trial, result: Any) -> None:
        if _drawn() != trial.drawn:
            self._close(gate, "draws random numbers")
            return
        theirs = self._function(gate.code, trial)
        search = Search(theirs, gate.names, trial.before, (result, trial.args), trial.reach.floats)
        found = search.plan(trials.of(self.of_class, self.name))
        kept = [type(leaf) for _, leaf in states.walk(trial.before, gate.names)]
        if found is None:
            self.left[search.reason] += 1
            gate.learn(trial.before, None, kept=kept)
        else:
            self.served[found.ours] += 1
            gate.learn(trial.before, found.plan, tuple(trial.reach.watched), found.others, kept)

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
        gate.is_open = False
        self.left[reason] += 1


def _drawn() -> Any:
    """Where the global generators stand."""
    state: Any = np.random.get_state()  # noqa: NPY002, theirs is what is looked at
    return state[1].tobytes(), state[2:], random.getstate()
