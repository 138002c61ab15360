"""What a row of the op table is, and the unit in which results are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.optable.samples import Example


@dataclass(frozen=True)
class Op:
    """One op.

    Attributes
    ----------
    name : str
        The function's name in `fastnn.ops`, `fastnn.reference` and every backend.
    example : callable
        ``example(rng, shape, dtype)`` makes the positional arguments, with shape (..., C) for the first.
    ulp : float
        A backend's result differs from the reference by at most so many units in the last place.
    floor : callable, optional
        ``floor(*arguments)``, one value for each result: the unit is taken at this size where the result is smaller.
        For a sum it is the sum of the terms' absolute values, since the order of a sum is free; for the logarithm of a
        computed probability it is 1, since a relative error of the probability becomes an absolute one.
    outs : int, optional
        How many arrays `out` takes: one, or a tuple with one for each result.
    """

    name: str
    example: Example
    ulp: float
    floor: Callable[..., tuple[Any, ...]] | None = None
    outs: int = 1

    def distance(self, result: Any, expected: Any, args: tuple[Any, ...]) -> float:
        """How far the result of a backend is from the reference's, to be compared with `ulp`."""
        results = as_tuple(result)
        floors = as_tuple(self.floor(*args)) if self.floor else (0.0,) * len(results)
        return max(ulps(a, b, floor) for a, b, floor in zip(results, as_tuple(expected), floors, strict=True))


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def ulps(result: npt.ArrayLike, expected: npt.ArrayLike, floor: npt.ArrayLike = 0.0) -> float:
    """The largest distance, in spacings of the floats at max(|expected|, floor); equal specials are 0 apart."""
    result, expected = np.asarray(result), np.asarray(expected)
    if (result.dtype, result.shape) != (expected.dtype, expected.shape):
        raise ValueError(f"{result.dtype} {result.shape} instead of {expected.dtype} {expected.shape}")
    same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(expected), np.asarray(floor, expected.dtype))
        distance = np.abs(result.astype(np.float64) - expected.astype(np.float64)) / np.spacing(size)
    return float(np.max(np.where(same, 0.0, np.nan_to_num(distance, nan=np.inf))))
