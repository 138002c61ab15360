"""A whole multi-layer perceptron in one call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from inspect import Parameter, signature
from operator import index
from typing import Any, NamedTuple, Self

import numpy as np

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
from fastnn.reference.steps import adagrad, adam, momentum, nesterov, rmsprop, sgd


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

# What goes with outputs y as their targets.
_TARGETS: dict[str, Callable[[Array, Array], Array]] = {
    "softmax": lambda y, t: arguments.targets("x", y, t)[0],
    "sigmoid": lambda y, t: arguments.binary_targets("x", y, t),
    "identity": lambda y, t: arguments.values("y", y, t),
}
_STEPS: dict[str, Callable[..., Any]] = {
    step.__name__: step for step in (sgd, momentum, nesterov, adagrad, rmsprop, adam)
}

# What each takes: p and what it keeps, dp, lr and other numbers; without out.
_TAKEN = {name: [*signature(step).parameters.values()][:-1] for name, step in _STEPS.items()}

# What `mlp_gradient` and `mlp_descent` know, on every backend.
ACTIVATIONS = (*_ACTIVATIONS,)
LOSSES = (*_LOSSES,)
STEPS = (*_STEPS,)


def mlp_gradient(
    x: np.typing.ArrayLike,
    t: np.typing.ArrayLike,
    *params: np.typing.ArrayLike,
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


def outputs_like(x: Array, dtype: np.dtype[Any], W: Array) -> Array:
    """The shape and dtype of outputs, to check others beside; all numbers are the same 0."""
    return np.ndarray((len(x), W.shape[1]), dtype, bytes(dtype.itemsize), strides=(0, 0))


class Descent(NamedTuple):
    """
    What `mlp_descent` is asked for, checked.

    Attributes
    ----------
    x : ndarray, shape (N, D)
    t : ndarray, shape (N,) or (N, M)
        Class indices in a copy that nobody else can change, or targets.
    order : ndarray, shape (P, n)
        In a copy, too.
    batch_size : int
    numbers : dict
        What the step takes beside arrays, by name.
    rows : list of tuple of ndarray
        The parameters, then for each array that the step keeps one like each of them.
    """

    x: Array
    t: Array
    order: Array
    batch_size: int
    numbers: dict[str, Any]
    rows: list[tuple[Array, ...]]

    @property
    def steps(self) -> int:
        passes, n = self.order.shape
        return passes * -(-n // self.batch_size)

    def batches(self) -> Iterator[Array]:
        for indices in self.order:
            for first in range(0, len(indices), self.batch_size):
                yield indices[first : first + self.batch_size]

    def outputs(self, out: Any, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """`out`, checked, for losses of this dtype."""
        state = {f"params[{i}]": array for i, array in enumerate(array for row in self.rows for array in row)}
        return arguments.descent_outputs(out, (self.steps, dtype), state, {"x": self.x, "t": self.t})

    @classmethod
    def checked(
        cls, x: Array, t: Array, order: Array, batch_size: Any, lr: Any, params: tuple[Array, ...], step: Any,
        constants: Any, loss: str,
    ) -> Self:  # fmt: skip
        """Of arrays, a step, which is any backend's, and the name of a loss that is known."""
        name = step.__name__
        names = [taken.name for taken in _TAKEN[name]]
        kept = names.index("dp") - 1
        defaults = [taken.default for taken in _TAKEN[name][kept + 3 :]]
        left_out = len(defaults) - len(constants) if isinstance(constants, tuple) else -1
        if not 0 <= left_out <= len(defaults) - defaults.count(Parameter.empty):
            wanted = f"({', '.join(names[kept + 3 :])})"
            raise TypeError(f"constants must be a tuple {wanted} for {name}, not {constants!r}")
        constants = *constants, *defaults[len(constants) :]
        nothing = np.empty(0, np.float64)
        step(*[nothing] * (2 + kept), lr, *constants)  # it refuses what is no number for it
        numbers = dict(zip(names[kept + 2 :], (lr, *constants), strict=True))
        batch_size = arguments.whole_number("batch_size", batch_size, 1, 2**63 - 1)

        count = len(params) // (1 + kept)
        if kept and len(params) % (2 + 2 * kept):
            what = f"a weight and a bias for each layer, and as many arrays for each of {kept} that {name} keeps"
            raise ValueError(f"params must be {what}, not {len(params)} array(s)")
        rows = [params[first : first + count] for first in range(0, len(params), max(count, 1))]
        pairs = arguments.pairs(rows[0] if rows else ())
        for i, array in enumerate(params):
            p = params[i % count]
            if array.dtype.kind != "f" or array.dtype.type is not p.dtype.type:  # of whatever byte order
                wanted = "an array of floats" if i < count else f"of the dtype {p.dtype} of params[{i % count}]"
                raise TypeError(f"params[{i}] must be {wanted}, not of dtype {array.dtype}")
            arguments.same_shape(f"params[{i}]", array, f"params[{i % count}]", p)

        W = pairs[0][0]
        arguments.weights(W)
        if math.prod(x.shape[1:]) != W.shape[0]:
            raise ValueError(
                f"x has shape {x.shape}, but W of shape {W.shape} needs {W.shape[0]} numbers in each sample"
            )
        y = x = x.reshape(len(x), W.shape[0])
        for W, b in pairs:
            arguments.weights(W)
            arguments.samples(y, W)
            arguments.bias(b, "W", W)
            y = outputs_like(x, np.result_type(y, W, b), W)
        if t.dtype.kind in "iu":
            t = np.array(t)  # before it is looked at
        t = _TARGETS[loss](y, t)
        order = arguments.sample_order(order, len(x))
        return cls(x, t.astype(np.intp) if t.ndim == 1 else t, order, batch_size, numbers, rows)


def mlp_descent(
    x: np.typing.ArrayLike,
    t: np.typing.ArrayLike,
    order: np.typing.ArrayLike,
    batch_size: int,
    lr: float,
    *params: np.typing.ArrayLike,
    step: str = "sgd",
    constants: tuple[float, ...] = (),
    activation: str = "relu",
    loss: str = "softmax",
    eps: float = EPS,
    out: tuple[Array | None, ...] | None = None,
) -> tuple[Any, ...]:
    """
    Gradient descent of a multi-layer perceptron: many steps, each on a batch of the samples.

    For each batch ``L, dp_1, dp_2, ... = mlp_gradient(x[batch], t[batch], p_1, p_2, ...)``, then for each parameter
    ``p' = step(p, dp, lr)``, with which the next batch begins.  A loss that is NaN or infinite ends it
    before its step.

    Parameters
    ----------
    x : array_like of real numbers, shape (N, D) or (N, ...)
        Samples, of D numbers each.
    t : array_like, shape (N,) or (N, M)
        As for the loss.
    order : array_like of int, shape (n,) or (P, n)
        Which samples, one pass after the other; the batches of a pass are taken from left to right.
    batch_size : int
        Samples in a batch; the last of a pass takes what is left.
    lr : float
        Learning rate.
    *params : array_like of floats
        ``W_1, b_1, W_2, b_2, ...`` as for `mlp_gradient`; then, in the same order, what the step keeps for each: all
        v for `momentum`, all m and then all v for `adam`.
    step : {"sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam"}, optional
    constants : tuple, optional
        What the step takes after `lr`; what has a default there may be left out.  `iter` of `adam` is the number of the
        first step.
    activation : {"relu", "sigmoid", "tanh"}, optional
    loss : {"softmax", "sigmoid", "identity"}, optional
    eps : float, optional
        As for `mlp_gradient`.
    out : tuple of ndarray or None, optional
        Receive the results; each of their shape and dtype, C-contiguous, writeable: ``(None, *params)`` to change the
        parameters in place.

    Returns
    -------
    L : ndarray, shape (steps,)
        The loss of each batch before its step; NaN after the first that is not finite.
    params' : ndarray, shapes and dtypes of `params`

    Raises
    ------
    IndexError
        A class index is no class, one of `order` no sample; nothing has changed.
    ValueError
        Shapes that do not go together; `order` is empty; an unknown name; a number is out of its range; an array of
        `out` cannot take its result, or overlaps anything but its own old place.
    TypeError
        An argument is not of real numbers, parameters not of floats, what is kept not of their dtype; indices that are
        not integers; `constants` or `out` is not a tuple with an entry for each; an array in it has another dtype.

    See Also
    --------
    mlp_gradient, sgd, momentum, nesterov, adagrad, rmsprop, adam

    References
    ----------
    "Deep Learning from Scratch", section 4.5.

    Examples
    --------
    >>> from fastnn import ops
    >>> x, t, W, b = [[1.0], [2.0]], [[2.0], [4.0]], [[0.0]], [0.0]
    >>> losses, W, b = ops.mlp_descent(x, t, [0, 1, 0, 1], 1, 0.25, W, b, loss="identity")
    >>> losses
    array([2.0000000e+00, 3.1250000e+00, 3.8281250e-01, 4.8828125e-04])
    >>> print(W, b)
    [[1.546875]] [0.9140625]
    """
    eps = arguments.epsilon(eps)
    step = arguments.one_of("step", step, STEPS)
    activation = arguments.one_of("activation", activation, ACTIVATIONS)
    loss = arguments.one_of("loss", loss, LOSSES)
    x, t, order = arguments.numeric("x", x, 1), arguments.numeric("t", t), arguments.numeric("order", order)
    arrays = tuple(arguments.numeric(f"params[{i}]", p) for i, p in enumerate(params))
    asked = Descent.checked(x, t, order, batch_size, lr, arrays, _STEPS[step], constants, loss)
    x, t, numbers = asked.x, asked.t, asked.numbers
    rows = [[np.array(p, p.dtype.newbyteorder("="), order="C") for p in row] for row in asked.rows]
    losses: list[Any] = []
    for batch in asked.batches():
        value, *grads = mlp_gradient(x[batch], t[batch], *rows[0], activation=activation, loss=loss, eps=eps)
        losses.append(value)
        if not np.isfinite(value):
            break
        for i, dp in enumerate(grads):
            state = [row[i] for row in rows]
            stepped = _STEPS[step](*state, dp.reshape(state[0].shape), **numbers)
            for row, array in zip(rows, stepped if len(rows) > 1 else (stepped,), strict=True):
                row[i] = array
        if "iter" in numbers:
            numbers["iter"] = index(numbers["iter"]) + 1
    all_losses = np.full(asked.steps, np.nan, losses[0].dtype)
    all_losses[: len(losses)] = losses
    given = asked.outputs(out, all_losses.dtype)
    arrays = tuple(array for row in rows for array in row)
    return tuple(result(new, array) for new, array in zip((all_losses, *arrays), given, strict=True))
