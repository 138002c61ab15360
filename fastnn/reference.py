"""What is true: every op in plain NumPy, and the one place that documents it.

Every backend has these functions, with the same names and signatures, and agrees with them to the figures in
`fastnn.optable`.  Symbols: N rows (the batch), D features in, M features out, C classes.

Being what the kernels are held against, it takes the exponentials and logarithms of float32 in float64 and its sums in
the widest dtype there is, and rounds once: NumPy's own float32 exp and log are up to 4 ULP off, and the error of its
sums grows with their length.

Arrays of any layout and of any real dtype are accepted, results are C-contiguous, dtypes follow NumPy's promotion,
arguments are left unchanged.  `out` is an array of the result's shape and dtype, C-contiguous and writeable, which is
filled and returned; it may be an input itself but may not overlap one in part.  A zero-dimensional result is a NumPy
scalar.  Where terms near the largest float are summed, also for a mean, a partial sum may overflow, as in `numpy.sum`;
which one does depends on the backend.  ValueError for wrong shapes, TypeError for wrong dtypes, IndexError for labels
that are no class.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import arguments
from fastnn.arguments import Array

# Told the name of each op that a compiled backend hands over to this module, for the profiler.
handed_over: ContextVar[Callable[[str], None] | None] = ContextVar("handed_over", default=None)


def relu(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Rectified linear unit, element by element.

    ``y = 0 where x <= 0, else x``

    Parameters
    ----------
    x : array_like
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    y : ndarray, shape and dtype of `x`, booleans as integers
        NaN passes through; -0.0 gives 0.0.

    References
    ----------
    "Deep Learning from Scratch", section 5.5.1.
    """
    x = arguments.numeric("x", x)
    return _result(np.where(x <= 0, 0, x), out, x)


def relu_with_mask(x: npt.ArrayLike, *, out: Array | None = None) -> tuple[Array, Array]:
    """
    Rectified linear unit together with the mask that its gradient needs.

    ``y = 0 where x <= 0, else x``; ``mask = (x <= 0)``

    Parameters
    ----------
    x : array_like
    out : ndarray, optional
        For `y`.

    Returns
    -------
    y : ndarray, shape and dtype of `x`
    mask : ndarray of bool, shape of `x`
        False where `x` is NaN.

    See Also
    --------
    relu, relu_backward
    """
    x = arguments.numeric("x", x)
    mask = x <= 0
    return _result(np.where(mask, 0, x), out, x), _result(mask, None)


def relu_backward(dout: npt.ArrayLike, mask: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `relu`.

    ``dx = 0 where mask, else dout``: the gradient at 0 is 0.

    Parameters
    ----------
    dout : array_like
        Gradient of the loss with respect to y.
    mask : array_like of bool, shape of `dout`
        From `relu_with_mask`.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dx : ndarray, shape and dtype of `dout`
    """
    dout, mask = arguments.numeric("dout", dout), arguments.numeric("mask", mask)
    mask = arguments.boolean_mask(mask, dout)
    return _result(np.where(mask, 0, dout), out, dout, mask)


def sigmoid(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Logistic function, element by element.

    ``y = 1 / (1 + exp(-x))``, computed from ``exp(-|x|)`` so that nothing overflows.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    y : ndarray, shape of `x`, floating dtype
        0 at -inf, 1 at inf, NaN at NaN.

    References
    ----------
    "Deep Learning from Scratch", section 5.5.2.
    """
    x = arguments.numeric("x", x)
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(_wide(_floating(x))))
        y = (np.maximum(e, x >= 0) / (1 + e)).astype(_floating(x).dtype)
    return _result(y, out, x)


def sigmoid_backward(dout: npt.ArrayLike, y: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `sigmoid`, from its output alone.

    ``dx = dout (1 - y) y``

    Parameters
    ----------
    dout : array_like
        Gradient of the loss with respect to y.
    y : array_like, shape of `dout`
        What `sigmoid` returned.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dx : ndarray, shape of `dout`
    """
    dout, y = arguments.numeric("dout", dout), arguments.numeric("y", y)
    arguments.same_shape("dout", dout, "y", y)
    with np.errstate(all="ignore"):
        dx = dout * (1 - _numbers(y)) * y
    return _result(dx, out, dout, y)


def softmax(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Softmax over the last axis.

    ``y_i = exp(x_i - max(x)) / sum_j exp(x_j - max(x))``

    Parameters
    ----------
    x : array_like, shape (..., C)
        One dimension is one row.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    y : ndarray, shape of `x`, floating dtype
        Each row sums to 1.  A row with NaN or +inf, or of -inf only, is NaN.

    References
    ----------
    "Deep Learning from Scratch", section 3.5.
    """
    x = arguments.numeric("x", x, least_ndim=1)
    with np.errstate(all="ignore"):
        e = np.exp(_wide(_minus_max(x)))
        y = (e / _wide_sum(e, axis=-1, keepdims=True)).astype(_floating(x).dtype)
    return _result(y, out, x)


def softmax_backward(dout: npt.ArrayLike, y: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `softmax`, from its output.

    ``dx_i = y_i (dout_i - sum_j dout_j y_j)``

    Parameters
    ----------
    dout : array_like, shape (..., C)
        Gradient of the loss with respect to y.
    y : array_like, shape of `dout`
        What `softmax` returned.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dx : ndarray, shape of `dout`
    """
    dout, y = arguments.numeric("dout", dout, least_ndim=1), arguments.numeric("y", y)
    arguments.same_shape("dout", dout, "y", y)
    with np.errstate(all="ignore"):
        products = dout * y
        dx = y * (_numbers(dout) - _sum(products, axis=-1, keepdims=True))
    return _result(dx, out, dout, y)


def cross_entropy_error(y: npt.ArrayLike, t: npt.ArrayLike, *, eps: float = 1e-7) -> Any:
    """
    Cross-entropy of probabilities, averaged over the rows.

    ``L = -(1/N) sum_n log(y[n, t_n] + eps)`` for class indices,
    ``L = -(1/N) sum_n sum_i t[n, i] log(y[n, i] + eps)`` for one-hot or soft targets.

    Parameters
    ----------
    y : array_like, shape (..., C)
        Probabilities; one dimension is one row (N = 1), more than two are N = the product of all but the last.
    t : array_like
        Class indices of shape (...) or (..., 1) and any integer dtype, or targets of the shape of `y`.
    eps : float, optional
        Keeps the logarithm finite: with the default the loss of a row is at most 16.1 nats.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
        Classes whose target is 0 do not count, whatever their probability.

    Raises
    ------
    IndexError
        A class index is outside 0..C-1: the first such row is named.
    ValueError
        No rows, or `t` does not fit `y`.
    TypeError
        Class indices that are not integers.

    References
    ----------
    "Deep Learning from Scratch", section 4.2.
    """
    eps = arguments.epsilon(eps)
    y, t = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    y = _floating(y)
    t, soft = _targets("y", y, t)
    with np.errstate(all="ignore"):
        logs = np.log(_wide((y if soft else _at_labels(y, t)) + eps))
        terms = np.where(t == 0, 0, t * logs) if soft else logs
        return np.result_type(y, t if soft else y).type(0 - _wide_sum(terms) / _rows(y))


def cross_entropy_error_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, eps: float = 1e-7, out: Array | None = None
) -> Array:
    """
    Gradient of `cross_entropy_error` with respect to the probabilities.

    ``dy[n, t_n] = -dout / (N (y[n, t_n] + eps))``, 0 elsewhere, for class indices;
    ``dy = -t dout / (N (y + eps))`` for one-hot or soft targets.

    Parameters
    ----------
    y, t, eps
        As for `cross_entropy_error`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dy : ndarray, shape of `y`
    """
    eps, dout = arguments.epsilon(eps), arguments.upstream(dout)
    given = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    y = _floating(given[0])
    t, soft = _targets("y", y, given[1])
    with np.errstate(all="ignore"):
        if soft:
            dy = np.where(t == 0, 0, -t * dout / (_rows(y) * (y + eps)))
        else:
            at_labels = -dout / (_rows(y) * (_at_labels(y, t) + eps))
            dy = np.zeros(y.shape, at_labels.dtype)
            _put_at_labels(dy, t, at_labels)
    return _result(dy, out, *given)


def softmax_cross_entropy(
    x: npt.ArrayLike, t: npt.ArrayLike, *, eps: float = 1e-7, out: Array | None = None
) -> tuple[Any, Array]:
    """
    Cross-entropy of the softmax of logits, averaged over the rows.

    ``L = cross_entropy_error(softmax(x), t, eps=eps)``; with ``eps=0`` the loss is taken from the logits,
    ``L = (1/N) sum_n (log(sum_j exp(x[n, j])) - x[n, t_n])``, and does not saturate.

    Parameters
    ----------
    x : array_like, shape (..., C)
        Logits.
    t, eps
        As for `cross_entropy_error`.
    out : ndarray, optional
        For `y`.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
    y : ndarray, shape of `x`
        ``softmax(x)``.

    References
    ----------
    "Deep Learning from Scratch", section 5.6.3.
    """
    eps = arguments.epsilon(eps)
    x, labels_or_targets = arguments.numeric("x", x, least_ndim=1), arguments.numeric("t", t)
    t, soft = _targets("x", _floating(x), labels_or_targets)
    with np.errstate(all="ignore"):
        shifted = _minus_max(x)
        e = np.exp(_wide(shifted))
        total = _wide_sum(e, axis=-1, keepdims=True)
        y = (e / total).astype(shifted.dtype)
        logs = shifted - np.log(total) if eps == 0 else np.log(_wide(y + eps))
        terms = np.where(t == 0, 0, t * logs) if soft else _at_labels(logs, t)
        loss = np.result_type(y, t if soft else y).type(0 - _wide_sum(terms) / _rows(x))
    if out is not None:
        arguments.clear_of(arguments.output(out, y.shape, y.dtype, x), "t", labels_or_targets)
    return loss, _result(y, out, x)


def softmax_cross_entropy_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    """
    Gradient of `softmax_cross_entropy` with respect to the logits.

    ``dx = dout (y - t) / N``; class indices subtract 1 at the label.

    Parameters
    ----------
    y : array_like, shape (..., C)
        The probabilities that `softmax_cross_entropy` returned.
    t
        As for `cross_entropy_error`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dx : ndarray, shape of `y`
    """
    dout = arguments.upstream(dout)
    given = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    y = _floating(given[0])
    t, soft = _targets("y", y, given[1])
    with np.errstate(all="ignore"):
        if soft:
            difference = y - t
        else:
            difference = y.copy(order="C")
            _put_at_labels(difference, t, _at_labels(y, t) - 1)
        dx = difference * (dout / _rows(y))
    return _result(dx, out, *given)


def softmax_cross_entropy_and_grad(
    x: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, eps: float = 1e-7, out: Array | None = None
) -> tuple[Any, Array]:
    """
    `softmax_cross_entropy` and its gradient with respect to the logits, in one pass over the rows.

    ``L, y = softmax_cross_entropy(x, t, eps=eps)`` and ``dx = softmax_cross_entropy_backward(y, t, dout)``, for a
    training step that has no use for the probabilities.

    Parameters
    ----------
    x : array_like, shape (..., C)
        Logits.
    t, eps
        As for `cross_entropy_error`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        For `dx`.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
    dx : ndarray, shape of `x`
    """
    eps, dout = arguments.epsilon(eps), arguments.upstream(dout)
    x, t = arguments.numeric("x", x, least_ndim=1), arguments.numeric("t", t)
    loss, y = softmax_cross_entropy(x, t, eps=eps)
    dx = softmax_cross_entropy_backward(y, t, dout)
    if out is not None:
        arguments.clear_of(arguments.output(out, dx.shape, dx.dtype, x), "t", t)
    return loss, _result(dx, out, x)


def sigmoid_cross_entropy(
    x: npt.ArrayLike, t: npt.ArrayLike, *, eps: float = 1e-7, out: Array | None = None
) -> tuple[Any, Array]:
    """
    Binary cross-entropy of the sigmoid of logits.

    ``y = sigmoid(x)``, ``L = -(1/N) sum_n (t_n log(y_n + eps) + (1 - t_n) log(1 - y_n + eps))``

    Parameters
    ----------
    x : array_like
        Logits, N of them.
    t : array_like, shape of `x`
        Integers or booleans, 0 or 1: the classes; or floats from 0 to 1: the probability of class 1.  An axis of
        length 1 at the end of one of `x` and `t` may be missing in the other.
    eps : float, optional
        Keeps the logarithm finite; 0 takes the loss from the logits, which does not saturate.
    out : ndarray, optional
        For `y`.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
    y : ndarray, shape of `x`

    Raises
    ------
    IndexError
        A class is neither 0 nor 1.
    ValueError
        A probability is not from 0 to 1; shapes that do not go together; `x` is empty.

    References
    ----------
    "Deep Learning from Scratch 2", section 4.2.
    """
    eps = arguments.epsilon(eps)
    x, t = arguments.numeric("x", x, least_ndim=1), arguments.numeric("t", t)
    t = arguments.binary_targets("x", x, t)
    y = sigmoid(x)
    wide, z = _wide(t), _wide(x)
    with np.errstate(all="ignore"):
        if eps == 0:
            rest = np.log1p(np.exp(-np.abs(z)))
            of_1, of_0 = np.maximum(-z, 0) + rest, np.maximum(z, 0) + rest
        else:
            # 1 - y would have lost the digits of a small probability.
            of_1, of_0 = -np.log(_wide(y + eps)), -np.log(_wide(sigmoid(-_floating(x)) + eps))
        terms = np.where(wide == 0, 0, wide * of_1) + np.where(wide == 1, 0, (1 - wide) * of_0)
        loss = (_wide_sum(terms) / x.size).astype(np.result_type(y, t))
    if out is not None:
        arguments.clear_of(arguments.output(out, y.shape, y.dtype, x), "t", t)
    return loss[()], _result(y, out, x)


def sigmoid_cross_entropy_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    """
    Gradient of `sigmoid_cross_entropy` with respect to the logits.

    ``dx_n = dout (y_n - t_n) / N``, without the eps, as in the books.

    Parameters
    ----------
    y : array_like
        What `sigmoid_cross_entropy` gave.
    t : array_like
        As given to it.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dx : ndarray, shape of `y`

    References
    ----------
    "Deep Learning from Scratch 2", section 4.2.
    """
    dout = arguments.upstream(dout)
    y, t = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    return _mean_difference(y, arguments.binary_targets("y", y, t), dout, out)


def mean_squared_error(y: npt.ArrayLike, t: npt.ArrayLike) -> Any:
    """
    Half the mean squared error.

    ``L = (1/2) mean((y - t)^2)`` over all elements.

    Parameters
    ----------
    y : array_like
        What the network said.
    t : array_like, shape of `y`
        What it should have said.  An axis of length 1 at the end of one of the two may be missing in the other.

    Returns
    -------
    L : NumPy scalar of the computing dtype
        Integers are computed in float64.

    Raises
    ------
    ValueError
        Shapes that do not go together; `y` is empty.

    References
    ----------
    "Deep Learning from Scratch", section 4.2.1, divided by the number of elements.
    """
    y, t = arguments.numeric("y", y), arguments.numeric("t", t)
    t = arguments.values("y", y, t)
    with np.errstate(all="ignore"):
        difference = _difference(y, t)
        loss = 0.5 * _wide_sum(_wide(difference) ** 2) / y.size
        return loss.astype(difference.dtype)[()]


def mean_squared_error_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    """
    Gradient of `mean_squared_error` with respect to `y`.

    ``dy = dout (y - t) / size``

    Parameters
    ----------
    y, t : array_like
        As given to `mean_squared_error`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    dy : ndarray, shape of `y`
    """
    dout = arguments.upstream(dout)
    y, t = arguments.numeric("y", y), arguments.numeric("t", t)
    return _mean_difference(y, arguments.values("y", y, t), dout, out)


def _mean_difference(y: Array, t: Array, dout: Any, out: Array | None) -> Array:
    with np.errstate(all="ignore"):
        dy = _difference(y, t) * (dout / y.size)
    return _result(dy, out, y, t)


def _difference(y: Array, t: Array) -> Array:
    if not y.dtype.kind == t.dtype.kind == "f":  # a difference of integers can leave their range
        wide = np.result_type(y, t, np.float64)
        y, t = y.astype(wide), t.astype(wide)
    return np.asarray(y - t)


def bias_grad(dout: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of a bias: the sum over the batch.

    ``db_j = sum_n dout[n, j]``

    Parameters
    ----------
    dout : array_like, shape (..., M)
        Gradient of the loss with respect to ``x W + b``; all axes but the last are summed over.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    db : ndarray, shape (M,)
        Integers become 64 bits wide, as in `numpy.sum`; 0 for an empty batch.

    References
    ----------
    "Deep Learning from Scratch", section 5.6.2.
    """
    dout = arguments.numeric("dout", dout, least_ndim=1)
    with np.errstate(all="ignore"):
        # NumPy adds numbers that lie side by side in pairs, but rows one after the other.
        db = _sum(np.ascontiguousarray(dout.reshape(_rows(dout), dout.shape[-1]).T), axis=1)
    return _result(db, out, dout)


def add_bias(x: npt.ArrayLike, b: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Add a bias to every row.

    ``y[n, j] = x[n, j] + b_j``

    Parameters
    ----------
    x : array_like, shape (..., M)
    b : array_like, shape (M,) or (1, M)
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable.

    Returns
    -------
    y : ndarray, shape of `x`
    """
    x, b = arguments.numeric("x", x, least_ndim=1), arguments.numeric("b", b)
    with np.errstate(all="ignore"):
        y = x + arguments.bias(b, "x", x)
    return _result(y, out, x, b)


def affine(x: npt.ArrayLike, W: npt.ArrayLike, b: npt.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Affine map of every sample.

    ``y = x W + b``.  The product is NumPy's, by its BLAS, on every backend.

    Parameters
    ----------
    x : array_like
        (N, D), or (D,) for a single sample.  With more dimensions: all but the first are flattened if their product is
        D (volume 1), else the last axis must be D (volume 2).
    W : array_like, shape (D, M)
    b : array_like, shape (M,) or (1, M)
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may not overlap an input.

    Returns
    -------
    y : ndarray, shape (N, M), (M,) or (..., M)

    References
    ----------
    "Deep Learning from Scratch", section 5.6.
    """
    x, W, b = arguments.numeric("x", x), arguments.numeric("W", W), arguments.numeric("b", b)
    arguments.weights(W)
    rows, batch = arguments.samples(x, W)
    with np.errstate(all="ignore"):
        y = (np.dot(rows, W) + arguments.bias(b, "W", W)).reshape(*batch, W.shape[1])
    if out is not None:
        arguments.separate_output(out, y.shape, y.dtype, {"x": x, "W": W, "b": b})
    return _result(y, out)


def affine_backward(
    dout: npt.ArrayLike,
    x: npt.ArrayLike,
    W: npt.ArrayLike,
    *,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Array]:
    """
    Gradients of `affine`.

    ``dx = dout W^T``, ``dW = x^T dout``, ``db = bias_grad(dout)``.

    Parameters
    ----------
    dout : array_like, shape of `affine`'s result
        Gradient of the loss with respect to it.
    x, W : array_like
        As given to `affine`.
    out : tuple of ndarray or None, optional
        For `dx`, `dW` and `db`; each as for `affine`, and none may overlap another.

    Returns
    -------
    dx : ndarray, shape of `x`
    dW : ndarray, shape (D, M)
    db : ndarray, shape (M,)

    References
    ----------
    "Deep Learning from Scratch", section 5.6.2.
    """
    dout, x, W = arguments.numeric("dout", dout), arguments.numeric("x", x), arguments.numeric("W", W)
    arguments.weights(W)
    rows, batch = arguments.samples(x, W)
    d = arguments.samples_gradient(dout, batch, W)
    with np.errstate(all="ignore"):
        results = np.dot(d, W.T).reshape(x.shape), np.dot(rows.T, d), bias_grad(d)
    shapes, dtypes = zip(*((array.shape, array.dtype) for array in results), strict=True)
    given = arguments.separate_outputs(out, shapes, dtypes, {"dout": dout, "x": x, "W": W})
    dx, dW, db = (_result(result, array) for result, array in zip(results, given, strict=True))
    return dx, dW, db


def mlp_gradient(
    x: npt.ArrayLike,
    t: npt.ArrayLike,
    *params: npt.ArrayLike,
    activation: str = "relu",
    loss: str = "softmax",
    eps: float = 1e-7,
    out: tuple[Array | None, ...] | None = None,
) -> tuple[Any, ...]:
    """
    Loss of a multi-layer perceptron and its gradients with respect to the parameters, by backpropagation.

    ``h_0 = x``, ``h_i = activation(affine(h_(i-1), W_i, b_i))``, without the activation for the last, and the loss of
    that; then all of it backwards.

    Parameters
    ----------
    x : array_like
        Samples, as for `affine`.
    t : array_like
        As for the loss.
    *params : array_like
        ``W_1, b_1, W_2, b_2, ...``: W_i of shape (M_(i-1), M_i), b_i of shape (M_i,).
    activation : {"relu", "sigmoid"}, optional
    loss : {"softmax", "sigmoid", "identity"}, optional
        `softmax_cross_entropy`, `sigmoid_cross_entropy` or `mean_squared_error`.
    eps : float, optional
        Of the first two.
    out : tuple of ndarray or None, optional
        For the gradients; none may overlap another or an argument.

    Returns
    -------
    L : NumPy scalar of the computing dtype
    dW_1, db_1, dW_2, db_2, ... : ndarray, shapes of the parameters

    References
    ----------
    "Deep Learning from Scratch", section 5.7.
    """
    eps = arguments.epsilon(eps)
    activation = arguments.one_of("activation", activation, ("relu", "sigmoid"))
    loss = arguments.one_of("loss", loss, ("softmax", "sigmoid", "identity"))
    x, t = arguments.numeric("x", x), arguments.numeric("t", t)
    arrays = [arguments.numeric(f"params[{i}]", p) for i, p in enumerate(params)]
    pairs = arguments.pairs(arrays)
    y: Any = x
    inputs: list[Any] = []
    for W, b in pairs:
        h = y if not inputs else relu(y) if activation == "relu" else sigmoid(y)
        inputs.append(h)
        y = affine(h, W, b)
    if loss == "softmax":
        value, dout = softmax_cross_entropy_and_grad(y, t, eps=eps)
    elif loss == "sigmoid":
        value, p = sigmoid_cross_entropy(y, t, eps=eps)
        dout = sigmoid_cross_entropy_backward(p, t)
    else:
        value, dout = mean_squared_error(y, t), mean_squared_error_backward(y, t)
    grads: list[Array] = []
    for (W, _), h in zip(reversed(pairs), reversed(inputs), strict=True):
        dh, dW, db = affine_backward(dout, h, W)
        grads = [dW, db, *grads]
        if len(grads) < len(params):
            dout = relu_backward(dh, h <= 0) if activation == "relu" else sigmoid_backward(dh, h)
    shapes, dtypes = zip(*((g.shape, g.dtype) for g in grads), strict=True)
    read = {"x": x, "t": t} | {f"params[{i}]": p for i, p in enumerate(arrays)}
    given = arguments.separate_outputs(out, shapes, dtypes, read)
    return value, *(_result(g, array) for g, array in zip(grads, given, strict=True))


def sgd(p: npt.ArrayLike, dp: npt.ArrayLike, lr: float, *, out: Array | None = None) -> Array:
    """
    Step of stochastic gradient descent.

    ``p' = p - lr dp``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    dp : array_like, shape of `p`
        Its gradient.
    lr : float
        Learning rate.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; `p` itself for a step in
        place.

    Returns
    -------
    p' : ndarray, shape and dtype of `p`

    References
    ----------
    "Deep Learning from Scratch", section 6.1.2.
    """
    lr = arguments.number("lr", lr)
    (p,), dp = arguments.step({"p": p}, dp)
    with np.errstate(all="ignore"):
        updated = p - lr * dp
    return _step_results((updated,), (p,), dp, (out,))[0]


def momentum(
    p: npt.ArrayLike,
    v: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    momentum: float,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of gradient descent with momentum.

    ``v' = momentum v - lr dp``, ``p' = p + v'``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    v : array_like, shape and dtype of `p`
        Its velocity, 0 at first.
    dp : array_like, shape of `p`
        Its gradient.
    lr, momentum : float
        Learning rate; what is kept of the velocity.
    out : tuple of ndarray or None, optional
        For the results: ``(p, v)`` for a step in place.

    Returns
    -------
    p', v' : ndarray, shape and dtype of `p`

    References
    ----------
    "Deep Learning from Scratch", section 6.1.4.
    """
    lr, momentum = arguments.number("lr", lr), arguments.number("momentum", momentum)
    (p, v), dp = arguments.step({"p": p, "v": v}, dp)
    with np.errstate(all="ignore"):
        velocity = momentum * v - lr * dp
        updated = p + velocity.astype(p.dtype)
    return _step_results((updated, velocity), (p, v), dp, out)


def nesterov(
    p: npt.ArrayLike,
    v: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    momentum: float,
    form: int = 1,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of Nesterov's accelerated gradient, in the form that takes the gradient at `p`.

    ``v' = momentum v - lr dp``; ``p' = p + momentum^2 v - (1 + momentum) lr dp`` in volume 1, and with ``v'`` instead
    of ``v`` in volume 2.

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    v : array_like, shape and dtype of `p`
        Its velocity, 0 at first.
    dp : array_like, shape of `p`
        Its gradient.
    lr, momentum : float
        Learning rate; what is kept of the velocity.
    form : {1, 2}, optional
        Whose form.
    out : tuple of ndarray or None, optional
        For the results: ``(p, v)`` for a step in place.

    Returns
    -------
    p', v' : ndarray, shape and dtype of `p`

    References
    ----------
    Y. Bengio, N. Boulanger-Lewandowski, R. Pascanu, "Advances in Optimizing Recurrent Networks", 2012, equations 6, 7.
    """
    lr, momentum = arguments.number("lr", lr), arguments.number("momentum", momentum)
    form = arguments.whole_number("form", form, 1, 2)
    (p, v), dp = arguments.step({"p": p, "v": v}, dp)
    with np.errstate(all="ignore"):
        velocity = (momentum * v - lr * dp).astype(p.dtype)
        updated = p + momentum * momentum * (v if form == 1 else velocity)
        updated = updated - (1 + momentum) * lr * dp
    return _step_results((updated, velocity), (p, v), dp, out)


def adagrad(
    p: npt.ArrayLike,
    h: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of AdaGrad.

    ``h' = h + dp^2``, ``p' = p - lr dp / (sqrt(h') + 1e-7)``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    h : array_like, shape and dtype of `p`
        The sum of its squared gradients, 0 at first.
    dp : array_like, shape of `p`
        Its gradient.
    lr : float
        Learning rate.
    out : tuple of ndarray or None, optional
        For the results: ``(p, h)`` for a step in place.

    Returns
    -------
    p', h' : ndarray, shape and dtype of `p`

    References
    ----------
    "Deep Learning from Scratch", section 6.1.5.
    """
    lr = arguments.number("lr", lr)
    (p, h), dp = arguments.step({"p": p, "h": h}, dp)
    with np.errstate(all="ignore"):
        squares = (h + dp * dp).astype(p.dtype)
        updated = p - lr * dp / (np.sqrt(squares) + 1e-7)
    return _step_results((updated, squares), (p, h), dp, out)


def rmsprop(
    p: npt.ArrayLike,
    h: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    decay_rate: float,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of RMSprop.

    ``h' = decay_rate h + (1 - decay_rate) dp^2``, ``p' = p - lr dp / (sqrt(h') + 1e-7)``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    h : array_like, shape and dtype of `p`
        The running mean of its squared gradients, 0 at first.
    dp : array_like, shape of `p`
        Its gradient.
    lr, decay_rate : float
        Learning rate; what is kept of the mean.
    out : tuple of ndarray or None, optional
        For the results: ``(p, h)`` for a step in place.

    Returns
    -------
    p', h' : ndarray, shape and dtype of `p`

    References
    ----------
    T. Tieleman, G. Hinton, "Lecture 6.5 - RMSProp", Coursera: Neural Networks for Machine Learning, 2012.
    """
    lr, decay_rate = arguments.number("lr", lr), arguments.number("decay_rate", decay_rate)
    (p, h), dp = arguments.step({"p": p, "h": h}, dp)
    with np.errstate(all="ignore"):
        squares = (decay_rate * h + (1 - decay_rate) * dp * dp).astype(p.dtype)
        updated = p - lr * dp / (np.sqrt(squares) + 1e-7)
    return _step_results((updated, squares), (p, h), dp, out)


def adam(
    p: npt.ArrayLike,
    m: npt.ArrayLike,
    v: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    beta1: float,
    beta2: float,
    iter: int,
    *,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Array]:
    """
    Step of Adam.

    ``m' = m + (1 - beta1) (dp - m)``, ``v' = v + (1 - beta2) (dp^2 - v)``,
    ``p' = p - lr sqrt(1 - beta2^iter) / (1 - beta1^iter) m' / (sqrt(v') + 1e-7)``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    m, v : array_like, shape and dtype of `p`
        The running means of its gradients and their squares, 0 at first.
    dp : array_like, shape of `p`
        Its gradient.
    lr, beta1, beta2 : float
        Learning rate; what is kept of the means, from 0 to below 1.
    iter : int
        The number of this step, from 1.
    out : tuple of ndarray or None, optional
        For the results: ``(p, m, v)`` for a step in place.

    Returns
    -------
    p', m', v' : ndarray, shape and dtype of `p`

    References
    ----------
    D. P. Kingma, J. L. Ba, "Adam: A Method for Stochastic Optimization", 2015, in the form of its section 2; "Deep
    Learning from Scratch", section 6.1.6.
    """
    rate, beta1, beta2 = arguments.adam_rate(lr, beta1, beta2, iter)
    (p, m, v), dp = arguments.step({"p": p, "m": m, "v": v}, dp)
    with np.errstate(all="ignore"):
        mean = (m + (1 - beta1) * (dp - m)).astype(p.dtype)
        squares = (v + (1 - beta2) * (dp * dp - v)).astype(p.dtype)
        updated = p - rate * mean / (np.sqrt(squares) + 1e-7)
    return _step_results((updated, mean, squares), (p, m, v), dp, out)


def _step_results(results: tuple[Array, ...], state: tuple[Array, ...], dp: Array, out: Any) -> Any:
    given = arguments.step_outputs(out, state, dp)
    dtype = state[0].dtype.newbyteorder("=")
    return tuple(_result(np.asarray(result, dtype), array) for result, array in zip(results, given, strict=True))


def _result(result: Array, out: Array | None, *inputs: Array) -> Array:
    if out is None:
        return np.ascontiguousarray(result) if result.ndim else result[()]
    arguments.output(out, result.shape, result.dtype, *inputs)
    np.ndarray.view(out, np.ndarray)[...] = result  # not as a subclass has it
    return out


def _numbers(x: Array) -> Array:
    # NumPy does not subtract booleans: they count as 0 and 1.
    return x.astype(np.int8) if x.dtype == np.bool_ else x


def _floating(x: Array) -> Array:
    # The dtype in which NumPy takes the exponential of x; small integers would wrap around in a subtraction.
    return x.astype(np.result_type(x, np.float16), copy=False)


def _wide(x: Array) -> Array:
    return x.astype(np.result_type(x, np.float64), copy=False)


def _wide_sum(x: Array, axis: int | None = None, *, keepdims: bool = False) -> Any:
    return np.sum(x, axis=axis, keepdims=keepdims, dtype=np.longdouble if x.dtype.kind == "f" else None)


def _sum(x: Array, axis: int, *, keepdims: bool = False) -> Any:
    total = _wide_sum(x, axis, keepdims=keepdims)
    return total.astype(x.dtype.newbyteorder("=")) if x.dtype.kind == "f" else total


def _minus_max(x: Array) -> Array:
    x = _floating(x)
    return x - np.max(x, axis=-1, keepdims=True) if x.size else x


def _targets(name: str, y: Array, t: Array) -> tuple[Array, bool]:
    t, soft = arguments.targets(name, y, t)
    return (t.astype(np.result_type(y, t), copy=False) if soft else t.astype(np.intp, copy=False)), soft


def _rows(y: Array) -> int:
    return math.prod(y.shape[:-1])


def _at_labels(y: Array, labels: Array) -> Array:
    rows = y.reshape(-1, y.shape[-1])
    return rows[np.arange(len(rows)), labels.reshape(-1)]


def _put_at_labels(y: Array, labels: Array, values: Array) -> None:
    rows = y.reshape(-1, y.shape[-1])
    rows[np.arange(len(rows)), labels.reshape(-1)] = values
