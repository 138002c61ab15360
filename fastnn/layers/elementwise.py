"""Layers that take each number by itself."""

from __future__ import annotations

import numpy as np

from fastnn import ops
from fastnn.arguments import Array
from fastnn.layers.base import NO_FORWARD, Layer


class Relu(Layer):
    """
    Rectified linear unit.

    Attributes
    ----------
    mask : ndarray of bool or None
        ``x <= 0`` of the last forward.

    See Also
    --------
    fastnn.ops.relu, fastnn.ops.relu_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Relu
    >>> relu = Relu()
    >>> relu.forward(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    >>> relu.backward(np.array([5.0, 6.0, 7.0]))
    array([0., 0., 7.])
    """

    op, kept, elementwise = "relu_with_mask", ("mask",), True

    def forward(self, x: np.typing.ArrayLike, train_flg: bool = True) -> Array:
        """``y = 0 where x <= 0, else x``."""
        if not (train_flg and self.training):
            return ops.relu(x)
        y, self.mask = ops.relu_with_mask(x)
        return y

    def backward(self, dout: np.typing.ArrayLike) -> Array:
        """``dx = 0 where mask, else dout``, in a new array."""
        if self.mask is None:
            raise RuntimeError(NO_FORWARD)
        return ops.relu_backward(dout, self.mask)


class Sigmoid(Layer):
    """
    Logistic function.

    Attributes
    ----------
    out : ndarray or None
        The last output: the very array that the caller got, so writing into it changes what `backward` gives.

    See Also
    --------
    fastnn.ops.sigmoid, fastnn.ops.sigmoid_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Sigmoid
    >>> sigmoid = Sigmoid()
    >>> sigmoid.forward(np.array([0.0]))
    array([0.5])
    >>> sigmoid.backward(np.array([1.0]))
    array([0.25])
    """

    op, kept, elementwise = "sigmoid", ("out",), True

    def forward(self, x: np.typing.ArrayLike, train_flg: bool = True) -> Array:
        """``y = 1 / (1 + exp(-x))``."""
        y = ops.sigmoid(x)
        if train_flg and self.training:
            self.out = y
        return y

    def backward(self, dout: np.typing.ArrayLike) -> Array:
        """``dx = dout (1 - y) y``."""
        if self.out is None:
            raise RuntimeError(NO_FORWARD)
        return ops.sigmoid_backward(dout, self.out)


class Tanh(Layer):
    """
    Hyperbolic tangent.

    Attributes
    ----------
    out : ndarray or None
        The last output: the very array that the caller got, so writing into it changes what `backward` gives.

    See Also
    --------
    fastnn.ops.tanh, fastnn.ops.tanh_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Tanh
    >>> tanh = Tanh()
    >>> tanh.forward(np.array([0.0, 1.0])).round(3)
    array([0.   , 0.762])
    >>> tanh.backward(np.array([1.0, 1.0])).round(3)
    array([1.  , 0.42])
    """

    op, kept, elementwise = "tanh", ("out",), True

    def forward(self, x: np.typing.ArrayLike, train_flg: bool = True) -> Array:
        """``y = tanh(x)``."""
        y = ops.tanh(x)
        if train_flg and self.training:
            self.out = y
        return y

    def backward(self, dout: np.typing.ArrayLike) -> Array:
        """``dx = dout (1 - y^2)``."""
        if self.out is None:
            raise RuntimeError(NO_FORWARD)
        return ops.tanh_backward(dout, self.out)
