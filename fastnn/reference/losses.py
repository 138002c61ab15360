"""Losses, each a mean over the batch, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import arguments
from fastnn.arguments import EPS, Array
from fastnn.reference.elementwise import sigmoid
from fastnn.reference.numbers import count_rows, floating, minus_max, result, together, wide, wide_sum
from fastnn.reference.softmax import softmax


def cross_entropy_error(y: np.typing.ArrayLike, t: np.typing.ArrayLike, *, eps: float = EPS) -> Any:
    """
    Cross-entropy of probabilities, averaged over the rows.

    ``L = -(1/N) sum_n log(y[n, t_n] + eps)`` for class indices,
    ``L = -(1/N) sum_n sum_i t[n, i] log(y[n, i] + eps)`` for one-hot or soft targets.

    Parameters
    ----------
    y : array_like of real numbers, shape (..., C)
        Probabilities; one dimension is one row (N = 1), more than two are N = the product of all but the last.
    t : array_like
        Class indices of shape (...) or (..., 1) and any integer dtype, or targets of the shape of `y`.
    eps : float, optional
        Keeps the logarithm finite: with the default, 1e-7, the loss of a row is at most 16.1 nats.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
        Classes whose target is 0 do not count, whatever their probability.

    Raises
    ------
    IndexError
        A class index is outside 0..C-1: the first such row is named.
    ValueError
        No rows or no classes; `t` does not fit `y`; `eps` is negative or not finite.
    TypeError
        An argument is not of real numbers; class indices that are not integers.

    See Also
    --------
    cross_entropy_error_backward, softmax_cross_entropy

    References
    ----------
    "Deep Learning from Scratch", section 4.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> y = [[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]]
    >>> print(ops.cross_entropy_error(y, [1, 0]).round(3))
    0.525
    >>> print(ops.cross_entropy_error(y, [[0, 1, 0], [1, 0, 0]]).round(3))
    0.525
    """
    eps = arguments.epsilon(eps)
    y, t = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    y, t, soft = _together("y", floating(y), t)
    with np.errstate(all="ignore"):
        logs = np.log(wide((y if soft else _at_labels(y, t)) + eps))
        terms = np.where(t == 0, 0, t * logs) if soft else logs
        return np.result_type(y, t if soft else y).type(0 - wide_sum(terms) / count_rows(y))


def cross_entropy_error_backward(
    y: np.typing.ArrayLike, t: np.typing.ArrayLike, dout: float = 1.0, *, eps: float = EPS, out: Array | None = None
) -> Array:
    """
    Gradient of `cross_entropy_error` with respect to the probabilities.

    ``dy[n, t_n] = -dout / (N (y[n, t_n] + eps))``, 0 elsewhere, for class indices;
    ``dy = -t dout / (N (y + eps))`` for one-hot or soft targets.

    Parameters
    ----------
    y : array_like of real numbers, shape (..., C)
        Probabilities; one dimension is one row (N = 1), more than two are N = the product of all but the last.
    t : array_like
        Class indices of shape (...) or (..., 1) and any integer dtype, or targets of the shape of `y`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    eps : float, optional
        As in the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `y` or `t` itself.

    Returns
    -------
    dy : ndarray, shape of `y`, promoted dtype of `y`, `dout` and targets
        0 where a target is 0, whatever the probability.

    Raises
    ------
    IndexError
        A class index is outside 0..C-1: the first such row is named.
    ValueError
        No rows or no classes; `t` does not fit `y`; `eps` is negative or not finite; `dout` is not one number; `out`
        cannot take the result, or overlaps an argument in part.
    TypeError
        An argument is not of real numbers; class indices that are not integers; `out` is no array or has another
        dtype.

    See Also
    --------
    cross_entropy_error

    References
    ----------
    "Deep Learning from Scratch", appendix A.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.cross_entropy_error_backward([[0.25, 0.75], [0.5, 0.5]], [1, 0], eps=0).round(3)
    array([[ 0.   , -0.667],
           [-1.   ,  0.   ]])
    """
    eps, dout = arguments.epsilon(eps), arguments.upstream(dout)
    given = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    y, t, soft = _together("y", floating(given[0]), given[1])
    with np.errstate(all="ignore"):
        if soft:
            dy = np.where(t == 0, 0, -t * dout / (count_rows(y) * (y + eps)))
        else:
            at_labels = -dout / (count_rows(y) * (_at_labels(y, t) + eps))
            dy = np.zeros(y.shape, at_labels.dtype)
            _put_at_labels(dy, t, at_labels)
    return result(dy, out, *given)


def softmax_cross_entropy(
    x: np.typing.ArrayLike, t: np.typing.ArrayLike, *, eps: float = EPS, out: Array | None = None
) -> tuple[Any, Array]:
    """
    Cross-entropy of the softmax of logits, averaged over the rows.

    ``L = cross_entropy_error(softmax(x), t, eps=eps)``; with ``eps=0`` the loss is taken from the logits,
    ``L = (1/N) sum_n (log(sum_j exp(x[n, j])) - x[n, t_n])``, and does not saturate.

    Parameters
    ----------
    x : array_like of real numbers, shape (..., C)
        Logits; one dimension is one row (N = 1), more than two are N = the product of all but the last.
    t : array_like
        Class indices of shape (...) or (..., 1) and any integer dtype, or targets of the shape of `x`.
    eps : float, optional
        Keeps the logarithm finite: with the default, 1e-7, the loss of a row is at most 16.1 nats.
    out : ndarray, optional
        Receives `y` and is returned for it; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
        Classes whose target is 0 do not count, whatever their probability.
    y : ndarray, shape of `x`, floating dtype
        ``softmax(x)``.

    Raises
    ------
    IndexError
        A class index is outside 0..C-1: the first such row is named.
    ValueError
        No rows or no classes; `t` does not fit `x`; `eps` is negative or not finite; `out` cannot take the result, or
        overlaps `x` in part or `t` at all.
    TypeError
        An argument is not of real numbers; class indices that are not integers; `out` is no array or has another
        dtype.

    See Also
    --------
    softmax_cross_entropy_backward, softmax_cross_entropy_and_grad

    References
    ----------
    "Deep Learning from Scratch", section 5.6.3.

    Examples
    --------
    >>> from fastnn import ops
    >>> loss, y = ops.softmax_cross_entropy([[0.3, 2.9, 4.0]], [2])
    >>> print(loss.round(3), y.round(3))
    0.306 [[0.018 0.245 0.737]]
    >>> print(ops.softmax_cross_entropy([[0.0, 1000.0]], [0], eps=0)[0])
    1000.0
    """
    eps = arguments.epsilon(eps)
    given = arguments.numeric("x", x, least_ndim=1), arguments.numeric("t", t)
    x, t, soft = _together("x", floating(given[0]), given[1])
    with np.errstate(all="ignore"):
        shifted = minus_max(x)
        e = np.exp(wide(shifted))
        total = wide_sum(e, axis=-1, keepdims=True)
        y = (e / total).astype(shifted.dtype)
        logs = shifted - np.log(total) if eps == 0 else np.log(wide(y + eps))
        terms = np.where(t == 0, 0, t * logs) if soft else _at_labels(logs, t)
        loss = y.dtype.type(0 - wide_sum(terms) / count_rows(x))
        if x.dtype != floating(given[0]).dtype:
            y = softmax(given[0])
    return loss, _result_beside_targets(y, out, *given)


def softmax_cross_entropy_backward(
    y: np.typing.ArrayLike, t: np.typing.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    """
    Gradient of `softmax_cross_entropy` with respect to the logits.

    ``dx = dout (s y - t) / N``, where s is the sum of a row of targets, so 1 for one-hot rows, probabilities and class
    indices, which subtract 1 at the label.

    Parameters
    ----------
    y : array_like of real numbers, shape (..., C)
        The probabilities that `softmax_cross_entropy` returned.
    t : array_like
        As given to it.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `y` or `t` itself.

    Returns
    -------
    dx : ndarray, shape of `y`, promoted dtype of `y`, `dout` and targets
        The gradient of the loss with ``eps=0``, whatever a row of targets sums to: one-hot rows times numbers weight
        the samples.  A sum within 64 roundings of 1 is 1.

    Raises
    ------
    IndexError
        A class index is outside 0..C-1: the first such row is named.
    ValueError
        No rows or no classes; `t` does not fit `y`; `dout` is not one number; `out` cannot take the result, or
        overlaps an argument in part.
    TypeError
        An argument is not of real numbers; class indices that are not integers; `out` is no array or has another
        dtype.

    See Also
    --------
    softmax_cross_entropy, softmax_cross_entropy_and_grad

    References
    ----------
    "Deep Learning from Scratch", section 5.6.3 and appendix A.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.softmax_cross_entropy_backward([[0.25, 0.75], [0.5, 0.5]], [1, 0])
    array([[ 0.125, -0.125],
           [-0.25 ,  0.25 ]])
    """
    dout = arguments.upstream(dout)
    given = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    y = floating(given[0])
    t, soft = _targets("y", y, given[1])
    with np.errstate(all="ignore"):
        if soft:
            difference = _row_sums(t) * y - t
        else:
            difference = y.copy(order="C")
            _put_at_labels(difference, t, _at_labels(y, t) - 1)
        dx = difference * (dout / count_rows(y))
    return result(dx, out, *given)


def softmax_cross_entropy_and_grad(
    x: np.typing.ArrayLike, t: np.typing.ArrayLike, dout: float = 1.0, *, eps: float = EPS, out: Array | None = None
) -> tuple[Any, Array]:
    """
    `softmax_cross_entropy` and its gradient with respect to the logits, in one pass over the rows.

    ``L, y = softmax_cross_entropy(x, t, eps=eps)`` and ``dx = softmax_cross_entropy_backward(y, t, dout)``, for a
    training step that has no use for the probabilities.

    Parameters
    ----------
    x : array_like of real numbers, shape (..., C)
        Logits; one dimension is one row (N = 1), more than two are N = the product of all but the last.
    t : array_like
        Class indices of shape (...) or (..., 1) and any integer dtype, or targets of the shape of `x`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    eps : float, optional
        Keeps the logarithm finite: with the default, 1e-7, the loss of a row is at most 16.1 nats.
    out : ndarray, optional
        Receives `dx` and is returned for it; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
        Classes whose target is 0 do not count, whatever their probability.
    dx : ndarray, shape of `x`, promoted dtype of `x`, `dout` and targets

    Raises
    ------
    IndexError
        A class index is outside 0..C-1: the first such row is named.
    ValueError
        No rows or no classes; `t` does not fit `x`; `eps` is negative or not finite; `dout` is not one number; `out`
        cannot take the result, or overlaps `x` in part or `t` at all.
    TypeError
        An argument is not of real numbers; class indices that are not integers; `out` is no array or has another
        dtype.

    See Also
    --------
    softmax_cross_entropy, softmax_cross_entropy_backward

    References
    ----------
    "Deep Learning from Scratch", section 5.6.3.

    Examples
    --------
    >>> from fastnn import ops
    >>> loss, dx = ops.softmax_cross_entropy_and_grad([[0.3, 2.9, 4.0]], [2])
    >>> print(loss.round(3), dx.round(3))
    0.306 [[ 0.018  0.245 -0.263]]
    """
    eps, dout = arguments.epsilon(eps), arguments.upstream(dout)
    given = arguments.numeric("x", x, least_ndim=1), arguments.numeric("t", t)
    x, t, _ = _together("x", floating(given[0]), given[1])
    loss, y = softmax_cross_entropy(x, t, eps=eps)
    return loss, _result_beside_targets(softmax_cross_entropy_backward(y, t, dout), out, *given)


def sigmoid_cross_entropy(
    x: np.typing.ArrayLike, t: np.typing.ArrayLike, *, eps: float = EPS, out: Array | None = None
) -> tuple[Any, Array]:
    """
    Binary cross-entropy of the sigmoid of logits.

    ``y = sigmoid(x)``, ``L = -(1/N) sum_n (t_n log(y_n + eps) + (1 - t_n) log(1 - y_n + eps))``

    Parameters
    ----------
    x : array_like of real numbers, of at least one dimension
        Logits, N of them.
    t : array_like, shape of `x`
        Integers or booleans, 0 or 1: the classes; or floats from 0 to 1: the probability of class 1.  An axis of
        length 1 at the end of one of `x` and `t` may be missing in the other.
    eps : float, optional
        Keeps the logarithm finite, 1e-7 if not given; 0 takes the loss from the logits, which does not saturate.
    out : ndarray, optional
        Receives `y` and is returned for it; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    L : NumPy scalar of the computing dtype, in nats
        A class whose probability is 0 does not count.
    y : ndarray, shape of `x`, floating dtype
        ``sigmoid(x)``.

    Raises
    ------
    IndexError
        A class is neither 0 nor 1: the first one is named.
    ValueError
        A probability is not from 0 to 1; shapes that do not go together; `x` is empty; `eps` is negative or not
        finite; `out` cannot take the result, or overlaps `x` in part or `t` at all.
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.

    See Also
    --------
    sigmoid_cross_entropy_backward

    References
    ----------
    "Deep Learning from Scratch 2", section 4.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> loss, y = ops.sigmoid_cross_entropy([2.0, -1.0], [1, 0])
    >>> print(loss.round(3), y.round(3))
    0.22 [0.881 0.269]
    """
    eps = arguments.epsilon(eps)
    x, t = arguments.numeric("x", x, least_ndim=1), arguments.numeric("t", t)
    t = arguments.binary_targets("x", x, t)
    y = sigmoid(x)
    z, p = together(floating(x), t)
    of_class_1, of_class_0 = sigmoid(z), sigmoid(-z)
    p, z = wide(p), wide(z)
    with np.errstate(all="ignore"):
        if eps == 0:
            rest = np.log1p(np.exp(-np.abs(z)))
            of_1, of_0 = np.maximum(-z, 0) + rest, np.maximum(z, 0) + rest
        else:
            # 1 - y would have lost the digits of a small probability.
            of_1, of_0 = -np.log(wide(of_class_1 + eps)), -np.log(wide(of_class_0 + eps))
        terms = np.where(p == 0, 0, p * of_1) + np.where(p == 1, 0, (1 - p) * of_0)
        loss = (wide_sum(terms) / x.size).astype(np.result_type(y, t))
    return loss[()], _result_beside_targets(y, out, x, t)


def sigmoid_cross_entropy_backward(
    y: np.typing.ArrayLike, t: np.typing.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    """
    Gradient of `sigmoid_cross_entropy` with respect to the logits.

    ``dx_n = dout (y_n - t_n) / N``, without the eps, as in the books.

    Parameters
    ----------
    y : array_like of real numbers, of at least one dimension
        What `sigmoid_cross_entropy` gave.
    t : array_like
        As given to it.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `y` or `t` itself.

    Returns
    -------
    dx : ndarray, shape of `y`, promoted dtype of `y`, `dout` and floating `t`

    Raises
    ------
    IndexError
        A class is neither 0 nor 1: the first one is named.
    ValueError
        A probability is not from 0 to 1; shapes that do not go together; `y` is empty; `dout` is not one number;
        `out` cannot take the result, or overlaps an argument in part.
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.

    See Also
    --------
    sigmoid_cross_entropy

    References
    ----------
    "Deep Learning from Scratch 2", section 4.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.sigmoid_cross_entropy_backward([0.75, 0.25], [1, 0])
    array([-0.125,  0.125])
    """
    dout = arguments.upstream(dout)
    y, t = arguments.numeric("y", y, least_ndim=1), arguments.numeric("t", t)
    return _mean_difference(y, arguments.binary_targets("y", y, t), dout, out)


def mean_squared_error(y: np.typing.ArrayLike, t: np.typing.ArrayLike) -> Any:
    """
    Half the mean squared error.

    ``L = (1/2) mean((y - t)^2)`` over all elements.

    Parameters
    ----------
    y : array_like of real numbers
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
    TypeError
        An argument is not of real numbers.

    See Also
    --------
    mean_squared_error_backward

    References
    ----------
    "Deep Learning from Scratch", section 4.2.1, divided by the number of elements.

    Examples
    --------
    >>> from fastnn import ops
    >>> print(ops.mean_squared_error([1.0, 2.0], [0.0, 4.0]))
    1.25
    """
    y, t = arguments.numeric("y", y), arguments.numeric("t", t)
    t = arguments.values("y", y, t)
    with np.errstate(all="ignore"):
        difference = _difference(y, t)
        loss = 0.5 * wide_sum(wide(difference) ** 2) / y.size
        return loss.astype(difference.dtype)[()]


def mean_squared_error_backward(
    y: np.typing.ArrayLike, t: np.typing.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    """
    Gradient of `mean_squared_error` with respect to `y`.

    ``dy = dout (y - t) / size``

    Parameters
    ----------
    y, t : array_like of real numbers
        As given to `mean_squared_error`.
    dout : float, optional
        Gradient of what follows with respect to the loss.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `y` or `t` itself.

    Returns
    -------
    dy : ndarray, shape of `y`, promoted dtype of `y`, `t` and `dout`
        Integers are computed in float64.

    Raises
    ------
    ValueError
        Shapes that do not go together; `y` is empty; `dout` is not one number; `out` cannot take the result, or
        overlaps an argument in part.
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.

    See Also
    --------
    mean_squared_error

    References
    ----------
    "Deep Learning from Scratch", section 4.2.1, whose derivative it is.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.mean_squared_error_backward([1.0, 2.0], [0.0, 4.0])
    array([ 0.5, -1. ])
    """
    dout = arguments.upstream(dout)
    y, t = arguments.numeric("y", y), arguments.numeric("t", t)
    return _mean_difference(y, arguments.values("y", y, t), dout, out)


def _targets(name: str, y: Array, t: Array) -> tuple[Array, bool]:
    t, soft = arguments.targets(name, y, t)
    return (t.astype(np.result_type(y, t), copy=False) if soft else t.astype(np.intp, copy=False)), soft


def _together(name: str, y: Array, t: Array) -> tuple[Array, Array, bool]:
    """`y`, widened first where targets are wider, and `_targets`."""
    t, soft = _targets(name, y, t)
    return y.astype(t.dtype, copy=False) if soft else y, t, soft


def _at_labels(y: Array, labels: Array) -> Array:
    rows = y.reshape(-1, y.shape[-1])
    return rows[np.arange(len(rows)), labels.reshape(-1)]


def _put_at_labels(y: Array, labels: Array, values: Array) -> None:
    rows = y.reshape(-1, y.shape[-1])
    rows[np.arange(len(rows)), labels.reshape(-1)] = values


def _row_sums(t: Array) -> Array:
    """Of targets; 1 where a sum is that but for rounding."""
    sums = wide_sum(t, axis=-1, keepdims=True)
    rounding = 64 * np.finfo(np.result_type(t, np.float32)).eps
    return np.where(np.abs(sums - 1) <= rounding, 1, sums).astype(t.dtype)


def _result_beside_targets(y: Array, out: Array | None, x: Array, t: Array) -> Array:
    """`y` in `out`, which may be `x`, but not the targets: a kernel still reads them when it writes."""
    if out is not None:
        arguments.clear_of(arguments.output(out, y.shape, y.dtype, x), "t", t)
    return result(y, out, x)


def _mean_difference(y: Array, t: Array, dout: Any, out: Array | None) -> Array:
    """The gradient of both means over elements: what the sigmoid's slope takes away its cross-entropy brings back."""
    with np.errstate(all="ignore"):
        dy = _difference(y, t) * (dout / y.size)
    return result(dy, out, y, t)


def _difference(y: Array, t: Array) -> Array:
    if not y.dtype.kind == t.dtype.kind == "f":  # a difference of integers can leave their range
        as_floats = np.result_type(y, t, np.float64)
        y, t = y.astype(as_floats), t.astype(as_floats)
    return np.asarray(y - t)
