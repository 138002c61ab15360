"""The functional API: each op on whichever backend is active here and now."""

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
