"""The fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import ops
from fastnn.arguments import Array
from fastnn.layers.base import NO_FORWARD, Layer, Shape


class Affine(Layer):
    """
    ``y = x W + b``.

    Parameters
    ----------
    W : ndarray, shape (D, M)
    b : ndarray, shape (M,)

    Attributes
    ----------
    params : list
        ``[W, b]``, the very objects given; `W` and `b` are names for its items and are read anew at every forward.
    grads : list of ndarray
        Buffers like `W` and `b`, made when first read, never replaced and overwritten by every backward.
    dW, db : ndarray or None
        The gradients of the last backward: fresh arrays, or copies of the buffers once `grads` has been read.
    x : array_like or None
        The last input.  Where it is of another dtype than `W`, backward takes the copy that forward has made of it.

    See Also
    --------
    fastnn.ops.affine, fastnn.ops.affine_backward

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import Affine
    >>> affine = Affine(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([0.0, 0.0, 1.0]))
    >>> affine.forward(np.array([[1.0, 1.0], [0.0, 2.0]]))
    array([[ 5.,  7., 10.],
           [ 8., 10., 13.]])
    >>> affine.backward(np.ones((2, 3)))
    array([[ 6., 15.],
           [ 6., 15.]])
    >>> affine.dW
    array([[1., 1., 1.],
           [3., 3., 3.]])
    >>> affine.db
    array([2., 2., 2.])
    """

    parameters, op, kept, rowwise = ("W", "b"), "affine", ("x", "_x", "_factor"), True
    # x, and what a product takes for it.  Older pickles lack them.
    _x: Any = None
    _factor: Any = None
    W: Any
    b: Any
    dW: Any
    db: Any

    def __init__(self, W: Array, b: Array) -> None:
        super().__init__(W, b)

    def forward(self, x: np.typing.ArrayLike, train_flg: bool = True) -> Array:
        """
        ``y = x W + b``.

        Parameters
        ----------
        x : array_like
            (N, D), or (D,) for a single sample.  With more dimensions: all but the first are flattened if their
            product is D (volume 1), else the last axis must be D (volume 2).

        Returns
        -------
        y : ndarray, shape (N, M), (M,) or (..., M)
        """
        W, b = self.params
        factor = ops.as_factor(x, W)  # once for forward and backward
        y = ops.affine(factor, W, b)
        if train_flg and self.training:
            self.x, self._x, self._factor = x, x, factor
        return y

    def backward(self, dout: np.typing.ArrayLike) -> Array:
        """
        ``dx = dout W^T``, ``dW = x^T dout``, ``db = sum over the batch of dout``.

        Parameters
        ----------
        dout : array_like, shape of forward's result

        Returns
        -------
        dx : ndarray, shape of forward's `x`
        """
        if self.x is None:
            raise RuntimeError(NO_FORWARD)
        x, factor = self.x, self._factor
        # Not where x was set anew, or a narrow dout is to make a narrow dW with a narrow x.
        if factor is not x and self._x is x and getattr(dout, "dtype", None) == getattr(factor, "dtype", None):
            x = factor
        dx, dW, db = ops.affine_backward(dout, x, self.params[0])
        self.set_gradients(dW, db)
        return dx

    def output_shape(self, shape: Shape) -> Shape:
        """(M,), as of flat samples."""
        return (np.shape(self.W)[1],)
