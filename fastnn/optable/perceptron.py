"""A whole multi-layer perceptron in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import reference
from fastnn.arguments import Array
from fastnn.optable.base import Op
from fastnn.optable.samples import Rng, Shape, numbers

HIDDEN, CLASSES = 7, 5


def _example(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> tuple[Any, ...]:
    D = shape[-1]
    return (
        numbers(rng, shape, dtype),
        rng.integers(0, CLASSES, shape[:-1]),
        (rng.standard_normal((D, HIDDEN)) / max(D, 1) ** 0.5).astype(dtype),
        numbers(rng, (HIDDEN,), dtype),
        rng.standard_normal((HIDDEN, CLASSES)).astype(dtype),
        numbers(rng, (CLASSES,), dtype),
    )


def _sizes(x: Array, t: Array, W1: Array, b1: Array, W2: Array, b2: Array) -> tuple[Any, ...]:
    """For the loss and each gradient the largest that the terms can be, the gradient of the logits being at most 1.

    All of them times the largest that the terms of a logit can be: it is the rounding of these that moves the gradient.
    """
    h = reference.affine(np.abs(x), np.abs(W1), np.abs(b1))
    logits = max(1.0, np.max(reference.affine(h, np.abs(W2), np.abs(b2)), initial=0))
    dh = np.max(np.sum(np.abs(W2), axis=1))
    sizes = 1.0, np.max(np.abs(x), initial=0) * dh, dh, np.max(np.abs(reference.affine(x, W1, b1)), initial=0), 1.0
    return tuple(logits * size for size in sizes)


OPS = (Op("mlp_gradient", _example, 2, _sizes, outs=4),)
