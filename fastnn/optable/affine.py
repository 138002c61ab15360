"""The affine map of a layer, its bias and its gradients."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastnn.arguments import Array
from fastnn.optable.base import Op
from fastnn.optable.samples import Rng, Shape, bias, each, numbers

M = 7


def weights(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    return numbers(rng, (shape[-1], M), dtype)


def _weights_bias(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    return numbers(rng, (M,), dtype)


def _dout(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> Array:
    return numbers(rng, (*shape[:-1], M), dtype)


def _column_sizes(dout: Array) -> Array:
    return np.asarray(np.sum(np.abs(dout), axis=tuple(range(dout.ndim - 1))))


OPS = (
    Op("bias_grad", each(numbers), 1, lambda dout: (_column_sizes(dout),)),
    Op("add_bias", each(numbers, bias), 0),
    Op("affine", each(numbers, weights, _weights_bias), 0),
    Op(
        "affine_backward",
        each(_dout, numbers, weights),
        1,
        lambda dout, x, W: (0.0, 0.0, _column_sizes(dout)),
        outs=3,
    ),
)
