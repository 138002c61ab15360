"""What a row of the op table is, and the unit in which results are compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fastnn import reference
from fastnn.optable.samples import Example, Rng, Shape


class Refused(NamedTuple):
    """A call that every backend refuses, with this error and a message that this pattern is found in."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    error: type[Exception]
    match: str


class Truth(NamedTuple):
    """What a function of single numbers is held against beyond the reference.

    Attributes
    ----------
    exact : callable
        ``exact(mp, x)`` is the function in mpmath.
    between : tuple of float
        Where its numbers change most.
    ulp, reference_ulp : float
        A compiled backend's result, and the reference's, differ from the exact one by at most so much.
    """

    exact: Callable[[Any, Any], Any]
    between: tuple[float, float]
    ulp: float = 2
    reference_ulp: float = 3


@dataclass(frozen=True, kw_only=True)
class Op:
    """One op.

    Attributes
    ----------
    name : str
        The function's name in `fastnn.ops`, `fastnn.reference` and every backend.
    example : callable
        ``example(rng, shape, dtype)`` makes the positional arguments for one of the shapes.
    shapes : sequence of tuple
        What the op is to be tried with, in its own terms; the first is for where one is enough.
    large : sequence of tuple
        So large that loops let go of the GIL and are shared among threads.
    bad_shapes : sequence of tuple
        What it refuses, though `example` makes arguments of them.
    refused : sequence of callable
        ``refused(op, arguments)`` yields calls that every backend refuses, made of arguments that it takes.
    out : mapping
        Of each result that `out` receives, its place among the results and the arguments that the array may be; it may
        not overlap any other.  Several are given as a tuple.
    ulp : float or tuple of float
        A backend's results differ from the reference by at most so many units in the last place.
    floor : callable, optional
        ``floor(*arguments)``, one value for each result: the unit is taken at this size where the result is smaller.
        For a sum it is the sum of the terms' absolute values, since the order of a sum is free; for the logarithm of a
        computed probability it is 1, since a relative error of the probability becomes an absolute one.  Where it is
        infinite, the order of a sum decides whether the result is.
    products : bool
        Some results are matrix products, which are BLAS's: it sums in another order where a matrix lies otherwise in
        memory, so that there they may differ by an ULP of their terms.
    truth : Truth, optional
        For functions of single numbers that are not exact in floats.
    """

    name: str
    example: Example
    shapes: tuple[Shape, ...]
    large: tuple[Shape, ...]
    refused: tuple[Callable[[Op, tuple[Any, ...]], Iterator[Refused]], ...]
    bad_shapes: tuple[Shape, ...] = ()
    out: Mapping[int, Collection[str]] = field(default_factory=dict)
    ulp: float | tuple[float, ...] = 0
    floor: Callable[..., tuple[Any, ...]] | None = None
    products: bool = False
    truth: Truth | None = None

    @property
    def reference(self) -> Callable[..., Any]:
        return getattr(reference, self.name)

    @property
    def family(self) -> str:
        """The name of its file on every floor."""
        return self.reference.__module__.rpartition(".")[2]

    @cached_property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.reference).parameters

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the arguments that `example` makes."""
        given = [p for p in self.parameters.values() if p.default is p.empty]
        named = [p.name for p in given if p.kind is not p.VAR_POSITIONAL]
        count = len(self.example(np.random.default_rng(0), self.shapes[0], np.float64))
        rest = [p.name for p in given if p.kind is p.VAR_POSITIONAL]
        return *named, *(f"{name}[{i}]" for name in rest for i in range(count - len(named)))

    @property
    def state(self) -> set[str]:
        """Arguments that are floats and keep their dtype, since it is steps of these that the op gives."""
        takes_steps = self.family in ("steps", "perceptron")
        return {name for names in self.out.values() for name in names} if takes_steps else set()

    @property
    def takes_any_numbers(self) -> bool:
        """Of one array, and no sum of its numbers that might overflow."""
        return len(self.names) == 1 and self.floor is None

    def received(self, result: Any) -> tuple[Any, ...]:
        """Those of the results that `out` receives."""
        return tuple(as_tuple(result)[place] for place in self.out)

    def as_out(self, arrays: Collection[Any]) -> Any:
        """What is given as `out` to have these arrays receive the results."""
        return tuple(arrays) if len(self.out) > 1 else next(iter(arrays))

    def wrong(self, rng: Rng, dtype: np.typing.DTypeLike) -> Iterator[Refused]:
        """Calls that every backend refuses, changing nothing."""
        args = self.example(rng, self.shapes[0], dtype)
        for refused in self.refused:
            yield from refused(self, args)

    def floors(self, *args: Any, **kwargs: Any) -> tuple[Any, ...] | None:
        """The `floor` of a call, for `apart`."""
        with np.errstate(all="ignore"):
            return self.floor(*args, **kwargs) if self.floor else None

    def apart(self, result: Any, expected: Any, floors: tuple[Any, ...] | None) -> tuple[float, ...]:
        """How far each result of a backend is from the reference's, to be compared with `ulp`."""
        results, wanted = as_tuple(result), as_tuple(expected)
        sizes = floors or (0.0,) * len(wanted)
        return tuple(ulps(a, b, size) for a, b, size in zip(results, wanted, sizes, strict=True))


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def ulps(result: np.typing.ArrayLike, expected: np.typing.ArrayLike, floor: np.typing.ArrayLike = 0.0) -> float:
    """The largest distance, in spacings of the floats at max(|expected|, floor); equal specials are 0 apart.

    Where the floor is beyond the floats there is none.
    """
    result, expected = np.asarray(result), np.asarray(expected)
    if (result.dtype, result.shape) != (expected.dtype, expected.shape):
        raise ValueError(f"{result.dtype} {result.shape} instead of {expected.dtype} {expected.shape}")
    same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        least = np.asarray(floor).astype(expected.dtype)
        size = np.maximum(np.abs(expected), least)
        distance = np.abs(result.astype(np.float64) - expected.astype(np.float64)) / np.spacing(size)
    return float(np.max(np.where(same | np.isinf(least), 0.0, np.nan_to_num(distance, nan=np.inf))))
