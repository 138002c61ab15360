"""Softmax as a layer of its own."""

from __future__ import annotations

import numpy as np

from fastnn import ops
from fastnn.arguments import Array
from fastnn.layers.base import NO_FORWARD, Layer, Shape


class Softmax(Layer):
    """
    Softmax over the last axis.

    Attributes
    ----------
    out : ndarray or None
        The last output: the very array that the caller got, so writing into it changes what `backward` gives.

    See Also
    --------
    fastnn.ops.softmax, fastnn.ops.softmax_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Softmax
    >>> softmax = Softmax()
    >>> softmax.forward(np.array([[3.0, 3.0], [-1e3, 1e3]]))
    array([[0.5, 0.5],
           [0. , 1. ]])
    >>> softmax.backward(np.array([[1.0, 0.0], [1.0, 0.0]]))
    array([[ 0.25, -0.25],
           [ 0.  ,  0.  ]])
    """

    op, kept, rowwise = "softmax", ("out",), True

    def forward(self, x: np.typing.ArrayLike, train_flg: bool = True) -> Array:
        """``y_i = exp(x_i) / sum_j exp(x_j)`` in each row."""
        y = ops.softmax(x)
        if train_flg and self.training:
            self.out = y
        return y

    def backward(self, dout: np.typing.ArrayLike) -> Array:
        """``dx_i = y_i (dout_i - sum_j dout_j y_j)``."""
        if self.out is None:
            raise RuntimeError(NO_FORWARD)
        return ops.softmax_backward(dout, self.out)

    def output_shape(self, shape: Shape) -> Shape:
        """That of its input."""
        return shape
