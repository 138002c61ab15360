"""Steps of the optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import arguments
from fastnn.arguments import Array
from fastnn.reference.numbers import result, together

# Keeps a step from a division by 0, as the books have it.
STEP_EPS = 1e-7


def sgd(p: np.typing.ArrayLike, dp: np.typing.ArrayLike, lr: float, *, out: Array | None = None) -> Array:
    """
    Step of stochastic gradient descent.

    ``p' = p - lr dp``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    dp : array_like of real numbers, shape of `p`
        Its gradient.
    lr : float
        Learning rate.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; `p` itself for a step in
        place.

    Returns
    -------
    p' : ndarray, shape and dtype of `p`
        NaN where `p` or `dp` is.

    Raises
    ------
    TypeError
        `p` is not of floats, `dp` not of real numbers, `lr` no number; `out` is no array or has another dtype.
    ValueError
        The shapes differ; `lr` is not finite; `out` cannot take the result, or overlaps `dp`, or `p` in part.

    References
    ----------
    "Deep Learning from Scratch", section 6.1.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.sgd([1.0, 2.0], [4.0, -4.0], 0.25)
    array([0., 3.])
    """
    lr = arguments.number("lr", lr)

    def step(p: Array, dp: Array) -> tuple[Array, ...]:
        return (p - lr * dp,)

    return _stepped(step, {"p": p}, dp, (out,))[0]


def momentum(
    p: np.typing.ArrayLike,
    v: np.typing.ArrayLike,
    dp: np.typing.ArrayLike,
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
    dp : array_like of real numbers, shape of `p`
        Its gradient.
    lr, momentum : float
        Learning rate; what is kept of the velocity.
    out : tuple of ndarray or None, optional
        Receive the results; each of their shape and dtype, C-contiguous, writeable: ``(p, v)`` for a step in place.

    Returns
    -------
    p', v' : ndarray, shape and dtype of `p`
        NaN where an argument is; `v'` 0 where it would be subnormal, which takes processors long (not in float16).

    Raises
    ------
    TypeError
        `p` is not of floats, `v` not of its dtype, `dp` not of real numbers, a number none; `out` is not a tuple of
        two; an array in it has another dtype.
    ValueError
        The shapes differ; a number is not finite; an array of `out` cannot take its result, or overlaps anything but
        its own old place.

    References
    ----------
    "Deep Learning from Scratch", section 6.1.4.

    Examples
    --------
    >>> from fastnn import ops
    >>> p, v = ops.momentum([1.0, 2.0], [1.0, 1.0], [4.0, -4.0], 0.25, 0.5)
    >>> p
    array([0.5, 3.5])
    >>> v
    array([-0.5,  1.5])
    """
    lr, momentum = arguments.number("lr", lr), arguments.number("momentum", momentum)

    def step(p: Array, v: Array, dp: Array) -> tuple[Array, ...]:
        v = _kept(momentum * v - lr * dp, p.dtype)
        return p + v, v

    return _stepped(step, {"p": p, "v": v}, dp, out)


def nesterov(
    p: np.typing.ArrayLike,
    v: np.typing.ArrayLike,
    dp: np.typing.ArrayLike,
    lr: float,
    momentum: float,
    form: int = 1,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of Nesterov's accelerated gradient, as the books take it: with the gradient at `p`.

    ``v' = momentum v - lr dp``; ``p' = p + momentum^2 v - (1 + momentum) lr dp`` in form 1, and with ``v'`` instead
    of ``v`` in form 2.

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    v : array_like, shape and dtype of `p`
        Its velocity, 0 at first.
    dp : array_like of real numbers, shape of `p`
        Its gradient.
    lr, momentum : float
        Learning rate; what is kept of the velocity.
    form : {1, 2}, optional
        That of the first or of the second book.
    out : tuple of ndarray or None, optional
        Receive the results; each of their shape and dtype, C-contiguous, writeable: ``(p, v)`` for a step in place.

    Returns
    -------
    p', v' : ndarray, shape and dtype of `p`
        NaN where an argument is; `v'` 0 where it would be subnormal, which takes processors long (not in float16).

    Raises
    ------
    TypeError
        `p` is not of floats, `v` not of its dtype, `dp` not of real numbers, a number none; `out` is not a tuple of
        two; an array in it has another dtype.
    ValueError
        The shapes differ; a number is not finite; another `form`; an array of `out` cannot take its result, or overlaps
        anything but its own old place.

    References
    ----------
    Y. Bengio, N. Boulanger-Lewandowski, R. Pascanu, "Advances in Optimizing Recurrent Networks", 2012, equations 6, 7.

    Examples
    --------
    >>> from fastnn import ops
    >>> p, v = ops.nesterov([1.0, 2.0], [1.0, 1.0], [4.0, -4.0], 0.25, 0.5)
    >>> p
    array([-0.25,  3.75])
    >>> v
    array([-0.5,  1.5])
    >>> ops.nesterov([1.0, 2.0], [1.0, 1.0], [4.0, -4.0], 0.25, 0.5, form=2)[0]
    array([-0.625,  3.875])
    """
    lr, momentum = arguments.number("lr", lr), arguments.number("momentum", momentum)
    form = arguments.whole_number("form", form, 1, 2)

    def step(p: Array, v: Array, dp: Array) -> tuple[Array, ...]:
        velocity = _kept(momentum * v - lr * dp, p.dtype)
        ahead = p + momentum * momentum * (v if form == 1 else velocity)
        return ahead - (1 + momentum) * lr * dp, velocity

    return _stepped(step, {"p": p, "v": v}, dp, out)


def adagrad(
    p: np.typing.ArrayLike,
    h: np.typing.ArrayLike,
    dp: np.typing.ArrayLike,
    lr: float,
    eps: float = STEP_EPS,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of AdaGrad.

    ``h' = h + dp^2``, ``p' = p - lr dp / (sqrt(h') + eps)``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    h : array_like, shape and dtype of `p`
        The sum of its squared gradients, 0 at first.
    dp : array_like of real numbers, shape of `p`
        Its gradient.
    lr : float
        Learning rate.
    eps : float, optional
        Of at least 0: keeps the step from a division by 0.
    out : tuple of ndarray or None, optional
        Receive the results; each of their shape and dtype, C-contiguous, writeable: ``(p, h)`` for a step in place.

    Returns
    -------
    p', h' : ndarray, shape and dtype of `p`
        NaN where an argument is, and `p'` where `h'` is negative.

    Raises
    ------
    TypeError
        `p` is not of floats, `h` not of its dtype, `dp` not of real numbers, a number none; `out` is not a tuple of
        two; an array in it has another dtype.
    ValueError
        The shapes differ; a number is out of its range; an array of `out` cannot take its result, or overlaps anything
        but its own old place.

    References
    ----------
    "Deep Learning from Scratch", section 6.1.5.

    Examples
    --------
    >>> from fastnn import ops
    >>> p, h = ops.adagrad([1.0, 2.0], [0.0, 9.0], [4.0, -4.0], 0.5)
    >>> p.round(3)
    array([0.5, 2.4])
    >>> h
    array([16., 25.])
    """
    lr, eps = arguments.number("lr", lr), arguments.epsilon(eps)

    def step(p: Array, h: Array, dp: Array) -> tuple[Array, ...]:
        h = (h + dp * dp).astype(p.dtype)
        return p - _over_root(lr * dp, h, eps), h

    return _stepped(step, {"p": p, "h": h}, dp, out)


def rmsprop(
    p: np.typing.ArrayLike,
    h: np.typing.ArrayLike,
    dp: np.typing.ArrayLike,
    lr: float,
    decay_rate: float,
    eps: float = STEP_EPS,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    """
    Step of RMSprop.

    ``h' = decay_rate h + (1 - decay_rate) dp^2``, ``p' = p - lr dp / (sqrt(h') + eps)``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    h : array_like, shape and dtype of `p`
        The running mean of its squared gradients, 0 at first.
    dp : array_like of real numbers, shape of `p`
        Its gradient.
    lr, decay_rate : float
        Learning rate; what is kept of the mean.
    eps : float, optional
        Of at least 0: keeps the step from a division by 0.
    out : tuple of ndarray or None, optional
        Receive the results; each of their shape and dtype, C-contiguous, writeable: ``(p, h)`` for a step in place.

    Returns
    -------
    p', h' : ndarray, shape and dtype of `p`
        NaN where an argument is, and `p'` where `h'` is negative; `h'` 0 where it would be subnormal, which takes
        processors long (not in float16).

    Raises
    ------
    TypeError
        `p` is not of floats, `h` not of its dtype, `dp` not of real numbers, a number none; `out` is not a tuple of
        two; an array in it has another dtype.
    ValueError
        The shapes differ; a number is out of its range; an array of `out` cannot take its result, or overlaps anything
        but its own old place.

    References
    ----------
    T. Tieleman, G. Hinton, "Lecture 6.5 - RMSProp", Coursera: Neural Networks for Machine Learning, 2012.

    Examples
    --------
    >>> from fastnn import ops
    >>> p, h = ops.rmsprop([1.0, 2.0], [0.0, 16.0], [4.0, -4.0], 0.5, 0.75)
    >>> p.round(3)
    array([0. , 2.5])
    >>> h
    array([ 4., 16.])
    """
    lr, decay_rate = arguments.number("lr", lr), arguments.number("decay_rate", decay_rate)
    eps = arguments.epsilon(eps)

    def step(p: Array, h: Array, dp: Array) -> tuple[Array, ...]:
        h = _kept(decay_rate * h + (1 - decay_rate) * dp * dp, p.dtype)
        return p - _over_root(lr * dp, h, eps), h

    return _stepped(step, {"p": p, "h": h}, dp, out)


def adam(
    p: np.typing.ArrayLike,
    m: np.typing.ArrayLike,
    v: np.typing.ArrayLike,
    dp: np.typing.ArrayLike,
    lr: float,
    beta1: float,
    beta2: float,
    iter: int,
    eps: float = STEP_EPS,
    *,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Array]:
    """
    Step of Adam.

    ``m' = m + (1 - beta1) (dp - m)``, ``v' = v + (1 - beta2) (dp^2 - v)``,
    ``p' = p - lr sqrt(1 - beta2^iter) / (1 - beta1^iter) m' / (sqrt(v') + eps)``

    Parameters
    ----------
    p : array_like of floats
        A parameter.
    m, v : array_like, shape and dtype of `p`
        The running means of its gradients and their squares, 0 at first.
    dp : array_like of real numbers, shape of `p`
        Its gradient.
    lr, beta1, beta2 : float
        Learning rate; what is kept of the means, from 0 to below 1.
    iter : int
        The number of this step, from 1.
    eps : float, optional
        Of at least 0: keeps the step from a division by 0.
    out : tuple of ndarray or None, optional
        Receive the results; each of their shape and dtype, C-contiguous, writeable: ``(p, m, v)`` for a step in place.

    Returns
    -------
    p', m', v' : ndarray, shape and dtype of `p`
        NaN where an argument is, and `p'` where `v'` is negative; `m'` and `v'` 0 where ``(1 - beta1) m'`` and
        ``(1 - beta2) v'`` would be subnormal, which takes processors long (not in float16).

    Raises
    ------
    TypeError
        `p` is not of floats, `m` or `v` not of its dtype, `dp` not of real numbers, a number none; `out` is not a tuple
        of three; an array in it has another dtype.
    ValueError
        The shapes differ; a number is out of its range; an array of `out` cannot take its result, or overlaps anything
        but its own old place.

    References
    ----------
    D. P. Kingma, J. L. Ba, "Adam: A Method for Stochastic Optimization", 2015, in the form of its section 2; "Deep
    Learning from Scratch", section 6.1.6.

    Examples
    --------
    >>> from fastnn import ops
    >>> p, m, v = ops.adam([1.0, 2.0], [0.0, 0.0], [0.0, 0.0], [4.0, -4.0], 0.5, 0.5, 0.75, 1)
    >>> p.round(3)
    array([0.5, 2.5])
    >>> m
    array([ 2., -2.])
    >>> v
    array([4., 4.])
    """
    rate, beta1, beta2 = arguments.adam_rate(lr, beta1, beta2, iter)
    eps = arguments.epsilon(eps)

    def step(p: Array, m: Array, v: Array, dp: Array) -> tuple[Array, ...]:
        m = _kept(m + (1 - beta1) * (dp - m), p.dtype, 1 - beta1)
        v = _kept(v + (1 - beta2) * (dp * dp - v), p.dtype, 1 - beta2)
        return p - _over_root(rate * m, v, eps), m, v

    return _stepped(step, {"p": p, "m": m, "v": v}, dp, out)


def _kept(moments: Array, dtype: np.dtype[Any], share: float = 1) -> Array:
    """What is kept of them: 0 where `share` of it would be subnormal, float16's apart."""
    moments = moments.astype(dtype)
    smallest = float(np.finfo(np.result_type(dtype, np.float32)).smallest_normal) / share
    return np.where(np.abs(moments) < smallest, moments.dtype.type(0), moments)


def _over_root(x: Array, squares: Array, eps: float) -> Array:
    return x / (np.sqrt(squares) + eps)


def _stepped(
    step: Callable[..., tuple[Array, ...]], state: dict[str, np.typing.ArrayLike], dp: np.typing.ArrayLike, out: Any
) -> Any:
    """What `step` makes of the state and the gradient, in the state's dtype and where `out` wants it."""
    arrays, gradient = arguments.step(state, dp)
    given = arguments.step_outputs(out, arrays, gradient)
    dtype = arrays[0].dtype.newbyteorder("=")
    with np.errstate(all="ignore"):
        changed = [np.asarray(new, dtype) for new in step(*together(*arrays, gradient))]
    return tuple(result(new, array) for new, array in zip(changed, given, strict=True))
