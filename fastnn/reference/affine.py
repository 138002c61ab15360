"""The affine map of a layer, its bias and its gradients."""

from __future__ import annotations

import numpy as np

from fastnn import arguments
from fastnn.arguments import Array
from fastnn.reference.numbers import count_rows, result, rounded_sum


def bias_grad(dout: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of a bias: the sum over the batch.

    ``db_j = sum_n dout[n, j]``

    Parameters
    ----------
    dout : array_like of real numbers, shape (..., M)
        Gradient of the loss with respect to ``x W + b``; all axes but the last are summed over.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `dout` itself if
        that is one row.

    Returns
    -------
    db : ndarray, shape (M,), dtype of `dout`
        Integers become 64 bits wide, as in `numpy.sum`; 0 for an empty batch.

    Raises
    ------
    TypeError
        `dout` is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `dout` has no dimension; `out` cannot take the result, or overlaps `dout` in part.

    See Also
    --------
    add_bias, affine_backward

    References
    ----------
    "Deep Learning from Scratch", section 5.6.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.bias_grad([[1.0, 2.0], [3.0, 4.0]])
    array([4., 6.])
    """
    dout = arguments.numeric("dout", dout, least_ndim=1)
    with np.errstate(all="ignore"):
        # NumPy adds numbers that lie side by side in pairs, but rows one after the other.
        db = rounded_sum(np.ascontiguousarray(dout.reshape(count_rows(dout), dout.shape[-1]).T), axis=1)
    return result(db, out, dout)


def add_bias(x: np.typing.ArrayLike, b: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Add a bias to every row.

    ``y[n, j] = x[n, j] + b_j``

    Parameters
    ----------
    x : array_like of real numbers, shape (..., M)
    b : array_like, shape (M,) or (1, M)
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    y : ndarray, shape of `x`, promoted dtype of both

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `x` has no dimension; `b` has not one number for each column; `out` cannot take the result, or overlaps an
        argument in part.

    See Also
    --------
    bias_grad, affine

    References
    ----------
    "Deep Learning from Scratch", section 5.6.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.add_bias([[1.0, 2.0], [3.0, 4.0]], [0.5, -1.0])
    array([[1.5, 1. ],
           [3.5, 3. ]])
    """
    x, b = arguments.numeric("x", x, least_ndim=1), arguments.numeric("b", b)
    with np.errstate(all="ignore"):
        y = x + arguments.bias(b, "x", x)
    return result(y, out, x, b)


def affine(
    x: np.typing.ArrayLike, W: np.typing.ArrayLike, b: np.typing.ArrayLike, *, out: Array | None = None
) -> Array:
    """
    Affine map of every sample.

    ``y = x W + b``.  The product is NumPy's, by its BLAS, on every backend.

    Parameters
    ----------
    x : array_like of real numbers
        (N, D), or (D,) for a single sample.  With more dimensions: all but the first are flattened if their product is
        D (volume 1), else the last axis must be D (volume 2).
    W : array_like, shape (D, M)
    b : array_like, shape (M,) or (1, M)
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may not overlap an input.

    Returns
    -------
    y : ndarray, shape (N, M), (M,) or (..., M), promoted dtype of all three
        For D = 0 every row is `b`.

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `W` has not two dimensions; the shapes do not go together; `out` cannot take the result, or overlaps an
        argument.

    See Also
    --------
    affine_backward, add_bias

    References
    ----------
    "Deep Learning from Scratch", section 5.6.

    Examples
    --------
    >>> from fastnn import ops
    >>> W = [[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]]
    >>> ops.affine([[1.0, 2.0], [3.0, 4.0]], W, [0.5, 0.5, 0.0])
    array([[ 1.5,  2.5,  8. ],
           [ 3.5,  4.5, 18. ]])
    """
    x, W, b = arguments.numeric("x", x), arguments.numeric("W", W), arguments.numeric("b", b)
    arguments.weights(W)
    rows, batch = arguments.samples(x, W)
    with np.errstate(all="ignore"):
        y = (np.dot(rows, W) + arguments.bias(b, "W", W)).reshape(*batch, W.shape[1])
    if out is not None:
        arguments.separate_output(out, y.shape, y.dtype, {"x": x, "W": W, "b": b})
    return result(y, out)


def affine_backward(
    dout: np.typing.ArrayLike,
    x: np.typing.ArrayLike,
    W: np.typing.ArrayLike,
    *,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Array]:
    """
    Gradients of `affine`.

    ``dx = dout W^T``, ``dW = x^T dout``, ``db = bias_grad(dout)``.  The products are NumPy's, by its BLAS, on every
    backend.

    Parameters
    ----------
    dout : array_like of real numbers, shape of `affine`'s result
        Gradient of the loss with respect to it.
    x, W : array_like
        As given to `affine`.
    out : tuple of ndarray or None, optional
        Receive `dx`, `dW` and `db`; each of their shape and dtype, C-contiguous, writeable; none may overlap an input
        or another.

    Returns
    -------
    dx : ndarray, shape of `x`, promoted dtype of `dout` and `W`
    dW : ndarray, shape (D, M), promoted dtype of `x` and `dout`
    db : ndarray, shape (M,), dtype of `dout`
        Integers become 64 bits wide.

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is not a tuple of three; an array in it has another dtype.
    ValueError
        `W` has not two dimensions; the shapes do not go together; an array of `out` cannot take its result, or
        overlaps an argument or another.

    See Also
    --------
    affine, bias_grad

    References
    ----------
    "Deep Learning from Scratch", section 5.6.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> W = [[1.0, 0.0, 2.0], [0.0, 1.0, 3.0]]
    >>> dx, dW, db = ops.affine_backward([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]], W)
    >>> dx
    array([[1., 0.],
           [2., 4.]])
    >>> dW
    array([[1., 3., 3.],
           [2., 4., 4.]])
    >>> db
    array([1., 1., 1.])
    """
    dout, x, W = arguments.numeric("dout", dout), arguments.numeric("x", x), arguments.numeric("W", W)
    arguments.weights(W)
    rows, batch = arguments.samples(x, W)
    d = arguments.samples_gradient(dout, batch, W)
    with np.errstate(all="ignore"):
        results = np.dot(d, W.T).reshape(x.shape), np.dot(rows.T, d), bias_grad(d)
    shapes, dtypes = zip(*((array.shape, array.dtype) for array in results), strict=True)
    given = arguments.separate_outputs(out, shapes, dtypes, {"dout": dout, "x": x, "W": W})
    dx, dW, db = (result(value, array) for value, array in zip(results, given, strict=True))
    return dx, dW, db
