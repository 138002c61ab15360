"""Losses and their gradients, by every kind of target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.trials.base import Rule, constant, floats, number, rows, targets

CROSS = "cross", "entropy", "softmax", "nll", "loss"
SQUARED = "squared", "mse", "square", "loss"


BINARY = "sigmoid", "binary", "cross", "bce", "loss"
_rule = partial(Rule, summed=True, counts=True)


def rules() -> Iterator[Rule]:
    of_targets = rows, targets
    with_eps = rows, targets, constant
    yield _rule("cross_entropy_error", CROSS, with_eps, _cross_entropy, domain="unit")
    yield _rule("cross_entropy_error_backward", CROSS, of_targets, ops.cross_entropy_error_backward, domain="unit")
    yield _rule("softmax_cross_entropy", CROSS, with_eps, _softmax_cross_entropy, bends=True)
    yield _rule("softmax_cross_entropy", CROSS, with_eps, _loss_and_grad, bends=True)
    gradient = _softmax_gradient
    yield _rule("softmax_cross_entropy_backward", CROSS, of_targets, gradient, domain="unit")
    yield _rule("softmax_cross_entropy_backward", CROSS, (*of_targets, number), gradient, domain="unit")
    yield _rule("sigmoid_cross_entropy", BINARY, (floats, targets, constant), _sigmoid_cross_entropy, bends=True)
    gradient = ops.sigmoid_cross_entropy_backward
    yield _rule("sigmoid_cross_entropy_backward", BINARY, (floats, targets), gradient, domain="unit")
    for name, scale in SCALES.items():
        yield _rule(name, SQUARED, (floats, floats), _scaled(scale))
        yield _rule(f"the gradient of {name}", SQUARED, (floats, floats), _scaled_gradient(scale))


# What is called so, in halves of the mean of the squares.
SCALES: dict[str, Callable[[Any], float]] = {
    "mean_squared_error": lambda y: 1,
    "sum_squared_error": lambda y: y.size,
    "2 mean_squared_error": lambda y: 2,
    "2 sum_squared_error": lambda y: 2 * y.size,
    "sum_squared_error / N": lambda y: y.size / len(y),
    "2 sum_squared_error / N": lambda y: 2 * y.size / len(y),
}


def _scaled(scale: Callable[[Any], float]) -> Callable[[Any, Any], Any]:
    def error(y: Any, t: Any) -> Any:
        return ops.mean_squared_error(y, t) * y.dtype.type(scale(y))

    return error


def _scaled_gradient(scale: Callable[[Any], float]) -> Callable[[Any, Any], Any]:
    def gradient(y: Any, t: Any) -> Any:
        return ops.mean_squared_error_backward(y, t, scale(y))

    return gradient


def _cross_entropy(y: Any, t: Any, eps: Any) -> Any:
    return ops.cross_entropy_error(y, t, eps=_value(eps))


def _softmax_cross_entropy(x: Any, t: Any, eps: Any) -> Any:
    return ops.softmax_cross_entropy(x, t, eps=_value(eps))


def _loss_and_grad(x: Any, t: Any, eps: Any) -> Any:
    labels = ops.class_indices(x, t)
    if np.shape(labels) != x.shape:
        return ops.softmax_cross_entropy_and_grad(x, labels, eps=_value(eps))
    loss, y = ops.softmax_cross_entropy(x, t, eps=_value(eps))
    return loss, _softmax_gradient(y, t)


def _softmax_gradient(y: Any, t: Any, dout: Any = 1.0) -> Any:
    """``dout (y - t) / N``, as the books have it, whatever the rows of `t` sum to."""
    if np.shape(t) != y.shape:
        return ops.softmax_cross_entropy_backward(y, t, dout)
    return ops.mean_squared_error_backward(y, t.astype(np.result_type(y, t), copy=False), dout * y.shape[-1])


def _sigmoid_cross_entropy(x: Any, t: Any, eps: Any) -> Any:
    return ops.sigmoid_cross_entropy(x, t, eps=_value(eps))


def _value(eps: Any) -> float:
    return float(np.asarray(eps))
