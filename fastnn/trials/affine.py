"""Affine layers, in which the volumes differ where x has more than two dimensions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fastnn.layers import Affine
from fastnn.trials.base import D, M, N, Trial, numbers, of_layer, undisturbed

SHAPES = (N, D), (N, 2, 2), (N, 2, D), (N, 1, D)


def trials(ours: Any) -> list[Trial]:
    if not isinstance(ours, type) or not issubclass(ours, Affine):
        return []
    return [of_layer(ours, partial(_given, shape), f" of {shape}") for shape in SHAPES]


def keeps_axes(affine: Any) -> bool:
    """Whether an Affine class multiplies the last axis of x of shape (N, 1, D), instead of flattening (volume 2)."""
    try:
        with undisturbed():
            return bool(np.ndim(affine(np.ones((D, M)), np.zeros(M)).forward(np.ones((N, 1, D)))) == 3)
    except Exception:
        return False


def _given(shape: tuple[int, ...], rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    return {"x": numbers(rng, dtype, *shape), "W": numbers(rng, dtype, D, M), "b": numbers(rng, dtype, M)}
