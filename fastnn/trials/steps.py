"""Steps of optimizers: over dicts, lists or single arrays, their state in attributes or in a dict of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import signature
from itertools import combinations, islice, permutations, product
from math import sqrt
from typing import Any

import numpy as np

from fastnn import ops, optimizers
from fastnn._kernels.lists import can_step_in_place
from fastnn.trials.base import Binding, Call, Constant, Leaves, Path, Rule, constant, floats

WORDS = "sgd", "momentum", "nesterov", "nag", "adagrad", "rmsprop", "adam", "update", "optim", "step", "descent"
# A step is told from others by so many numbers of one parameter.
FEW = 64
# Ways to take numbers for an output that are tried.
MOST = 2000
# Where terms cancel, their rounding shows: in so many of all numbers at most.
CANCEL = 0.02
# Of squares so small eps is not, beside their roots.
SMALL = 1e-9
# Numbers of a step while it is not known what they are.
ANY = {"iter": 2}
OTHER = {"iter": 3}


def rules() -> Iterator[Rule]:
    forms: dict[str, Callable[..., Any]] = {"nesterov": partial(ops.nesterov, form=2), "adam": _corrected}
    for optimizer in (getattr(optimizers, name) for name in optimizers.__all__):
        op: Callable[..., Any] = getattr(ops, optimizer.op)
        numbers = tuple([name for name in signature(op).parameters if name in (*optimizer.numbers, "iter")])
        # What is divided by the root of its last number, as it adds eps to it.
        has_root = "eps" in numbers
        for step in (op, forms[optimizer.op]) if optimizer.op in forms else (op,):
            yield StepRule(
                optimizer.op, WORDS, (), step, summed=CANCEL, domain="positive" if has_root else "any",
                kept=len(optimizer.kept), numbers=numbers, has_root=has_root, sizes=(SMALL,) if has_root else (),
            )  # fmt: skip


def _corrected(
    p: Any, m: Any, v: Any, dp: Any, lr: float, beta1: float, beta2: float, iter: int, eps: float, *, out: Any = None
) -> Any:
    """Adam as it is in courses: eps is added to the root of what is corrected for the start at 0."""
    return ops.adam(p, m, v, dp, lr, beta1, beta2, iter, eps * sqrt(1 - beta2**iter), out=out)


@dataclass(frozen=True)
class Count:
    """The number of a step: a whole number, or the one after it."""

    path: Path
    more: int


@dataclass(frozen=True)
class StepRule(Rule):
    """
    A step of every parameter.

    Attributes
    ----------
    kept : int
        How many arrays stand beside each parameter.
    numbers : tuple of str
        What the op takes after the gradient.
    has_root : bool
        Whether the last array that is kept holds squares.
    """

    kept: int = 0
    numbers: tuple[str, ...] = ()
    has_root: bool = False

    def bindings(self, call: Call) -> Iterator[Binding]:
        values: list[Any] = [path for path, leaf in call.given.items() if constant(leaf)]
        values += [Constant(value) for value in call.constants]
        counts = [Count(path, more) for path, leaf in call.given.items() if type(leaf) is int for more in (1, 0)]
        choices = {name: counts if name == "iter" else values for name in self.numbers}
        bundles = _bundles(call.given)
        changed = [name for name, paths in bundles.items() if any(call.has_changed(path) for path in paths.values())]
        for p, dp in permutations(bundles, 2):
            for kept in permutations([name for name in changed if name not in (p, dp)], self.kept):
                rows = _beside([bundles[name] for name in (p, *kept, dp)], call.given)
                if dp not in changed and rows:
                    for numbers in self._numbers(call, choices, rows):
                        yield self._binding(rows, numbers)

    def _numbers(
        self, call: Call, choices: dict[str, list[Any]], rows: list[tuple[Path, ...]]
    ) -> Iterator[tuple[Any, ...]]:
        """The numbers with which a step of the largest parameter gives what theirs has left, output by output."""
        row = max(rows, key=lambda row: call.given[row[0]].size)
        shape, arrays = call.given[row[0]].shape, [_few(call.given[path]) for path in row]
        left = [_few(a) for a in call.left(shape) if a.dtype == arrays[0].dtype]
        needs = sorted(enumerate(self._needs()), key=lambda need: len(need[1]))

        def found(i: int, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if i == len(needs):
                yield known
                return
            output, names = needs[i]
            new = [name for name in names if name not in known]
            for chosen in islice(product(*[choices[name] for name in new]), MOST):
                taken = known | dict(zip(new, chosen, strict=True))
                paths = [each for each in taken.values() if not isinstance(each, Constant)]
                if len(set(paths)) < len(paths):
                    continue
                y = self._outputs(arrays, {name: call.value(each) for name, each in taken.items()})
                if y and any(_near(a, y[output]) for a in left):
                    yield from found(i + 1, taken)

        for known in found(0, {}):
            yield tuple([known[name] for name in self.numbers])

    def _needs(self) -> list[list[str]]:
        """On which numbers each output depends, told by trial."""
        arrays = [np.array([0.5 + i]) for i in range(2 + self.kept)]
        outputs = self._outputs(arrays, {})
        others = {name: self._outputs(arrays, {name: OTHER.get(name, 0.25)}) for name in self.numbers}
        return [[name for name, other in others.items() if other[i] != y] for i, y in enumerate(outputs)]

    def _outputs(self, arrays: Sequence[Any], known: dict[str, Any]) -> tuple[Any, ...]:
        """Of a step with the numbers that are known, and any others; none where it refuses them."""
        numbers = [known.get(name, ANY.get(name, 0.5)) for name in self.numbers]
        try:
            new = self.compute(*arrays, *numbers)
        except (TypeError, ValueError):
            return ()
        return new if self.kept else (new,)

    def _binding(self, rows: list[tuple[Path, ...]], numbers: tuple[Any, ...]) -> Binding:
        arrays = [path for row in rows for path in row]
        paths = [each.path if isinstance(each, Count) else each for each in numbers if not isinstance(each, Constant)]
        width = 2 + self.kept

        def step(in_place: bool) -> Callable[..., Any]:
            def stepped(*given: Any) -> Any:
                columns = [list(given[k : len(arrays) : width]) for k in range(width)]
                if in_place and not all(can_step_in_place(a, b) for a, b in combinations(columns, 2)):
                    raise ValueError("nothing may have changed when one of them cannot")
                rest = iter(given[len(arrays) :])
                values = [_value(each, rest) for each in numbers]
                made: list[Any] = []
                if any(each.shape != row[0].shape for row in zip(*columns, strict=True) for each in row):
                    raise ValueError("nothing may have changed when one of them does not fit")
                for row in zip(*columns, strict=True):
                    out = (row[:-1] if self.kept else row[0]) if in_place else None
                    new = self.compute(*row, *values, out=out)
                    made += new if self.kept else [new]
                return tuple(made)

            return stepped

        targets = tuple([i for i in range(len(arrays)) if i % width != width - 1])
        positive = frozenset([row[-2] for row in rows] if self.has_root else [])
        return Binding(step(False), (*arrays, *paths), step(True), targets, positive=positive)


def _value(each: Any, rest: Iterator[Any]) -> Any:
    if isinstance(each, Constant):
        return each.value
    return next(rest) + each.more if isinstance(each, Count) else next(rest)


def _few(a: Any) -> Any:
    return np.array(a.flat[:FEW])


def _near(a: Any, b: Any) -> bool:
    """Not told from each other by their largest numbers."""
    return bool(np.all(np.abs(a - b) <= 256 * np.finfo(a.dtype).eps * np.max(np.abs(a), initial=0)))


def _bundles(leaves: Leaves) -> dict[Path, dict[Any, Path]]:
    """Containers of arrays, and arrays by themselves: the paths in them by key."""
    found: dict[Path, dict[Any, Path]] = {}
    for path, leaf in leaves.items():
        if floats(leaf):
            if len(path) > 1 and not isinstance(path[-1], str):
                found.setdefault(path[:-1], {})[path[-1][0]] = path
            else:
                found[path] = {None: path}
    for path, leaf in leaves.items():  # arrays beside numbers in a dict, as in configurations
        if floats(leaf) and len(path) > 1 and any(not floats(leaves[p]) for p in leaves if p[:-1] == path[:-1]):
            found.pop(path[:-1], None)
            found[path] = {None: path}
    return found


def _beside(bundles: list[dict[Any, Path]], leaves: Leaves) -> list[tuple[Path, ...]]:
    """The rows (p, *kept, dp), if all have what the first has, under its keys or those of its gradient."""
    rows = []
    for key, path in bundles[0].items():
        row = [path]
        for other in bundles[1:]:
            name = key if key in other else f"d{key}"
            if name not in other or leaves[other[name]].shape != leaves[path].shape:
                return []
            row.append(other[name])
        rows.append(tuple(row))
    return rows
