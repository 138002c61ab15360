"""Steps of optimizers: over dicts, lists or single arrays, their state in attributes or in a dict of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

from fastnn import ops, optimizers
from fastnn.trials.base import Binding, Constant, Leaves, Path, Rule, constant, floats

WORDS = "sgd", "momentum", "nesterov", "nag", "adagrad", "rmsprop", "adam", "update", "optim", "step", "descent"


def rules() -> Iterator[Rule]:
    for name in optimizers.__all__:
        optimizer = getattr(optimizers, name)
        op = getattr(ops, optimizer.op)
        yield StepRule(optimizer.op, WORDS, (), op, summed=True, kept=len(optimizer.kept), numbers=optimizer.numbers)


@dataclass(frozen=True)
class StepRule(Rule):
    """
    A step of every parameter.

    Attributes
    ----------
    kept : int
        How many arrays stand beside each parameter.
    numbers : tuple of str
        The constants of the op.
    """

    kept: int = 0
    numbers: tuple[str, ...] = ()

    def bindings(self, leaves: Leaves, constants: list[float]) -> Iterator[Binding]:
        bundles = _bundles(leaves)
        values: list[Any] = [path for path, leaf in leaves.items() if constant(leaf)]
        values += [Constant(value) for value in constants]
        counters: list[Any] = (
            [path for path, leaf in leaves.items() if type(leaf) is int] if self.ours == "adam" else [None]
        )
        orders = sorted(permutations(bundles, 2 + self.kept), key=_unusual)
        for numbers in permutations(_in_order(values, self.numbers), len(self.numbers)):
            for counter, chosen in product(counters, orders):
                rows = _beside([bundles[name] for name in chosen], leaves)
                if rows:
                    yield self._binding(rows, numbers, counter)

    def _binding(self, rows: list[tuple[Path, ...]], numbers: tuple[Any, ...], counter: Path | None) -> Binding:
        arrays = [path for row in rows for path in row]
        paths = [*arrays, *(each for each in numbers if not isinstance(each, Constant))]
        paths += [counter] if counter else []
        width = 2 + self.kept

        def step(in_place: bool) -> Callable[..., Any]:
            def stepped(*given: Any) -> Any:
                rest = iter(given[len(arrays) :])
                values = [each.value if isinstance(each, Constant) else next(rest) for each in numbers]
                values += [next(rest) + 1] if counter else []
                made: list[Any] = []
                rows = [given[i : i + width] for i in range(0, len(arrays), width)]
                if any(each.shape != row[0].shape for row in rows for each in row):
                    raise ValueError  # before the first is written into
                for row in rows:
                    out = (row[:-1] if self.kept else row[0]) if in_place else None
                    new = self.compute(*row, *values, out=out)
                    made += new if self.kept else [new]
                return tuple(made)

            return stepped

        targets = tuple([i for i in range(len(arrays)) if i % width != width - 1])
        return Binding(step(False), tuple(paths), step(True), targets)


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


def _unusual(chosen: tuple[Path, ...]) -> int:
    """How unlike a call ``update(params, grads)`` of an object that keeps the rest, or ``step(p, dp, state)``."""
    p, *kept, dp = chosen
    return sum([str(p) > str(dp), len(p) > len(dp), *(len(each) == 1 for each in kept)])


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


def _in_order(values: list[Any], numbers: tuple[str, ...]) -> list[Any]:
    """Those with the names of the numbers first, in their order."""

    def place(value: Any) -> int:
        step = value[-1] if isinstance(value, tuple) else ""
        name = step[0] if isinstance(step, tuple) else step
        return numbers.index(name) if name in numbers else len(numbers)

    return sorted(values, key=place)
