"""What a rule is: an op of fastnn's, what its operands look like, and under which names it is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

Path = tuple[Any, ...]  # an argument's number, then names of attributes and keys as tuples of one
Leaves = dict[Path, Any]


@dataclass(frozen=True)
class Constant:
    """An operand that no argument holds: a float of the body or of its module."""

    value: float


@dataclass(frozen=True)
class Call:
    """
    A call of theirs.

    Attributes
    ----------
    given, after : dict
        What its arguments hold before and after it, by path.
    made : list
        What its result holds.
    constants : list of float
        Those of its code.
    """

    given: Leaves
    after: Leaves
    made: list[Any]
    constants: list[float]

    def has_changed(self, path: Path) -> bool:
        return path not in self.after or not np.array_equal(self.given[path], self.after[path])

    def left(self, shape: tuple[int, ...]) -> Iterator[Any]:
        """The arrays of floats of a shape that it has made or changed."""
        for path, leaf in self.after.items():
            if floats(leaf) and leaf.shape == shape and (path not in self.given or self.has_changed(path)):
                yield leaf
        yield from [leaf for leaf in self.made if floats(leaf) and leaf.shape == shape]

    def value(self, each: Any) -> Any:
        """Of an operand: a path, a `Constant`, or what knows a path and how much more it is."""
        if isinstance(each, Constant):
            return each.value
        return self.given[each] if isinstance(each, tuple) else self.given[each.path] + each.more


@dataclass(frozen=True)
class Binding:
    """
    A rule with its operands found.

    Attributes
    ----------
    compute : callable
        Called with what is at the paths, it gives one output or a tuple of them.
    paths : tuple of path
    into : callable or None
        The same, but the outputs are written into operands.
    targets : tuple of int
        Into which, for each output.
    whole : bool, optional
        Whether `compute` itself changes what theirs changes, and gives what theirs gives.
    positive : frozenset of path, optional
        Where no number is negative; if it is not given, in attributes.
    """

    compute: Callable[..., Any]
    paths: tuple[Path, ...]
    into: Callable[..., Any] | None = None
    targets: tuple[int, ...] = ()
    whole: bool = False
    positive: frozenset[Path] | None = None


@dataclass(frozen=True)
class Rule:
    """
    What may stand for a function of somebody's.

    Attributes
    ----------
    ours : str
        What fastnn calls it.
    words : tuple of str
        A part of the name of a function or of its class that says to try it.
    operands : tuple of callable
        For each operand of `compute`, whether a leaf or a `Constant` can be it.
    compute : callable
        Called with the operands, it gives one output or a tuple of them, and changes nothing.
    into : callable, optional
        The same with the first operand changed in place.
    summed : float, optional
        What share of the numbers may be close relative to the largest alone: all of those that are sums, and where
        terms cancel a few.
    counts : bool, optional
        Whether how many there are is a part of the formula, so that theirs may have it as a number.
    bends : bool, optional
        Whether large numbers and those that are none are a matter of the formula.
    loops : bool, optional
        Whether theirs may have a loop without an iterator: whatever the numbers are, it ends.
    sizes : tuple of float, optional
        Up to which other sizes numbers are to be tried.
    domain : {"any", "positive", "kept", "unit"}, optional
        Where its numbers lie: anywhere; above 0 until it is known which are; from 0 to 1 in all arrays but the first
        that is given, since they are outputs of an activation; or from 0 to 1 in all arrays.
    """

    ours: str
    words: tuple[str, ...]
    operands: tuple[Callable[[Any], bool], ...]
    compute: Callable[..., Any]
    into: Callable[..., Any] | None = None
    summed: float = 0
    counts: bool = False
    bends: bool = False
    loops: bool = False
    sizes: tuple[float, ...] = ()
    domain: str = "any"

    def bindings(self, call: Call) -> Iterator[Binding]:
        """Every way to find the operands."""
        choices: list[list[Any]] = []
        for fits in self.operands:
            found: list[Any] = [path for path, leaf in call.given.items() if fits(leaf)]
            choices.append(found + [each for value in call.constants if fits(each := Constant(value))])
        for chosen in product(*choices):
            paths = [each for each in chosen if not isinstance(each, Constant)]
            if len(set(paths)) == len(paths):
                first = not isinstance(chosen[0], Constant)
                yield Binding(
                    _bound(self.compute, chosen),
                    tuple(paths),
                    _bound(self.into, chosen) if self.into and first else None,
                    (0,) if self.into else (),
                )


def _bound(compute: Callable[..., Any], chosen: tuple[Any, ...]) -> Callable[..., Any]:
    if not any(isinstance(each, Constant) for each in chosen):
        return compute

    def bound(*given: Any) -> Any:
        rest = iter(given)
        return compute(*[each.value if isinstance(each, Constant) else next(rest) for each in chosen])

    return bound


# ---------------------------------------------------------------- what a leaf can be


def floats(leaf: Any) -> bool:
    return type(leaf) is np.ndarray and leaf.dtype in (np.float32, np.float64) and leaf.dtype.isnative


def rows(leaf: Any) -> bool:
    return floats(leaf) and leaf.ndim >= 1


def matrix(leaf: Any) -> bool:
    return floats(leaf) and leaf.ndim == 2


def vector(leaf: Any) -> bool:
    return floats(leaf) and leaf.ndim == 1


def mask(leaf: Any) -> bool:
    return type(leaf) is np.ndarray and leaf.dtype == bool


def targets(leaf: Any) -> bool:
    return type(leaf) is np.ndarray and leaf.dtype.kind in "iuf" and leaf.ndim >= 1


def number(leaf: Any) -> bool:
    return isinstance(leaf, Constant | float | np.floating) or type(leaf) is int


def constant(leaf: Any) -> bool:
    return isinstance(leaf, Constant | float | np.floating)
