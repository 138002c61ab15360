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
from typing import Any

import numpy as np

from fastnn._kernels.gates import Plan, Source, closed, within
from fastnn._kernels.targets import class_indices
from fastnn.dropin import states
from fastnn.dropin.states import Names, Path, Unlike
from fastnn.trials import Binding, Rule

Args = tuple[Any, ...]
Theirs = Callable[..., Any]
# Up to which size numbers are tried, one after the other; what bends does so between two of them.
SIZES = 1.0, 20.0, 80.0, 700.0
SEEDS = 3
MOST = 400  # ways to bind a rule that are tried


@dataclass(frozen=True)
class Run:
    """
    What a call of theirs on copies has left.

    Attributes
    ----------
    given : tuple
        The arguments as they were.
    things : list of (path, object)
        All that was in those it ran on, before it ran.
    result
    args : tuple
        Those it ran on, after it.
    warned : set of str
        Of what NumPy would have warned.
    """

    given: Args
    things: list[tuple[Path, Any]]
    result: Any
    args: Args
    warned: set[str]


@dataclass(frozen=True)
class Found:
    """A plan, what it is called, and a call of the same kind with all scalars changed that may be others."""

    plan: Plan
    ours: str
    others: Args


class Search:
    """
    The search for a plan for one kind of call.

    Parameters
    ----------
    theirs : callable
    names : tuple of str or None
        As in `states.walk`.
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
        self.reason = "is like no op of fastnn's"

    def plan(self, rules: Sequence[Rule]) -> Found | None:
        """The first plan that holds; None leaves its reason in `reason`."""
        for domain in dict.fromkeys(rule.domain for rule in rules):
            of_kind = [rule for rule in rules if rule.domain == domain]
            given = self._filled(0, SIZES[1], domain)
            run = self._run(given)
            if isinstance(run, str):
                self.reason = run
                continue
            for rule in of_kind:
                for binding in self._bindings(rule, given):
                    found = self._of(rule, binding, run)
                    if found:
                        return found
        return None

    def _bindings(self, rule: Rule, given: Args) -> Iterator[Binding]:
        leaves = dict(states.walk(given, self.names))
        for i, binding in enumerate(rule.bindings(leaves, self.constants)):
            if i == MOST:
                return
            yield binding

    def _of(self, rule: Rule, binding: Binding, run: Run) -> Found | None:
        plan = self._explained(rule, binding, run)
        if plan is None:
            return None
        reason = self._unlike(rule, plan, states.copied(self.before, self.names), *self.after)
        if reason:
            self.reason = f"is not {rule.ours}: {reason}"
            return None
        conditions: list[tuple[Callable[[Any], Any], Path]] = []
        reason = self._same(rule, plan, SIZES[1])
        if reason:
            self.reason = f"is not {rule.ours}: {reason}"
            return None
        if self._same(rule, plan, SIZES[1], soft=True):
            for path in binding.paths:
                if _is_one_hot(_at(self.before, path)):
                    conditions.append((_one_hot, path))
            if not conditions:
                self.reason = f"is not {rule.ours} of all targets"
                return None
        if rule.bends or rule.domain == "unit":
            limit = self._limit(rule, plan)
            if limit is None:
                return None
            if limit != np.inf:
                known = {path for _, path in conditions}
                arrays = [p for p in binding.paths if _is_float_array(_at(self.before, p)) and p not in known]
                conditions += [(partial(_within, limit), path) for path in arrays]
        if conditions:
            plan = Plan(plan.compute, plan.operands, plan.result, plan.effects, tuple(conditions))
        free = self._same(rule, plan, SIZES[1], floats_but=binding.paths) == ""
        return Found(plan, rule.ours, states.copied(self.before, self.names, partial(_other, binding.paths, free)))

    # ------------------------------------------------------------ running both

    def _run(self, given: Args) -> Run | str:
        """Theirs on a copy; how it failed, if it did."""
        try:
            args = states.copied(given, self.names)
            things = [*_things(args, self.names)]
            with closed(), undisturbed() as warned:
                return Run(given, things, self.theirs(*args), args, warned)
        except Exception as error:
            return f"could not be tried: {type(error).__name__}: {error}"

    def _unlike(
        self, rule: Rule, plan: Plan, args: Args, result: Any, after: Args, signs: bool = True, warned: Any = None
    ) -> str:
        """How what the plan makes of the arguments is unlike what theirs has made."""
        with undisturbed() as warned_of:
            ours = plan(*args)
        if ours is ...:
            return "fastnn's does not take it"
        reason = states.differ((result, after), (ours, args), self.names, summed=rule.summed, signs=signs)
        return reason or (f"warns of {min(warned - warned_of)}" if warned and warned - warned_of else "")

    def _same(self, rule: Rule, plan: Plan, size: float, **how: Any) -> str:
        for seed in range(1, SEEDS):
            given = self._filled(seed, size, rule.domain, **how)
            run = self._run(given)
            if isinstance(run, str):
                return run
            exact = not how.get("zeros") and not how.get("special")
            # Of numbers that are none NumPy warns as its loops come upon them.
            warned = None if how.get("special") else run.warned
            reason = self._unlike(rule, plan, given, run.result, run.args, exact, warned)
            if reason:
                return reason
        return ""

    def _limit(self, rule: Rule, plan: Plan) -> float | None:
        """Up to which size of the numbers both agree; infinity if everywhere."""
        reason = self._same(rule, plan, SIZES[0]) or self._same(rule, plan, SIZES[0], zeros=True)
        if reason:
            self.reason = f"is not {rule.ours}: {reason}"
            return None
        limit = SIZES[1]
        if rule.domain != "unit":
            for size in SIZES[2:]:
                reason = self._same(rule, plan, size)
                if reason:
                    return limit
                limit = size
            if self._same(rule, plan, 1e300):
                return limit
        limit = float(np.finfo(np.float64).max)
        return limit if self._same(rule, plan, 1e300, special=True) else np.inf

    def _filled(
        self,
        seed: int,
        size: float,
        domain: str,
        *,
        soft: bool = False,
        zeros: bool = False,
        special: bool = False,
        floats_but: tuple[Path, ...] | None = None,
    ) -> Args:
        """The arguments with other numbers of the same kinds."""
        rng = np.random.default_rng(seed)
        of_self = self.names is not None
        arrays = [path for path, leaf in states.walk(self.before, self.names) if _is_float_array(leaf)]
        first = next((path for path in arrays if path[0] == of_self), None)

        def change(path: Path, value: Any) -> Any:
            if not isinstance(value, np.ndarray):
                return value if floats_but is None or path in floats_but else _other((), True, path, value)
            if value.dtype.kind == "b":
                return rng.random(value.shape) < 0.5
            if value.dtype.kind in "iu":
                if soft:
                    return value
                return rng.permutation(value.reshape(-1)).reshape(value.shape) if value.ndim == 1 else _rows(rng, value)
            if value.dtype.kind != "f":
                return value
            if _is_one_hot(value) and not soft:
                return _rows(rng, value)
            positive = of_self and path[0] == 0
            unit = domain == "unit" or (domain == "kept" and path != first)
            return _numbers(rng, value, size, unit, positive, zeros, special)

        return states.copied(self.before, self.names, change)

    # ------------------------------------------------------------ what is left behind

    def _explained(self, rule: Rule, binding: Binding, run: Run) -> Plan | None:
        """The plan by which a binding leaves behind what theirs has left."""
        try:
            with undisturbed():
                outs = binding.compute(*[_at(run.given, path) for path in binding.paths])
        except Exception:
            return None
        explain = _Explainer(run, outs, self.names, rule.summed)
        try:
            result, effects = explain(run.result), tuple(explain.effects())
        except Unlike:
            self.reason = explain.near(rule.ours) or self.reason
            return None
        if binding.into is not None:
            wanted = [(binding.paths[target], "out", i) for i, target in enumerate(binding.targets)]
            written = [(path, source.name, source.what) for path, source in effects if source.written]
            if sorted(written, key=str) == sorted(wanted, key=str):
                effects = tuple([each for each in effects if not each[1].written])
                return Plan(binding.into, binding.paths, result, effects)
        return Plan(binding.compute, binding.paths, result, effects)


class _Explainer:
    """Where each thing that a call has left behind comes from."""

    def __init__(self, run: Run, outs: Any, names: Names, summed: bool) -> None:
        self.run, self.names, self.summed = run, names, summed
        self.outs = outs if isinstance(outs, tuple) else (outs,)
        self.leaves = dict(states.walk(run.given, names))
        self.places = {id(thing): path for path, thing in run.things}

    def __call__(self, value: Any, path: Path | None = None) -> Source:
        """The source of something new; `path` is where it was put."""
        if isinstance(value, np.generic | float):
            return self._scalar(value)
        if isinstance(value, states.SCALARS):
            if type(value) is int and path in self.leaves and self.leaves[path] == value - 1:
                return Source("made", (_next, Source("leaf", path)))
            return Source("constant", value)
        if id(value) in self.places:
            return Source("leaf", self.places[id(value)])
        if isinstance(value, np.ndarray):
            return self._array(value)
        if type(value) is tuple and value and all(type(n) is int for n in value):
            for leaf_path, leaf in self.leaves.items():
                if isinstance(leaf, np.ndarray) and leaf.shape == value:
                    return Source("made", (np.shape, Source("leaf", leaf_path)))
        if type(value) in (tuple, list):
            return Source(type(value).__name__, [self(each) for each in value])
        if type(value) is dict:
            return Source("dict", {key: self(each) for key, each in value.items()})
        raise Unlike

    def _scalar(self, value: Any) -> Source:
        for i, out in enumerate(self.outs):
            if np.ndim(out) == 0 and not isinstance(out, np.ndarray):
                same = out if type(out) is type(value) else type(value)(out)
                if not states.differ_in_numbers(np.asarray(value), np.asarray(same), True, True):
                    source = Source("out", i)
                    return source if same is out else Source("made", (type(value), source))
        return Source("constant", value)

    def _array(self, value: Any) -> Source:
        shared = [(path, thing) for path, thing in self.run.things if states.overlap(thing, value)]
        for path, thing in shared:
            for view in (_flat, _view, _transposed):
                if thing.ndim and _is_view(view(thing), value):
                    return Source("made", (view, Source("leaf", path)))
        if shared:
            raise Unlike
        for i, out in enumerate(self.outs):
            if self._is(value, out):
                return Source("out", i)
        for path, leaf in self.leaves.items():
            if type(leaf) is np.ndarray and leaf.dtype == value.dtype and np.array_equal(leaf, value, equal_nan=True):
                return Source("made", (_copy, Source("leaf", path)))
        raise Unlike

    def _is(self, value: Any, out: Any) -> bool:
        return (
            type(out) is type(value)
            and out.dtype == value.dtype
            and out.shape == value.shape
            and not states.differ_in_numbers(value, out, self.summed, True)
        )

    def near(self, ours: str) -> str:
        """What an op's first output would be the result but for; empty if it is another thing."""
        x, y = self.run.result, self.outs[0]
        if type(x) is not np.ndarray or type(y) is not np.ndarray or x.shape != y.shape:
            return ""
        if x.dtype != y.dtype:
            wide = np.result_type(x, y)
            same = wide.kind == "f" and not states.differ_in_numbers(x.astype(wide), y.astype(wide), True, False)
            return f"gives {x.dtype} where {ours} gives {y.dtype}" if same else ""
        if states.differ_in_numbers(x, y, self.summed, False):
            return ""
        signs = states.differ_in_numbers(x, y, self.summed, True)
        return f"gives -0.0 where {ours} gives 0.0" if signs else f"leaves behind something else than {ours}"

    def effects(self) -> Iterator[tuple[Path, Source]]:
        """What is set or written beside the result."""
        before = dict(self.run.things)
        for i, argument in enumerate(self.run.args):
            if i == 0 and self.names is not None:
                for name in self.names:
                    if hasattr(argument, name):
                        yield from self._changes(getattr(argument, name), (0, name), before)
                    elif (0, name) in before:
                        raise Unlike
            else:
                yield from self._changes(argument, (i,), before)

    def _changes(self, value: Any, path: Path, before: dict[Path, Any]) -> Iterator[tuple[Path, Source]]:
        if path not in before:
            yield path, self(value, path)
        elif value is not before[path]:
            was = before[path]
            if not (isinstance(value, states.SCALARS) and type(value) is type(was) and _equal(value, was)):
                yield path, self(value, path)
        elif isinstance(value, np.ndarray):
            if not _equal(value, self.leaves[path]):
                for i, out in enumerate(self.outs):
                    if self._is(value, out):
                        yield path, Source("out", i, True)
                        return
                raise Unlike
        elif type(value) is list:
            if sum(1 for p in before if p[:-1] == path) != len(value):
                raise Unlike
            for i, each in enumerate(value):
                yield from self._changes(each, (*path, (i,)), before)
        elif type(value) is dict:
            if any(p[:-1] == path and p[-1][0] not in value for p in before):
                raise Unlike
            for key, each in value.items():
                yield from self._changes(each, (*path, (key,)), before)


def _things(args: Args, names: Names) -> Iterator[tuple[Path, Any]]:
    """All that is in the arguments, containers too, with the path of each."""

    def within_it(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
        yield path, value
        if type(value) in (tuple, list):
            for i, each in enumerate(value):
                yield from within_it(each, (*path, (i,)))
        elif type(value) is dict:
            for key, each in value.items():
                yield from within_it(each, (*path, (key,)))

    for i, value in enumerate(args):
        if i == 0 and names is not None:
            for name in names:
                if hasattr(value, name):
                    yield from within_it(getattr(value, name), (0, name))
        else:
            yield from within_it(value, (i,))


def _at(args: Args, path: Path) -> Any:
    value = args[path[0]]
    for step in path[1:]:
        value = getattr(value, step) if isinstance(step, str) else value[step[0]]
    return value


# What is made of a leaf.


def _copy(x: Any) -> Any:
    return x.copy()


def _flat(x: Any) -> Any:
    return x.reshape(x.shape[0], -1)


def _view(x: Any) -> Any:
    return x[...]


def _transposed(x: Any) -> Any:
    return x.T


def _next(n: int) -> int:
    return n + 1


def _is_view(view: Any, value: Any) -> bool:
    a, b = view.__array_interface__, value.__array_interface__
    return a["data"] == b["data"] and view.shape == value.shape and view.strides == value.strides


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
    return bool(a == b) or bool(a != a and b != b)


# ---------------------------------------------------------------- numbers to try


@contextmanager
def undisturbed() -> Iterator[set[str]]:
    """Without a trace in the global generators; gives what NumPy would have warned of."""
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002, theirs is what is kept
    warned = set[str]()
    try:
        with np.errstate(all="call", under="ignore", call=lambda kind, flag: warned.add(kind)):
            yield warned
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


def _numbers(
    rng: np.random.Generator, like: Any, size: float, unit: bool, positive: bool, zeros: bool, special: bool
) -> Any:
    """Numbers up to a size, small and large ones, with 0 among them and the smallest there are."""
    shape, info = like.shape, np.finfo(like.dtype)
    size = min(size, float(info.max) / 4)
    if unit:
        x = rng.random(shape) ** rng.choice([1, 8], shape)
        _put(rng, x, [0.0, 1.0])
    else:
        small = min(size, 1.0) * 10.0 ** rng.uniform(-6, 0, shape)
        x = np.where(rng.random(shape) < 0.5, small, rng.uniform(0, size, shape))
        if not positive:
            x *= rng.choice([-1.0, 1.0], shape)
        _put(rng, x, [0.0, float(info.smallest_subnormal), float(info.tiny), size, *([] if positive else [-size])])
    if zeros:
        _put(rng, x, [-0.0])
    if special:
        _put(rng, x, [np.nan, np.inf, *([] if unit or positive else [-np.inf])])
    return x.astype(like.dtype)


def _put(rng: np.random.Generator, x: Any, values: list[float]) -> None:
    """Values at random places, in at most a third of all."""
    if x.size > 2:
        places = rng.choice(x.size, min(len(values), x.size // 3), replace=False)
        x.reshape(-1)[places] = rng.permutation(values)[: len(places)]


def _other(operands: tuple[Path, ...], free: bool, path: Path, value: Any) -> Any:
    """A scalar that is an operand, or a float where floats are free, as another."""
    if type(value) is int:
        return value + 1 if path in operands else value
    if isinstance(value, float | np.floating) and (free or path in operands):
        return type(value)(value * 1.375 + 0.25)
    return value


def _rows(rng: np.random.Generator, x: Any) -> Any:
    return x[rng.permutation(len(x))] if x.ndim else x


def _is_float_array(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def _is_one_hot(t: Any) -> bool:
    if not isinstance(t, np.ndarray) or t.ndim != 2 or t.dtype.kind not in "iuf" or not t.size:
        return False
    return bool(np.all((t == 0) | (t == 1)) and np.all((t == 1).sum(axis=1) == 1))


def _one_hot(t: Any) -> bool:
    return class_indices(t, t) is not t


def _within(limit: float, x: Any) -> bool:
    return type(x) is np.ndarray and within(x, limit)
