"""The books' function names, on top of the ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import arguments, ops
from fastnn.arguments import Array
from fastnn.ops import mean_squared_error, relu, sigmoid, softmax, tanh

__all__ = [
    "cross_entropy_error",
    "identity_function",
    "mean_squared_error",
    "relu",
    "relu_grad",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_loss",
    "step_function",
    "sum_squared_error",
    "tanh",
]


def identity_function(x: Any) -> Any:
    """
    The output activation of regression: `x` itself.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    x : the same object
    """
    return x


def step_function(x: np.typing.ArrayLike) -> Array:
    """
    ``1 where x > 0, else 0``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    y : ndarray of int, shape of `x`
        0 at 0 and at NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import step_function
    >>> step_function(np.array([-1.0, 0.0, 2.0]))
    array([0, 0, 1])
    """
    return np.asarray(arguments.numeric("x", x) > 0, dtype=int)[()]


def relu_grad(x: np.typing.ArrayLike) -> Array:
    """
    Derivative of `relu`: ``0 where x <= 0, else 1``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    g : ndarray, shape and dtype of `x`
        0 at 0 (volume 1 has 1 here, unlike its own Relu layer); 1 at NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import relu_grad
    >>> relu_grad(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 1.])
    """
    x = arguments.numeric("x", x)
    return ops.relu_backward(np.ones(x.shape, x.dtype), x <= 0)


def sigmoid_grad(x: np.typing.ArrayLike) -> Array:
    """
    Derivative of `sigmoid`: ``(1 - sigmoid(x)) sigmoid(x)``.

    Parameters
    ----------
    x : array_like

    Returns
    -------
    g : ndarray, shape of `x`, floating dtype

    Examples
    --------
    >>> from fastnn import sigmoid_grad
    >>> float(sigmoid_grad(0.0))
    0.25
    """
    y = ops.sigmoid(x)
    return ops.sigmoid_backward(np.ones_like(y), y)


def sum_squared_error(y: np.typing.ArrayLike, t: np.typing.ArrayLike) -> Any:
    """
    Half the sum of squared errors.

    ``L = 0.5 sum((y - t)^2)`` over all elements.

    Parameters
    ----------
    y : array_like
        What the network said.
    t : array_like, shape of `y`
        What it should have said.

    Returns
    -------
    L : NumPy scalar

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import sum_squared_error
    >>> float(sum_squared_error(np.array([1.0, 2.0]), np.array([0.0, 5.0])))
    5.0
    """
    if np.size(y) == 0:
        return np.float64(0)
    return ops.mean_squared_error(y, t) * np.size(y)


def cross_entropy_error(y: np.typing.ArrayLike, t: np.typing.ArrayLike) -> Any:
    """
    Cross-entropy of probabilities, averaged over the rows, with the books' eps of 1e-7.

    Parameters
    ----------
    y, t
        As for `fastnn.ops.cross_entropy_error`.

    Returns
    -------
    L : NumPy scalar, in nats

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import cross_entropy_error
    >>> y = np.array([[0.25, 0.75], [0.5, 0.5]])
    >>> round(float(cross_entropy_error(y, np.array([1, 0]))), 4)  # class indices
    0.4904
    >>> round(float(cross_entropy_error(y, np.array([[0, 1], [1, 0]]))), 4)  # one-hot
    0.4904
    """
    return ops.cross_entropy_error(y, t)


def softmax_loss(x: np.typing.ArrayLike, t: np.typing.ArrayLike) -> Any:
    """
    Cross-entropy of the softmax of logits: ``cross_entropy_error(softmax(x), t)``.

    Parameters
    ----------
    x : array_like, shape (..., C)
        Logits.
    t
        As for `fastnn.ops.cross_entropy_error`.

    Returns
    -------
    L : NumPy scalar, in nats

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import softmax_loss
    >>> round(float(softmax_loss(np.array([[2.0, 2.0]]), np.array([0]))), 4)
    0.6931
    """
    return ops.softmax_cross_entropy(x, t)[0]
