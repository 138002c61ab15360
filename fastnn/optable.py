"""The ops, one row each: arguments to try an op with, and how closely every backend agrees with the reference.

Tests, reports and benchmarks read this table; an op without a row does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import reference
from fastnn.arguments import Array


@dataclass(frozen=True)
class Op:
    """One op.

    Attributes
    ----------
    name : str
        The function's name in `fastnn.ops`, `fastnn.reference` and every backend.
    example : callable
        ``example(rng, shape, dtype)`` makes the positional arguments, with shape (..., C) for the first.
    ulp : float
        A backend's result differs from the reference by at most so many units in the last place.
    floor : callable, optional
        ``floor(*arguments)``, one value for each result: the unit is taken at this size where the result is smaller.
        For a sum it is the sum of the terms' absolute values, since the order of a sum is free; for the logarithm of a
        computed probability it is 1, since a relative error of the probability becomes an absolute one.
    outs : int, optional
        How many arrays `out` takes: one, or a tuple with one for each result.
    """

    name: str
    example: Callable[[np.random.Generator, tuple[int, ...], npt.DTypeLike], tuple[Any, ...]]
    ulp: float
    floor: Callable[..., tuple[Any, ...]] | None = None
    outs: int = 1

    def distance(self, result: Any, expected: Any, args: tuple[Any, ...]) -> float:
        """How far the result of a backend is from the reference's, to be compared with `ulp`."""
        results = as_tuple(result)
        floors = as_tuple(self.floor(*args)) if self.floor else (0.0,) * len(results)
        return max(ulps(a, b, floor) for a, b, floor in zip(results, as_tuple(expected), floors, strict=True))


def as_tuple(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def ulps(result: npt.ArrayLike, expected: npt.ArrayLike, floor: npt.ArrayLike = 0.0) -> float:
    """The largest distance, in spacings of the floats at max(|expected|, floor); equal specials are 0 apart."""
    result, expected = np.asarray(result), np.asarray(expected)
    if (result.dtype, result.shape) != (expected.dtype, expected.shape):
        raise ValueError(f"{result.dtype} {result.shape} instead of {expected.dtype} {expected.shape}")
    same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    if same.all():
        return 0.0
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(expected), np.asarray(floor, expected.dtype))
        distance = np.abs(result.astype(np.float64) - expected.astype(np.float64)) / np.spacing(size)
    return float(np.max(np.where(same, 0.0, np.nan_to_num(distance, nan=np.inf))))


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    return rng.standard_normal(shape).astype(dtype) * np.asarray(3, dtype)


def _probabilities(rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    e = np.exp(rng.standard_normal(shape))
    return (e / e.sum(axis=-1, keepdims=True)).astype(dtype)


def _either(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.integers(0, 2, shape)


def _step_arguments(
    arrays: int, numbers: tuple[float, ...], rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike
) -> tuple[Any, ...]:
    """A parameter, what the optimizer keeps for it (squares are positive), its gradient, and the constants."""
    kept = [np.abs(_numbers(rng, shape, dtype)) for _ in range(arrays - 1)]
    return _numbers(rng, shape, dtype), *kept, _numbers(rng, shape, dtype), *numbers


def _mlp_sizes(x: Array, t: Array, W1: Array, b1: Array, W2: Array, b2: Array) -> tuple[Any, ...]:
    """For the loss and each gradient the largest that the terms can be, the gradient of the logits being at most 1.

    All of them times the largest that the terms of a logit can be: it is the rounding of these that moves the gradient.
    """
    h = reference.affine(np.abs(x), np.abs(W1), np.abs(b1))
    logits = max(1.0, np.max(reference.affine(h, np.abs(W2), np.abs(b2)), initial=0))
    dh = np.max(np.sum(np.abs(W2), axis=1))
    sizes = 1.0, np.max(np.abs(x), initial=0) * dh, dh, np.max(np.abs(reference.affine(x, W1, b1)), initial=0), 1.0
    return tuple(logits * size for size in sizes)


def _labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.integers(0, shape[-1], shape[:-1])


OPS = {
    op.name: op
    for op in (
        Op("relu", lambda rng, shape, dtype: (_numbers(rng, shape, dtype),), 0),
        Op("relu_with_mask", lambda rng, shape, dtype: (_numbers(rng, shape, dtype),), 0),
        Op("relu_backward", lambda rng, shape, dtype: (_numbers(rng, shape, dtype), rng.random(shape) < 0.5), 0),
        Op("sigmoid", lambda rng, shape, dtype: (_numbers(rng, shape, dtype),), 4),
        Op(
            "sigmoid_backward",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), rng.random(shape).astype(dtype)),
            0,
        ),
        Op("softmax", lambda rng, shape, dtype: (_numbers(rng, shape, dtype),), 4),
        Op(
            "softmax_backward",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _probabilities(rng, shape, dtype)),
            4,
            lambda dout, y: (np.abs(y) * (np.abs(dout) + np.sum(np.abs(dout * y), axis=-1, keepdims=True)),),
        ),
        Op(
            "cross_entropy_error",
            lambda rng, shape, dtype: (_probabilities(rng, shape, dtype), _labels(rng, shape)),
            4,
        ),
        Op(
            "cross_entropy_error_backward",
            lambda rng, shape, dtype: (_probabilities(rng, shape, dtype), _labels(rng, shape)),
            0,
        ),
        Op(
            "softmax_cross_entropy",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _labels(rng, shape)),
            4,
            lambda x, t: (1.0, 0.0),
        ),
        Op(
            "softmax_cross_entropy_backward",
            lambda rng, shape, dtype: (_probabilities(rng, shape, dtype), _labels(rng, shape)),
            0,
        ),
        Op(
            "softmax_cross_entropy_and_grad",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _labels(rng, shape)),
            4,
            # At its label a row has the difference of a probability and 1, divided by the number of rows.
            lambda x, t: (1.0, x.shape[-1] / x.size),
        ),
        Op(
            "sigmoid_cross_entropy",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _either(rng, shape)),
            4,
            lambda x, t: (1.0, 0.0),
        ),
        Op(
            "sigmoid_cross_entropy_backward",
            lambda rng, shape, dtype: (rng.random(shape).astype(dtype), _either(rng, shape)),
            0,
        ),
        Op(
            "mean_squared_error",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _numbers(rng, shape, dtype)),
            1,
        ),
        Op(
            "mean_squared_error_backward",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _numbers(rng, shape, dtype)),
            0,
        ),
        Op(
            "bias_grad",
            lambda rng, shape, dtype: (_numbers(rng, shape, dtype),),
            1,
            lambda dout: (np.sum(np.abs(dout), axis=tuple(range(dout.ndim - 1))),),
        ),
        Op("add_bias", lambda rng, shape, dtype: (_numbers(rng, shape, dtype), _numbers(rng, shape[-1:], dtype)), 0),
        Op(
            "affine",
            lambda rng, shape, dtype: (
                _numbers(rng, shape, dtype),
                _numbers(rng, (shape[-1], 7), dtype),
                _numbers(rng, (7,), dtype),
            ),
            0,
        ),
        Op(
            "affine_backward",
            lambda rng, shape, dtype: (
                _numbers(rng, (*shape[:-1], 7), dtype),
                _numbers(rng, shape, dtype),
                _numbers(rng, (shape[-1], 7), dtype),
            ),
            1,
            lambda dout, x, W: (0.0, 0.0, np.sum(np.abs(dout), axis=tuple(range(dout.ndim - 1)))),
            outs=3,
        ),
        Op(
            "mlp_gradient",
            lambda rng, shape, dtype: (
                _numbers(rng, shape, dtype),
                rng.integers(0, 5, shape[:-1]),
                (rng.standard_normal((shape[-1], 7)) / max(shape[-1], 1) ** 0.5).astype(dtype),
                _numbers(rng, (7,), dtype),
                rng.standard_normal((7, 5)).astype(dtype),
                _numbers(rng, (5,), dtype),
            ),
            2,
            _mlp_sizes,
            outs=4,
        ),
        *(
            Op(
                name,
                partial(_step_arguments, arrays, numbers),
                0,
                outs=arrays,
            )
            for name, arrays, numbers in (
                ("sgd", 1, (0.1,)),
                ("momentum", 2, (0.1, 0.9)),
                ("nesterov", 2, (0.1, 0.9)),
                ("adagrad", 2, (0.1,)),
                ("rmsprop", 2, (0.1, 0.99)),
                ("adam", 3, (0.1, 0.9, 0.999, 3)),
            )
        ),
    )
}

# How closely training on a compiled backend follows the reference: the largest relative difference of the losses over
# so many steps of the two-layer network on the digits, by dtype.  In float32 a sum in another order now and then puts a
# ReLU on its other side, and the learning rate carries that on.
LOSS_CURVE = {"float64": 1e-9, "float32": 5e-2}
LOSS_CURVE_STEPS = 1000
