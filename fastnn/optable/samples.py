"""Arguments to try an op with: each maker makes one of them, for the shape and dtype of the whole call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn.arguments import Array

Rng = np.random.Generator
Shape = tuple[int, ...]
Maker = Callable[[Rng, Shape, npt.DTypeLike], Any]
Example = Callable[[Rng, Shape, npt.DTypeLike], tuple[Any, ...]]


def each(*makers: Maker) -> Example:
    """A maker for each argument."""
    return lambda rng, shape, dtype: tuple(make(rng, shape, dtype) for make in makers)


def numbers(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    return np.asarray(rng.standard_normal(shape)).astype(dtype) * np.asarray(3, dtype)


def positive(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    return np.abs(numbers(rng, shape, dtype))


def fractions(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    """From 0 to 1."""
    return np.asarray(rng.random(shape)).astype(dtype)


def probabilities(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Of which each row sums to 1."""
    e = np.exp(rng.standard_normal(shape))
    return (e / e.sum(axis=-1, keepdims=True)).astype(dtype)


def mask(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    return np.asarray(rng.random(shape) < 0.5)


def labels(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Any:
    """A class for each row."""
    return rng.integers(0, shape[-1], shape[:-1])


def binary_labels(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Any:
    """0 or 1 for each element."""
    return rng.integers(0, 2, shape)


def bias(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    """A number for each column."""
    return numbers(rng, shape[-1:], dtype)


def constant(value: float) -> Maker:
    return lambda rng, shape, dtype: value
