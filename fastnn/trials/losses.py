"""Losses and their gradients, by every kind of target."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastnn import ops
from fastnn.trials.base import Rule, constant, floats, number, rows, targets

CROSS = "cross", "entropy", "softmax", "nll", "loss"
SQUARED = "squared", "mse", "square", "loss"


def rules() -> Iterator[Rule]:
    yield Rule("cross_entropy_error", CROSS, (rows, targets, constant), _cross_entropy, summed=True, domain="unit")
    yield Rule(
        "cross_entropy_error_backward",
        CROSS,
        (rows, targets),
        ops.cross_entropy_error_backward,
        summed=True,
        domain="unit",
    )
    yield Rule(
        "softmax_cross_entropy", CROSS, (rows, targets, constant), _softmax_cross_entropy, summed=True, bends=True
    )
    yield Rule("softmax_cross_entropy", CROSS, (rows, targets, constant), _loss_and_grad, summed=True, bends=True)
    for gradient in (ops.softmax_cross_entropy_backward,):
        yield Rule("softmax_cross_entropy_backward", CROSS, (rows, targets), gradient, summed=True, domain="unit")
        yield Rule(
            "softmax_cross_entropy_backward", CROSS, (rows, targets, number), gradient, summed=True, domain="unit"
        )
    binary = ("sigmoid", "binary", "cross", "bce", "loss")
    yield Rule(
        "sigmoid_cross_entropy", binary, (floats, targets, constant), _sigmoid_cross_entropy, summed=True, bends=True
    )
    yield Rule(
        "sigmoid_cross_entropy_backward", binary, (floats, targets), ops.sigmoid_cross_entropy_backward, summed=True
    )
    for name, scale in SCALES.items():
        yield Rule(name, SQUARED, (floats, floats), _scaled(scale), summed=True)
        yield Rule(f"the gradient of {name}", SQUARED, (floats, floats), _scaled_gradient(scale), summed=True)


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
    return ops.softmax_cross_entropy_and_grad(x, t, eps=_value(eps))


def _sigmoid_cross_entropy(x: Any, t: Any, eps: Any) -> Any:
    return ops.sigmoid_cross_entropy(x, t, eps=_value(eps))


def _value(eps: Any) -> float:
    return float(np.asarray(eps))
