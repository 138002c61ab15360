"""Softmax over the last axis."""

import numpy as np

from fastnn.arguments import Array
from fastnn.optable.base import Op
from fastnn.optable.samples import each, numbers, probabilities


def _sizes(dout: Array, y: Array) -> tuple[Array]:
    return (np.abs(y) * (np.abs(dout) + np.sum(np.abs(dout * y), axis=-1, keepdims=True)),)


OPS = (
    Op("softmax", each(numbers), 4),
    Op("softmax_backward", each(numbers, probabilities), 4, _sizes),
)
