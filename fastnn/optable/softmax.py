"""Softmax over the last axis."""

from __future__ import annotations

import numpy as np

from fastnn.arguments import Array
from fastnn.optable.kinds import by_rows
from fastnn.optable.samples import each, numbers, probabilities
from fastnn.optable.sizes import or_infinite, sizes


def _sizes(dout: np.typing.ArrayLike, y: np.typing.ArrayLike, *, out: object = None) -> tuple[Array]:
    d, p = sizes(dout, y)
    inner = d + np.sum(d * p, axis=-1, keepdims=True)
    return (or_infinite(p * inner, inner, dout, y),)


OPS = (
    by_rows(name="softmax", example=each(numbers), out={0: ["x"]}, ulp=4),
    by_rows(name="softmax_backward", example=each(numbers, probabilities), out={0: ["dout", "y"]}, ulp=4, floor=_sizes),
)
