"""Activations, each number alone."""

from __future__ import annotations

import numpy as np

from fastnn import arguments
from fastnn.arguments import Array
from fastnn.reference.numbers import as_numbers, floating, result, together, wide


def relu(x: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Rectified linear unit, element by element.

    ``y = 0 where x <= 0, else x``

    Parameters
    ----------
    x : array_like of real numbers
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    y : ndarray, shape and dtype of `x`, booleans as integers
        NaN passes through; -0.0 gives 0.0.

    Raises
    ------
    TypeError
        `x` is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `out` cannot take the result, or overlaps `x` in part.

    See Also
    --------
    relu_with_mask, relu_backward

    References
    ----------
    "Deep Learning from Scratch", section 5.5.1.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.relu([-1.5, 0.0, 2.0])
    array([0., 0., 2.])
    """
    x = arguments.numeric("x", x)
    return result(np.where(x <= 0, 0, x), out, x)


def relu_with_mask(x: np.typing.ArrayLike, *, out: Array | None = None) -> tuple[Array, Array]:
    """
    Rectified linear unit together with the mask that its gradient needs.

    ``y = 0 where x <= 0, else x``; ``mask = (x <= 0)``

    Parameters
    ----------
    x : array_like of real numbers
    out : ndarray, optional
        Receives `y` and is returned for it; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    y : ndarray, shape and dtype of `x`, booleans as integers
        NaN passes through; -0.0 gives 0.0.
    mask : ndarray of bool, shape of `x`
        False where `x` is NaN.

    Raises
    ------
    TypeError
        `x` is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `out` cannot take the result, or overlaps `x` in part.

    See Also
    --------
    relu, relu_backward

    References
    ----------
    "Deep Learning from Scratch", section 5.5.1.

    Examples
    --------
    >>> from fastnn import ops
    >>> y, mask = ops.relu_with_mask([-1.5, 0.0, 2.0])
    >>> y
    array([0., 0., 2.])
    >>> mask
    array([ True,  True, False])
    """
    x = arguments.numeric("x", x)
    mask = x <= 0
    return result(np.where(mask, 0, x), out, x), result(mask, None)


def relu_backward(dout: np.typing.ArrayLike, mask: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `relu`.

    ``dx = 0 where mask, else dout``: the gradient at 0 is 0.

    Parameters
    ----------
    dout : array_like of real numbers
        Gradient of the loss with respect to y.
    mask : array_like of bool, shape of `dout`
        From `relu_with_mask`.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `dout` itself.

    Returns
    -------
    dx : ndarray, shape and dtype of `dout`, booleans as integers

    Raises
    ------
    TypeError
        `dout` is not of real numbers or `mask` not of booleans; `out` is no array or has another dtype.
    ValueError
        The shapes differ; `out` cannot take the result, or overlaps an argument in part.

    See Also
    --------
    relu_with_mask

    References
    ----------
    "Deep Learning from Scratch", section 5.5.1.

    Examples
    --------
    >>> from fastnn import ops
    >>> y, mask = ops.relu_with_mask([-1.5, 0.0, 2.0])
    >>> ops.relu_backward([0.1, 0.2, 0.3], mask)
    array([0. , 0. , 0.3])
    """
    dout, mask = arguments.numeric("dout", dout), arguments.numeric("mask", mask)
    mask = arguments.boolean_mask(mask, dout)
    return result(np.where(mask, 0, dout), out, dout, mask)


def step_product(a: np.typing.ArrayLike, x: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Product with a step, element by element: ReLU and its gradient as they are often written.

    ``y = a (x > 0)``, where ``x > 0`` is 1 or 0.

    Parameters
    ----------
    a : array_like of real numbers
        `x` itself for ReLU; for its gradient that of the loss with respect to ReLU's output.
    x : array_like of real numbers, shape of `a`
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `a` or `x` itself.

    Returns
    -------
    y : ndarray, shape of `a`, promoted dtype of both, booleans as integers
        Where `x` is not above 0: -0.0 if `a` is negative, NaN if it is NaN or infinite.

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.
    ValueError
        The shapes differ; `out` cannot take the result, or overlaps an argument in part.

    See Also
    --------
    relu, relu_backward

    References
    ----------
    CS231n, "Convolutional Neural Networks for Visual Recognition", Stanford.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.step_product([-1.5, 0.0, 2.0], [-1.5, 0.0, 2.0])
    array([-0.,  0.,  2.])
    >>> ops.step_product([0.1, 0.2, 0.3], [-1.5, 0.0, 2.0])
    array([0. , 0. , 0.3])
    """
    a, x = arguments.numeric("a", a), arguments.numeric("x", x)
    arguments.same_shape("a", a, "x", x)
    with np.errstate(all="ignore"):
        y = as_numbers(a).astype(np.result_type(as_numbers(a), as_numbers(x))) * (x > 0)
    return result(y, out, a, x)


def sigmoid(x: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Logistic function, element by element.

    ``y = 1 / (1 + exp(-x))``, computed from ``exp(-|x|)`` so that nothing overflows.

    Parameters
    ----------
    x : array_like of real numbers
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    y : ndarray, shape of `x`, floating dtype
        0 at -inf, 1 at inf, NaN at NaN.

    Raises
    ------
    TypeError
        `x` is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `out` cannot take the result, or overlaps `x` in part.

    See Also
    --------
    sigmoid_backward

    References
    ----------
    "Deep Learning from Scratch", section 5.5.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.sigmoid([-2.0, 0.0, 2.0]).round(3)
    array([0.119, 0.5  , 0.881])
    """
    x = arguments.numeric("x", x)
    with np.errstate(all="ignore"):
        e = np.exp(-np.abs(wide(floating(x))))
        y = (np.maximum(e, x >= 0) / (1 + e)).astype(floating(x).dtype)
    return result(y, out, x)


def sigmoid_backward(dout: np.typing.ArrayLike, y: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `sigmoid`, from its output alone.

    ``dx = dout (1 - y) y``

    Parameters
    ----------
    dout : array_like of real numbers
        Gradient of the loss with respect to y.
    y : array_like, shape of `dout`
        What `sigmoid` returned.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `dout` or `y`
        itself.

    Returns
    -------
    dx : ndarray, shape of `dout`, promoted dtype of both

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.
    ValueError
        The shapes differ; `out` cannot take the result, or overlaps an argument in part.

    See Also
    --------
    sigmoid

    References
    ----------
    "Deep Learning from Scratch", section 5.5.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.sigmoid_backward([1.0, 1.0, 2.0], [0.25, 0.5, 0.5])
    array([0.1875, 0.25  , 0.5   ])
    """
    dout, y = arguments.numeric("dout", dout), arguments.numeric("y", y)
    arguments.same_shape("dout", dout, "y", y)
    with np.errstate(all="ignore"):
        d, y_of_dx = together(dout, as_numbers(y))
        dx = d * (1 - y_of_dx) * y_of_dx
    return result(dx, out, dout, y)


def tanh(x: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Hyperbolic tangent, element by element.

    ``y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))``

    Parameters
    ----------
    x : array_like of real numbers
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `x` itself.

    Returns
    -------
    y : ndarray, shape of `x`, floating dtype
        -1 at -inf, 1 at inf, NaN at NaN; -0.0 stays -0.0.

    Raises
    ------
    TypeError
        `x` is not of real numbers; `out` is no array or has another dtype.
    ValueError
        `out` cannot take the result, or overlaps `x` in part.

    See Also
    --------
    tanh_backward

    References
    ----------
    "Deep Learning from Scratch 2", section 5.2.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.tanh([-1.0, 0.0, 1.0]).round(3)
    array([-0.762,  0.   ,  0.762])
    """
    x = arguments.numeric("x", x)
    with np.errstate(all="ignore"):
        y = np.tanh(wide(x)).astype(floating(x).dtype)
    return result(y, out, x)


def tanh_backward(dout: np.typing.ArrayLike, y: np.typing.ArrayLike, *, out: Array | None = None) -> Array:
    """
    Gradient of `tanh`, from its output alone.

    ``dx = dout (1 - y^2)``

    Parameters
    ----------
    dout : array_like of real numbers
        Gradient of the loss with respect to y.
    y : array_like, shape of `dout`
        What `tanh` returned.
    out : ndarray, optional
        Receives the result and is returned; of its shape and dtype, C-contiguous, writeable; may be `dout` or `y`
        itself.

    Returns
    -------
    dx : ndarray, shape of `dout`, promoted dtype of both

    Raises
    ------
    TypeError
        An argument is not of real numbers; `out` is no array or has another dtype.
    ValueError
        The shapes differ; `out` cannot take the result, or overlaps an argument in part.

    See Also
    --------
    tanh

    References
    ----------
    "Deep Learning from Scratch 2", section 5.3.

    Examples
    --------
    >>> from fastnn import ops
    >>> ops.tanh_backward([1.0, 1.0, 2.0], [0.0, 0.5, 0.5])
    array([1.  , 0.75, 1.5 ])
    """
    dout, y = arguments.numeric("dout", dout), arguments.numeric("y", y)
    arguments.same_shape("dout", dout, "y", y)
    with np.errstate(all="ignore"):
        d, y_of_dx = together(dout, as_numbers(y))
        dx = d * (1 - y_of_dx * y_of_dx)
    return result(dx, out, dout, y)
