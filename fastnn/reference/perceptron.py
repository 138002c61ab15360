"""A whole multi-layer perceptron in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy.typing as npt

from fastnn import arguments
from fastnn.arguments import EPS, Array
from fastnn.reference.affine import affine, affine_backward
from fastnn.reference.elementwise import relu, relu_backward, sigmoid, sigmoid_backward, tanh, tanh_backward
from fastnn.reference.losses import (
    mean_squared_error,
    mean_squared_error_backward,
    sigmoid_cross_entropy,
    sigmoid_cross_entropy_backward,
    softmax_cross_entropy_and_grad,
)
from fastnn.reference.numbers import result, together


def _sigmoid_loss(y: Array, t: Array, eps: float) -> tuple[Any, Array]:
    loss, p = sigmoid_cross_entropy(y, t, eps=eps)
    return loss, sigmoid_cross_entropy_backward(p, t)


# An activation, and its gradient from its output; a loss together with its gradient.
_ACTIVATIONS: dict[str, tuple[Callable[..., Array], Callable[..., Array]]] = {
    "relu": (relu, lambda dh, h: relu_backward(dh, h <= 0)),
    "sigmoid": (sigmoid, sigmoid_backward),
    "tanh": (tanh, tanh_backward),
}
_LOSSES: dict[str, Callable[..., tuple[Any, Array]]] = {
    "softmax": lambda y, t, eps: softmax_cross_entropy_and_grad(y, t, eps=eps),
    "sigmoid": _sigmoid_loss,
    "identity": lambda y, t, eps: (mean_squared_error(y, t), mean_squared_error_backward(y, t)),
}

# What `mlp_gradient` knows, on every backend.
ACTIVATIONS = (*_ACTIVATIONS,)
LOSSES = (*_LOSSES,)


def mlp_gradient(
    x: npt.ArrayLike,
    t: npt.ArrayLike,
    *params: npt.ArrayLike,
    activation: str = "relu",
    loss: str = "softmax",
    eps: float = EPS,
    out: tuple[Array | None, ...] | None = None,
) -> tuple[Any, ...]:
    """
    Loss of a multi-layer perceptron and its gradients with respect to the parameters, by backpropagation.

    ``h_0 = x``, ``h_i = activation(affine(h_(i-1), W_i, b_i))``, without the activation for the last, and the loss of
    that; then all of it backwards.

    Parameters
    ----------
    x : array_like of real numbers
        Samples, as for `affine`.
    t : array_like
        As for the loss.
    *params : array_like
        ``W_1, b_1, W_2, b_2, ...``: W_i of shape (M_(i-1), M_i), b_i of shape (M_i,).
    activation : {"relu", "sigmoid", "tanh"}, optional
    loss : {"softmax", "sigmoid", "identity"}, optional
        `softmax_cross_entropy`, `sigmoid_cross_entropy` or `mean_squared_error`.
    eps : float, optional
        Of the first two; 1e-7 if not given.
    out : tuple of ndarray or None, optional
        Receive the gradients; each of its parameter's shape and the result's dtype, C-contiguous, writeable; none may
        overlap an argument or another.

    Returns
    -------
    L : NumPy scalar of the computing dtype
    dW_1, db_1, dW_2, db_2, ... : ndarray, shapes of the parameters
        NaN and infinities go the way that the single ops let them go.

    Raises
    ------
    IndexError
        A class index is no class.
    ValueError
        Shapes that do not go together; no samples; an unknown `activation` or `loss`; `eps` is negative or not finite;
        an array of `out` cannot take its result, or overlaps an argument or another.
    TypeError
        An argument is not of real numbers; class indices that are not integers; `out` is not a tuple with an entry for
        each parameter; an array in it has another dtype.

    See Also
    --------
    affine, relu, sigmoid, softmax_cross_entropy, sigmoid_cross_entropy, mean_squared_error

    References
    ----------
    "Deep Learning from Scratch", section 5.7.

    Examples
    --------
    >>> from fastnn import ops
    >>> W, b = [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]
    >>> loss, dW, db = ops.mlp_gradient([[1.0, 1.0]], [[1.0, 3.0]], W, b, loss="identity")
    >>> print(loss, db)
    1.0 [ 0. -1.]
    >>> dW
    array([[ 0., -1.],
           [ 0., -1.]])
    """
    eps = arguments.epsilon(eps)
    activate, activate_backward = _ACTIVATIONS[arguments.one_of("activation", activation, ACTIVATIONS)]
    loss_and_grad = _LOSSES[arguments.one_of("loss", loss, LOSSES)]
    x, t = arguments.numeric("x", x), arguments.numeric("t", t)
    arrays = [arguments.numeric(f"params[{i}]", p) for i, p in enumerate(params)]
    y: Any
    y, *of_y = together(x, *arrays)
    pairs = arguments.pairs(of_y)
    inputs: list[Array] = []
    for W, b in pairs:
        inputs.append(activate(y) if inputs else y)
        y = affine(inputs[-1], W, b)
    value, dout = loss_and_grad(y, t, eps)
    grads: list[Array] = []
    for (W, _), h in zip(reversed(pairs), reversed(inputs), strict=True):
        dh, dW, db = affine_backward(dout, h, W)
        grads = [dW, db, *grads]
        if len(grads) < len(params):
            dout = activate_backward(dh, h)
    shapes, dtypes = zip(*((g.shape, g.dtype) for g in grads), strict=True)
    read = {"x": x, "t": t} | {f"params[{i}]": p for i, p in enumerate(arrays)}
    given = arguments.separate_outputs(out, shapes, dtypes, read)
    return value, *(result(g, array) for g, array in zip(grads, given, strict=True))
