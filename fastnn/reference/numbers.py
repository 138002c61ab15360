"""In which dtype the reference computes, and how a result is given back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastnn import arguments
from fastnn.arguments import Array


def as_numbers(x: Array) -> Array:
    """Booleans as 0 and 1, which NumPy does not subtract."""
    return x.astype(np.int8) if x.dtype == np.bool_ else x


def floating(x: Array) -> Array:
    """`x` in the dtype in which NumPy takes its exponential; small integers would wrap around in a subtraction."""
    return x.astype(np.result_type(x, np.float16), copy=False)


def together(*arrays: Array) -> tuple[Array, ...]:
    """Arrays in the dtype that NumPy gives them together, if that is of floats: the narrow ones are widened first."""
    dtype = np.result_type(*arrays)
    return tuple(a.astype(dtype, copy=False) for a in arrays) if dtype.kind == "f" else arrays


def wide(x: Array) -> Array:
    return x.astype(np.result_type(x, np.float64), copy=False)


def wide_sum(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims, dtype=np.longdouble if x.dtype.kind == "f" else None)


def rounded_sum(x: Array, axis: int, *, keepdims: bool = False) -> Any:
    """The sum in x's dtype; of integers as `numpy.sum` has it."""
    total = wide_sum(x, axis, keepdims=keepdims)
    return total.astype(x.dtype.newbyteorder("=")) if x.dtype.kind == "f" else total


def minus_max(x: Array) -> Array:
    """Each row less its largest number."""
    x = floating(x)
    return x - np.max(x, axis=-1, keepdims=True) if x.size else x


def count_rows(x: Array) -> int:
    return math.prod(x.shape[:-1])


def result(value: Array, out: Array | None, *inputs: Array) -> Array:
    """`value` in `out`, or as an array or scalar of its own."""
    if out is None:
        return np.ascontiguousarray(value) if value.ndim else value[()]
    arguments.output(out, value.shape, value.dtype, *inputs)
    np.ndarray.view(out, np.ndarray)[...] = value  # not as a subclass has it
    return out
