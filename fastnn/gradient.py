"""Numerical gradients, to hold the analytic ones against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from fastnn import arguments, progress
from fastnn.arguments import Array
from fastnn.layers import Layer
from fastnn.layers.base import in_mode

__all__ = ["ParameterCheck", "check_gradient", "forward_passes", "numerical_gradient"]

Advanced = Callable[[int], None]
AT_ONCE = 1 << 18  # numbers


def forward_passes(*params: Array) -> int:
    """How many values of the loss one numerical gradient takes: two for each number in `params`."""
    return 2 * sum(p.size for p in params)


def numerical_gradient(
    f: Callable[[Array], Any], x: Array, *, h: float = 1e-4, advanced: Advanced | None = None
) -> Array:
    """
    Gradient of `f` with respect to `x`, by central differences.

    ``g_i = (f(x_i + h) - f(x_i - h)) / (2 h)``, with 2 `x.size` calls of `f`.

    Parameters
    ----------
    f : callable
        ``f(x)`` is a number; `f` may as well read the same array elsewhere, as a network reads its parameters.
    x : ndarray
        Changed element by element while `f` runs, and left as it was, also after an exception.
    h : float, optional
        The step, in the units of `x`.
    advanced : callable, optional
        Told the number of calls made since it was told last.

    Returns
    -------
    g : ndarray, shape and dtype of `x`

    References
    ----------
    "Deep Learning from Scratch", section 4.4.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import numerical_gradient
    >>> numerical_gradient(lambda x: np.sum(x**2), np.array([1.0, -2.0])).round(6)
    array([ 2., -4.])
    """
    _floats("x", x)
    h = _step("h", h)
    g = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        try:
            x[i] = kept + h
            above = f(x)
            x[i] = kept - h
            below = f(x)
        finally:
            x[i] = kept
        g[i] = (above - below) / (2 * h)
        if advanced:
            advanced(2)
    return g


def _step(name: str, h: float) -> float:
    if arguments.number(name, h) <= 0:
        raise ValueError(f"{name} must be above 0, not {h!r}")
    return h


def _floats(name: str, x: Any) -> None:
    arguments.refuse_mask(name, x)
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        raise TypeError(f"{name} must be an ndarray of floats, not {getattr(x, 'dtype', type(x).__name__)}")


class ParameterCheck(NamedTuple):
    """One parameter's gradients beside each other: ``error = |a - n| / (|a| + |n|)``, with Euclidean norms."""

    name: str
    shape: tuple[int, ...]
    error: float


def check_gradient(
    network: Any, x: np.typing.ArrayLike, t: np.typing.ArrayLike, *, h: float = 1e-4, show: bool = True
) -> list[ParameterCheck]:
    """
    Compare the analytic gradients of a network with numerical ones, and print the relative errors.

    Parameters
    ----------
    network : Sequential
    x, t : array_like
        A batch.
    h : float, optional
        The step of the central differences.
    show : bool, optional
        Print, and show a progress bar where it takes long.

    Returns
    -------
    list of ParameterCheck
        In float64 an error below 1e-6 is a good sign.  The default loss of a classifier keeps an eps inside its
        logarithm that its gradient leaves out: ``SoftmaxWithLoss(eps=0)`` makes the two the same function.  A
        ReLU whose input lies within `h` of 0 shows as a difference too.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import MLP, SoftmaxWithLoss, check_gradient
    >>> network = MLP([2, 3, 2], loss=SoftmaxWithLoss(eps=0), seed=0)
    >>> checks = check_gradient(network, np.array([[1.0, -2.0]]), np.array([1]), show=False)
    >>> [check.name for check in checks if check.error < 1e-6]
    ['W1', 'b1', 'W2', 'b2']
    """
    of_layers = [g.copy() for g in network.gradient(x, t)]
    params = network.params
    # The gradient of an array that several layers hold is the sum of theirs.
    analytic = [np.sum([g for g, q in zip(of_layers, params, strict=True) if q is p], axis=0) for p in params]
    numerical = network.numerical_gradient(x, t, h=h, show=show)
    checks = []
    for name, p, a, n in zip(network.names, params, analytic, numerical, strict=True):
        size = np.linalg.norm(a) + np.linalg.norm(n)
        checks.append(ParameterCheck(name, p.shape, float(np.linalg.norm(a - n) / size) if size else 0.0))
    if show:
        print(f"{'parameter':<12}{'shape':<14}relative error")
        for check in checks:
            print(f"{check.name:<12}{check.shape!s:<14}{check.error:.1e}")
        print(f"{forward_passes(*params):,} values of the loss")
    return checks


def of_network(layers: Sequence[Any], loss: Any, x: Any, t: Any, *, h: float, show: bool) -> list[Array]:
    """
    The numerical gradients of all parameters of layers in a row, without computing what a change does not reach.

    A changed parameter changes its own layer and those after it.  In an `Affine` layer it changes one column of the
    output; up to the next `Affine` layer the other columns stay as they were, and there the change is a multiple of one
    row of the weights.  The changes of one row of weights are computed together.

    It is the gradient in training mode.  Copies are asked, so that the layers keep what they keep.
    """
    h = _step("h", h)
    layers, loss = [_asked(layer) for layer in layers], _asked(loss)
    params = [p for layer in layers for p in layer.params]
    for p in params:
        _floats("a parameter", p)
    tied = any(np.may_share_memory(p, q) for i, p in enumerate(params) for q in params[:i])
    grads: list[Array] = []
    with progress.bar("numerical gradient", forward_passes(*params), show=show) as advanced:
        count = _Count(advanced)
        source = x
        for i, layer in enumerate(layers):
            if tied:  # a parameter that an earlier layer holds too changes that one as well
                start, given = layers, source
            else:
                start, given = layers[i:], x
            if not tied and _is_affine(layer) and all(map(_is_rowwise, start)) and np.ndim(x) == 2:
                grads += _of_affine(start, loss, x, t, h, count)
            else:
                grads += [
                    numerical_gradient(_loss_of(start, loss, given, t), p, h=h, advanced=count) for p in layer.params
                ]
            x = layer.forward(x)
    return grads


class _Count:
    def __init__(self, advanced: Callable[[int, str], None]) -> None:
        self.calls, self.advanced = 0, advanced

    def __call__(self, calls: int) -> None:
        self.calls += calls
        self.advanced(self.calls, "")


def _loss_of(layers: Sequence[Any], loss: Any, x: Any, t: Any) -> Callable[[Array], Any]:
    return lambda _: loss.forward(_through(layers, x), t)


def _through(layers: Sequence[Any], x: Any) -> Any:
    for layer in layers:
        x = layer.forward(x)
    return x


def _asked(layer: Any) -> Any:
    """A layer that is asked for its forward alone: nothing is kept, unless the mode matters."""
    if not isinstance(layer, Layer):
        return in_mode(layer, True)
    layer = copy(layer)
    layer.training = layer.mode_matters
    return layer


def _is_affine(layer: Any) -> bool:
    return isinstance(layer, Layer) and layer.op == "affine"


def _is_rowwise(layer: Any) -> bool:
    return isinstance(layer, Layer) and layer.rowwise


def _is_elementwise(layer: Any) -> bool:
    return isinstance(layer, Layer) and layer.elementwise


def _of_affine(layers: Sequence[Any], loss: Any, x: Array, t: Any, h: float, count: _Count) -> tuple[Array, Array]:
    """The numerical gradients of the first layer's W and b."""
    W, b = layers[0].params
    changed = _Columns(layers, loss, x, t)
    dW, db = np.empty_like(W), np.empty_like(b)
    for i, row in enumerate(W):
        dW[i] = changed.derivative(x[:, i], row, h)
        count(2 * row.size)
    db[...] = changed.derivative(np.ones(len(x), x.dtype), b.reshape(-1), h)
    count(2 * b.size)
    return dW, db


class _Columns:
    """The losses of a network whose first layer's output has changed in one column, for each column."""

    def __init__(self, layers: Sequence[Any], loss: Any, x: Array, t: Any) -> None:
        after = 1
        while after < len(layers) and _is_elementwise(layers[after]):
            after += 1
        self.activations, self.rest = layers[1:after], layers[after:]
        self.loss, self.t = loss, t
        self.y = layers[0].forward(x)
        self.h = _through(self.activations, self.y)
        self.W: Array | None = None
        self.base = self.h
        if self.rest and _is_affine(self.rest[0]):
            self.W, self.base, self.rest = self.rest[0].params[0], self.rest[0].forward(self.h), self.rest[1:]

    def derivative(self, x: Array, row: Array, h: float) -> Array:
        """With respect to a row of weights, whose input is `x`."""
        # What a weight changes by is h up to its own rounding.
        above, below = (self.losses(np.multiply.outer(x, stepped - row)) for stepped in (row + h, row - h))
        return (above - below) / (2 * h)

    def losses(self, dy: Array) -> Array:
        h = _through(self.activations, self.y + dy)
        N, M = h.shape
        # So many columns at once that their outputs stay small.
        width = max(1, AT_ONCE // (N * max(self.base.shape[1], 1)))
        return np.concatenate([self.of_columns(h, np.arange(j, min(j + width, M))) for j in range(0, M, width)])

    def of_columns(self, h: Array, columns: Array) -> Array:
        if self.W is None:
            outputs = np.repeat(self.h[np.newaxis], len(columns), axis=0)
            outputs[np.arange(len(columns)), :, columns] = h.T[columns]
        else:
            changes = (h - self.h).T[columns]
            outputs = self.base + changes[:, :, np.newaxis] * self.W[columns, np.newaxis, :]
        if self.rest:
            N = len(h)
            outputs = _through(self.rest, outputs.reshape(len(columns) * N, -1)).reshape(len(columns), N, -1)
        return np.array([self.loss.forward(y, self.t) for y in outputs])
