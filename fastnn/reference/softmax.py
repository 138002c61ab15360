"""Softmax over the last axis."""

from __future__ import annotations

import numpy as np

from fastnn import arguments
from fastnn.arguments import Array
from fastnn.reference.numbers import as_numbers, floating, minus_max, result, rounded_sum, wide, wide_sum


def softmax(x: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Softmax over the last axis.

    ``y_i = exp(x_i - max(x)) / sum_j exp(x_j - max(x))``

    Parameters
    ----------
    x : array_like of real numbers, shape (..., C)
        One dimension is one row.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    y : ndarray, shape of `x`, floating dtype
        Each row sums to 1.  A row with NaN or +inf, or of -inf only, is NaN.

    Raises
    ------
    TypeError
        `x` is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `x` has no dimension; `out` cannot take the result, or overlaps `x` in part.

    See Also
    --------
    softmax_backward, softmax_cross_entropy

    References
    ----------
    "Deep Learning from Scratch", section 3.5.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.softmax([[0.3, 2.9, 4.0], [1.0, 1.0, 1.0]]).round(3)
    array([[0.018, 0.245, 0.737],
           [0.333, 0.333, 0.333]])
    """
    x = arguments.numeric("x", x, least_ndim=1)
    with np.errstate(all="ignore"):
        e = np.exp(wide(minus_max(x)))
        y = (e / wide_sum(e, axis=-1, keepdims=True)).astype(floating(x).dtype)
    return result(y, out, x)


def softmax_backward(dout: np.typing.ArrayLike, y: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `softmax`, from its output.

    ``dx_i = y_i (dout_i - sum_j dout_j y_j)``

    Parameters
    ----------
    dout : array_like of real numbers, shape (..., C)
        Gradient of the loss with respect to y.
    y : array_like, shape of `dout`
        What `softmax` returned.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `dout` or `y`
        itself.

    Returns
    -------
    dx : ndarray, shape of `dout`, promoted dtype of both
        Each row sums to 0 where the row of `y` sums to 1.

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `dout` has no dimension; the shapes differ; `out` cannot take the result, or overlaps an argument in part.

    See Also
    --------
    softmax

    References
    ----------
    "Deep Learning from Scratch 2", section 8.1, where the weights of attention need it.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.softmax_backward([1.0, 0.0, 0.0], [0.5, 0.25, 0.25])
    array([ 0.25 , -0.125, -0.125])
    """
    dout, y = arguments.numeric("dout", dout, least_ndim=1), arguments.numeric("y", y)
    arguments.same_shape("dout", dout, "y", y)
    with np.errstate(all="ignore"):
        products = dout * y
        dx = y * (as_numbers(dout) - rounded_sum(products, axis=-1, keepdims=True))
    return result(dx, out, dout, y)
