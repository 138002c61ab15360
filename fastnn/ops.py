"""The functional API: each op on whichever backend is active here and now.

Ops keep nothing between calls, so they may be called from several threads at once, as long as no thread writes into an
array that another one's op reads or writes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy.typing as npt

from fastnn import reference
from fastnn.arguments import Array
from fastnn.backends import chosen, process

_F = TypeVar("_F", bound=Callable[..., Any])

_chosen = chosen.get


def _documented(function: _F) -> _F:
    function.__doc__ = getattr(reference, function.__name__).__doc__
    return function


@_documented
def relu(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).relu(x, out=out)


@_documented
def relu_with_mask(x: npt.ArrayLike, *, out: Array | None = None) -> tuple[Array, Array]:
    return _chosen(process.backend).relu_with_mask(x, out=out)


@_documented
def relu_backward(dout: npt.ArrayLike, mask: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).relu_backward(dout, mask, out=out)


@_documented
def sigmoid(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).sigmoid(x, out=out)


@_documented
def sigmoid_backward(dout: npt.ArrayLike, y: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).sigmoid_backward(dout, y, out=out)


@_documented
def softmax(x: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).softmax(x, out=out)


@_documented
def softmax_backward(dout: npt.ArrayLike, y: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).softmax_backward(dout, y, out=out)


@_documented
def cross_entropy_error(y: npt.ArrayLike, t: npt.ArrayLike, *, eps: float = 1e-7) -> Any:
    return _chosen(process.backend).cross_entropy_error(y, t, eps=eps)


@_documented
def cross_entropy_error_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, eps: float = 1e-7, out: Array | None = None
) -> Array:
    return _chosen(process.backend).cross_entropy_error_backward(y, t, dout, eps=eps, out=out)


@_documented
def softmax_cross_entropy(
    x: npt.ArrayLike, t: npt.ArrayLike, *, eps: float = 1e-7, out: Array | None = None
) -> tuple[Any, Array]:
    return _chosen(process.backend).softmax_cross_entropy(x, t, eps=eps, out=out)


@_documented
def softmax_cross_entropy_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    return _chosen(process.backend).softmax_cross_entropy_backward(y, t, dout, out=out)


@_documented
def softmax_cross_entropy_and_grad(
    x: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, eps: float = 1e-7, out: Array | None = None
) -> tuple[Any, Array]:
    return _chosen(process.backend).softmax_cross_entropy_and_grad(x, t, dout, eps=eps, out=out)


@_documented
def bias_grad(dout: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).bias_grad(dout, out=out)


@_documented
def add_bias(x: npt.ArrayLike, b: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).add_bias(x, b, out=out)


@_documented
def affine(x: npt.ArrayLike, W: npt.ArrayLike, b: npt.ArrayLike, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).affine(x, W, b, out=out)


@_documented
def affine_backward(
    dout: npt.ArrayLike,
    x: npt.ArrayLike,
    W: npt.ArrayLike,
    *,
    out: tuple[Array | None, Array | None, Array | None] | None = None,
) -> tuple[Array, Array, Array]:
    return _chosen(process.backend).affine_backward(dout, x, W, out=out)


@_documented
def sigmoid_cross_entropy(
    x: npt.ArrayLike, t: npt.ArrayLike, *, eps: float = 1e-7, out: Array | None = None
) -> tuple[Any, Array]:
    return _chosen(process.backend).sigmoid_cross_entropy(x, t, eps=eps, out=out)


@_documented
def sigmoid_cross_entropy_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    return _chosen(process.backend).sigmoid_cross_entropy_backward(y, t, dout, out=out)


@_documented
def mean_squared_error(y: npt.ArrayLike, t: npt.ArrayLike) -> Any:
    return _chosen(process.backend).mean_squared_error(y, t)


@_documented
def mean_squared_error_backward(
    y: npt.ArrayLike, t: npt.ArrayLike, dout: float = 1.0, *, out: Array | None = None
) -> Array:
    return _chosen(process.backend).mean_squared_error_backward(y, t, dout, out=out)


@_documented
def mlp_gradient(
    x: npt.ArrayLike,
    t: npt.ArrayLike,
    *params: npt.ArrayLike,
    activation: str = "relu",
    loss: str = "softmax",
    eps: float = 1e-7,
    out: tuple[Array | None, ...] | None = None,
) -> tuple[Any, ...]:
    return _chosen(process.backend).mlp_gradient(x, t, *params, activation=activation, loss=loss, eps=eps, out=out)


@_documented
def sgd(p: npt.ArrayLike, dp: npt.ArrayLike, lr: float, *, out: Array | None = None) -> Array:
    return _chosen(process.backend).sgd(p, dp, lr, out=out)


@_documented
def momentum(
    p: npt.ArrayLike,
    v: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    momentum: float,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    return _chosen(process.backend).momentum(p, v, dp, lr, momentum, out=out)


@_documented
def nesterov(
    p: npt.ArrayLike,
    v: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    momentum: float,
    volume: int = 1,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    return _chosen(process.backend).nesterov(p, v, dp, lr, momentum, volume, out=out)


@_documented
def adagrad(
    p: npt.ArrayLike,
    h: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    return _chosen(process.backend).adagrad(p, h, dp, lr, out=out)


@_documented
def rmsprop(
    p: npt.ArrayLike,
    h: npt.ArrayLike,
    dp: npt.ArrayLike,
    lr: float,
    decay_rate: float,
    *,
    out: tuple[Array | None, Array | None] | None = None,
) -> tuple[Array, Array]:
    return _chosen(process.backend).rmsprop(p, h, dp, lr, decay_rate, out=out)


@_documented
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
    return _chosen(process.backend).adam(p, m, v, dp, lr, beta1, beta2, iter, out=out)
