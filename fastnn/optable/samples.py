"""Shapes and arguments to try an op with: each maker makes one argument, for the shape and dtype of the whole call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.arguments import Array

Rng = np.random.Generator
Shape = tuple[int, ...]
Maker = Callable[[Rng, Shape, np.typing.DTypeLike], Any]
Example = Callable[[Rng, Shape, np.typing.DTypeLike], tuple[Any, ...]]

# Of rows (..., C): around the widths of vectors and the numbers of rows that loops take at a time.
LENGTHS = (1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000)
ROWS = tuple((n, length) for n in (1, 5, 300) for length in LENGTHS)
SHAPES: tuple[Shape, ...] = ((5, 33), *((length,) for length in LENGTHS), *ROWS, (4, 3, 5), (2, 1, 3, 4), (2, 8, 8))
NO_COLUMNS: tuple[Shape, ...] = ((0,), (1, 0), (5, 0), (300, 0))
NO_ROWS: tuple[Shape, ...] = ((0, 4), (0, 0), (2, 0, 3))
# The first few are beyond a loop that holds the GIL, the others are so long that threads help even to copy float32.
LARGE: tuple[Shape, ...] = (
    *((4099, 64), (3, 20000), (20000, 3), (5000, 40)),
    *((600011,), (60013, 10), (11003, 50), (131, 4099), (11, 50257)),
)


def each(*makers: Maker) -> Example:
    """A maker for each argument."""
    return lambda rng, shape, dtype: tuple(make(rng, shape, dtype) for make in makers)


def columns(shape: Shape) -> int:
    return (1, *shape)[-1]


def numbers(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    return np.asarray(rng.standard_normal(shape)).astype(dtype) * np.asarray(3, dtype)


def positive(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    return np.abs(numbers(rng, shape, dtype))


def fractions(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    """From 0 to 1."""
    return np.asarray(rng.random(shape)).astype(dtype)


def probabilities(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    """Of which each row sums to 1."""
    e = np.exp(rng.standard_normal(shape))
    return np.asarray(e / e.sum(axis=-1, keepdims=True)).astype(dtype)


def mask(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    return np.asarray(rng.random(shape) < 0.5)


def labels(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Any:
    """A class for each row."""
    return rng.integers(0, max(columns(shape), 1), shape[:-1])


def binary_labels(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Any:
    """0 or 1 for each element."""
    return rng.integers(0, 2, shape)


def bias(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    """A number for each column."""
    return numbers(rng, shape[-1:], dtype)


def constant(value: float) -> Maker:
    return lambda rng, shape, dtype: value
