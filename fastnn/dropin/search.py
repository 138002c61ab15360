"""Which op, with which operands, leaves behind what somebody's function leaves: found and confirmed by running both.

Theirs runs on copies only, filled with numbers of our own, and only where its code says that it has no effect beside
its arguments.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from fastnn._kernels.gates import Plan, Source, closed, within
from fastnn._kernels.targets import class_indices
from fastnn.dropin.explain import Explainer, Run
from fastnn.dropin.samples import Samples, is_float_array, is_one_hot, other_scalar
from fastnn.dropin.states import Args, Names, Unlike, at, copied, differ, things, walk
from fastnn.trials import Binding, Rule
from fastnn.trials.base import Call, Path

Theirs = Callable[..., Any]
# Up to which size numbers are tried, one after the other; what bends does so between two of them.
SIZES = 1.0, 20.0, 80.0, 700.0
LARGEST = 1e300, 1e9  # where nothing is summed, and where sums would overflow in an order of their own
UNLIKE = "is like no op of fastnn's"
LONGEST = 3.0  # seconds of a search
MOST = 400  # ways to bind a rule that are tried


@dataclass(frozen=True)
class Found:
    """
    A plan.

    Attributes
    ----------
    plan : Plan
    ours : str
        What it is called.
    others : tuple
        Arguments of the same kind, with all scalars changed that may be others.
    by_shape : bool
        Whether it holds for these shapes only.
    """

    plan: Plan
    ours: str
    others: Args
    by_shape: bool


class Search:
    """
    The search for a plan for one kind of call.

    Parameters
    ----------
    theirs : callable
    names : tuple of str or None
        As in `walk`.
    before : tuple
        Copies of the arguments of a call, as they were before it.
    after : tuple
        (result, arguments) as it left them.
    constants : list of float
    """

    def __init__(
        self, theirs: Theirs, names: Names, before: Args, after: tuple[Any, Args], constants: list[float]
    ) -> None:
        self.theirs, self.names, self.before, self.after = theirs, names, before, after
        self.constants = list(dict.fromkeys([*constants, 0.0]))
        self.samples = Samples(before, names)
        self.end = perf_counter() + LONGEST
        self.reason = UNLIKE

    def plan(self, rules: Sequence[Rule]) -> Found | None:
        """The first plan that holds; None leaves its reason in `reason`."""
        domains = dict.fromkeys(rule.domain for rule in rules)
        runs = {domain: self._run(self.samples.filled(0, SIZES[1], domain)) for domain in domains}
        for rule in rules:
            run = runs[rule.domain]
            if isinstance(run, str):
                self.reason = run
                continue
            for binding in self._bindings(rule, run):
                if perf_counter() > self.end:
                    self.reason = "takes too long to be tried"
                    return None
                found = self._of(rule, binding, run)
                if found:
                    return found
        return None

    def _bindings(self, rule: Rule, run: Run) -> Iterator[Binding]:
        given, after = (dict(walk(args, self.names)) for args in (run.given, run.args))
        made = [leaf for _, leaf in walk((run.result,), None)]
        for i, binding in enumerate(rule.bindings(Call(given, after, made, self.constants))):
            if i == MOST:
                return
            yield binding

    def _of(self, rule: Rule, binding: Binding, run: Run) -> Found | None:
        explained = self._explained(rule, binding, run)
        if explained is None:
            return None
        plan, by_shape = explained
        reason = self._unlike(rule, plan, copied(self.before, self.names), *self.after, not rule.summed)
        if reason:
            self.reason = f"is not {rule.ours}: {reason}"
            return None
        conditions: list[tuple[Callable[[Any], Any], Path]] = []
        same = partial(self._same, rule, plan, positive=binding.positive)
        reason = same(SIZES[1])
        for sign in (1.0, -1.0, 0.0):
            reason = reason or same(SIZES[0], alike=sign)
        for size in rule.sizes:
            reason = reason or same(size)
        if reason:
            self.reason = f"is not {rule.ours}: {reason}"
            return None
        if same(SIZES[1], soft=True):
            for path in binding.paths:
                if is_one_hot(at(self.before, path)):
                    conditions.append((_one_hot, path))
            if not conditions:
                self.reason = f"is not {rule.ours} of all targets"
                return None
        if rule.bends or not binding.whole:  # which looks at its numbers itself
            limit = self._limit(rule, same)
            if limit is None or (binding.whole and limit != np.inf):
                return None
            if limit != np.inf:
                known = {path for _, path in conditions}
                arrays = [p for p in binding.paths if is_float_array(at(self.before, p)) and p not in known]
                for path in arrays:
                    largest = float(np.finfo(at(self.before, path).dtype).max) / 4  # that was tried
                    conditions.append((partial(_within, min(limit, largest)), path))
        if conditions:
            plan = Plan(plan.compute, plan.operands, plan.result, plan.effects, tuple(conditions))
        # Scalars that may be others: those that are operands, and floats that theirs does not look at.
        ways: list[tuple[tuple[Path, ...], bool]] = [(binding.paths, True), (binding.paths, False), ((), False)]
        paths, free = next(w for w in ways if not same(SIZES[1], operands=w[0], free=w[1]))
        others = copied(self.before, self.names, partial(other_scalar, paths, free))
        return Found(plan, rule.ours, others, by_shape or rule.counts)

    # ------------------------------------------------------------ running both

    def _run(self, given: Args) -> Run | str:
        """Theirs on a copy; how it failed, if it did."""
        try:
            args = copied(given, self.names)
            was = [*things(args, self.names)]
            with closed(), undisturbed() as warned:
                return Run(given, was, self.theirs(*args), args, warned)
        except Exception as error:
            return f"could not be tried: {type(error).__name__}: {error}"

    def _unlike(
        self, rule: Rule, plan: Plan, args: Args, result: Any, after: Args, signs: bool, warned: Any = None
    ) -> str:
        """How what the plan makes of the arguments is unlike what theirs has made."""
        with undisturbed() as warned_of:
            ours = plan(*args)
        if ours is ...:
            return "fastnn's does not take it"
        reason = differ((result, after), (ours, args), self.names, summed=rule.summed, signs=signs)
        return reason or (f"warns of {min(warned - warned_of)}" if warned and warned - warned_of else "")

    def _same(self, rule: Rule, plan: Plan, size: float, **how: Any) -> str:
        for seed in self.samples.seeds[: 2 if "alike" in how else None]:
            given = self.samples.filled(seed, size, rule.domain, **how)
            run = self._run(given)
            if isinstance(run, str):
                return run
            exact = not (rule.summed or how.get("zeros") or how.get("special"))
            # Of numbers that are none NumPy warns as its loops come upon them.
            warned = None if how.get("special") else run.warned
            reason = self._unlike(rule, plan, given, run.result, run.args, exact, warned)
            if reason:
                return reason
        return ""

    def _limit(self, rule: Rule, same: Callable[..., str]) -> float | None:
        """Up to which size of the numbers both agree; infinity if everywhere."""
        reason = same(SIZES[0]) or same(SIZES[0], zeros=True)
        if reason:
            self.reason = f"is not {rule.ours}: {reason}"
            return None
        limit = SIZES[1]
        if rule.domain != "unit":
            for size in SIZES[2:]:
                reason = same(size)
                if reason:
                    return limit
                limit = size
            if same(LARGEST[bool(rule.summed)]):
                return limit
        elif same(SIZES[1], wide=True):
            return 1.0
        limit = LARGEST[bool(rule.summed)]
        return limit if same(1e300, special=True) else np.inf

    # ------------------------------------------------------------ what is left behind

    def _explained(self, rule: Rule, binding: Binding, run: Run) -> tuple[Plan, bool] | None:
        """The plan by which a binding leaves behind what theirs has left; whether it does so for these shapes only."""
        try:
            given = copied(run.given, self.names) if binding.whole else run.given
            with undisturbed():
                outs = binding.compute(*[at(given, path) for path in binding.paths])
        except Exception:
            return None
        if binding.whole:
            sources = [Source("out", i) for i in range(len(outs))] if isinstance(outs, tuple) else []
            return Plan(
                binding.compute, binding.paths, Source("tuple", sources) if sources else Source("out", 0)
            ), False
        explain = Explainer(run, outs, self.names, rule.summed)
        try:
            result, effects = explain(run.result), tuple(explain.effects())
        except Unlike:
            if self.reason == UNLIKE:
                self.reason = explain.near(rule.ours) or self.reason
            return None
        if binding.into is not None:
            wanted = [(binding.paths[target], "out", i) for i, target in enumerate(binding.targets)]
            written = [(path, source.name, source.what) for path, source in effects if source.written]
            if sorted(written, key=str) == sorted(wanted, key=str):
                effects = tuple([each for each in effects if not each[1].written])
                return Plan(binding.into, binding.paths, result, effects), explain.by_shape
        return Plan(binding.compute, binding.paths, result, effects), explain.by_shape


@contextmanager
def undisturbed() -> Iterator[set[str]]:
    """Without a trace in the global generators; gives what NumPy would have told of, of underflow only if it does."""
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002, theirs is what is kept
    warned = set[str]()
    try:
        under: Any = "ignore" if np.geterr()["under"] == "ignore" else "call"
        with np.errstate(all="call", under=under, call=lambda kind, flag: warned.add(kind)):
            yield warned
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


def _one_hot(t: Any) -> bool:
    return class_indices(t if is_float_array(t) else np.empty(t.shape), t) is not t


def _within(limit: float, x: Any) -> bool:
    return type(x) is np.ndarray and within(x, limit)
