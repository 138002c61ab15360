"""Losses and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnn.arguments import EPS, Array
from fastnn.optable.base import Op, Refused
from fastnn.optable.refusals import ANY, Args, bad_outputs, replaced
from fastnn.optable.samples import (
    LARGE,
    NO_COLUMNS,
    NO_ROWS,
    SHAPES,
    binary_labels,
    each,
    fractions,
    labels,
    numbers,
    probabilities,
)
from fastnn.optable.sizes import or_infinite, sizes

# ---------------------------------------------------------------- the unit of the losses


def _at_targets(logs: Array, t: np.typing.ArrayLike) -> tuple[Any, Array]:
    """The weights of the logarithms that count, and these."""
    t = np.asarray(t)
    if t.shape == logs.shape:
        return sizes(t)[0], np.where(t == 0, 0, logs)
    places = t.reshape(logs.shape[:-1]).astype(np.intp)
    return np.longdouble(1), np.take_along_axis(logs, places[..., np.newaxis], axis=-1)


def _cross_entropy_size(y: Array, t: Array, dout: float = 1, *, eps: float = EPS, out: object = None) -> tuple[Any]:
    weights, logs = _at_targets(np.log(np.asarray(y).astype(np.longdouble) + np.longdouble(eps)), t)
    total = np.sum(weights * np.abs(logs))
    return (or_infinite(total * np.shape(y)[-1] / np.size(y), total, y),)


def _softmax_sizes(x: Array, t: Array, dout: Any = 1.0, *, eps: float = EPS, out: object = None) -> tuple[Any, Any]:
    z = np.asarray(x).astype(np.longdouble)
    z = z - np.max(z, axis=-1, keepdims=True)
    logs = z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))
    weights, logs = _at_targets(logs if eps == 0 else np.log(np.exp(logs) + np.longdouble(eps)), t)
    weights = np.broadcast_to(weights, logs.shape)
    N = z.size / z.shape[-1]
    total = np.maximum(np.sum(weights), np.sum(weights * np.abs(logs)))
    return or_infinite(total / N, total, x), _gradient_size(x, t, dout)[0]


def _gradient_size(y: Array, t: Array, dout: Any = 1.0, *, out: object = None) -> tuple[Any]:
    """A number of the gradient is the difference of a probability and a target, or 1, divided by the number of rows.

    Where the targets of a row do not sum to 1, it is times their sum.
    """
    size = np.abs(np.longdouble(dout)) * np.shape(y)[-1] / np.size(y)
    if np.shape(t) == np.shape(y):
        size = size * np.maximum(1, np.sum(sizes(t)[0], axis=-1, keepdims=True))
    return (size,)


def _sigmoid_sizes(x: Array, t: Array, *, eps: float = EPS, out: object = None) -> tuple[Any, Any]:
    return or_infinite(1, np.sum(sizes(x)[0]), x), 0


def _squares_size(y: Array, t: Array) -> tuple[Any]:
    a, b = sizes(y, t)
    return (or_infinite(0, np.sum((a.reshape(-1) + b.reshape(-1)) ** 2), y, t),)


# ---------------------------------------------------------------- what is refused


def _bad_labels(op: Op, args: Args) -> Iterator[Refused]:
    N, C = args[0].shape

    def label(row: int, value: int, dtype: np.typing.DTypeLike = int) -> Array:
        t = np.zeros(N, dtype)
        t[row] = value
        return t

    for t, match in (
        (label(2, C), rf"^t\[2\] is {C}, .* {C} classes"),
        (label(2, C)[:, np.newaxis], rf"^t\[2\] is {C}, "),
        (label(1, -1), r"^t\[1\] is -1, "),
        (label(1, 2**64 - 1, np.uint64), r"^t\[1\] is 18446744073709551615, "),
        (label(3, -128, np.int8), r"^t\[3\] is -128, "),
    ):
        yield Refused(replaced(args, 1, t), {}, IndexError, match)
    for shape in ((N - 1,), (N + 1,), (), (N, C, 1), (N, C - 1), (1, N), (C,)):
        t = np.zeros(shape, int)
        yield Refused(replaced(args, 1, t), {}, ValueError, "^t has shape .* needs class indices of shape")
    for dtype in (np.float64, np.float32, np.bool_):
        for t in (np.zeros(N, dtype), np.zeros((N, 1), dtype)):
            match = f"^t has one class index .* integers, not of dtype {t.dtype}"
            yield Refused(replaced(args, 1, t), {}, TypeError, match)


def _bad_values(op: Op, args: Args) -> Iterator[Refused]:
    """Targets that have another shape than y."""
    N, C = args[0].shape
    for shape in ((N,), (C, N), (N, C, 1, 1), (1, N, C), (), (0,), (N, 1), (N * C,)):
        wrong = replaced(args, 1, np.zeros(shape, args[0].dtype))
        yield Refused(wrong, {}, ValueError, "^t has shape .* they must be the same")


def _bad_binary_targets(op: Op, args: Args) -> Iterator[Refused]:
    shape = args[0].shape
    for bad, integers in ((2, "i8"), (-1, "i1"), (255, "u1")):
        t = np.zeros(shape, integers)
        t[1, 0] = bad
        match = rf"^t\[1, 0\] is {bad}, which is neither class 0 nor class 1"
        yield Refused(replaced(args, 1, t), {}, IndexError, match)
        column = args[0][:, :1], np.ascontiguousarray(t[:, 0])
        yield Refused((*column, *args[2:]), {}, IndexError, match)
    for dtype in (np.float16, np.float32, np.float64):
        for no_probability in (1.5, -0.25, np.nan, np.inf, -np.inf):
            t = np.full(shape, 0.5, dtype)
            t[2, 1] = no_probability
            match = r"^t\[2, 1\] is .*, which is not a probability from 0 to 1"
            yield Refused(replaced(args, 1, t), {}, ValueError, match)


def _outputs_beside_targets(op: Op, args: Args) -> Iterator[Refused]:
    """Targets of the result's dtype, which `out` may overlap."""
    if op.out:
        yield from bad_outputs(op, replaced(args, 1, np.full_like(args[0], 1 / args[0].shape[-1])))


_loss = partial(Op, shapes=SHAPES, large=LARGE, bad_shapes=(*NO_COLUMNS, *NO_ROWS, ()))
_of_classes = partial(_loss, refused=(*ANY, _bad_labels, _outputs_beside_targets))
_binary = partial(_loss, refused=(*ANY, _bad_values, _bad_binary_targets, _outputs_beside_targets))
_squared = partial(_loss, shapes=(*SHAPES, ()), bad_shapes=(*NO_COLUMNS, *NO_ROWS), refused=(*ANY, _bad_values))

OPS = (
    _of_classes(
        name="cross_entropy_error",
        example=each(probabilities, labels),
        ulp=4,
        floor=_cross_entropy_size,
    ),
    _of_classes(
        name="cross_entropy_error_backward",
        example=each(probabilities, labels),
        out={0: ["y", "t"]},
    ),
    _of_classes(
        name="softmax_cross_entropy",
        example=each(numbers, labels),
        out={1: ["x"]},
        ulp=4,
        floor=lambda *args, **options: (_softmax_sizes(*args, **options)[0], 0),
    ),
    _of_classes(
        name="softmax_cross_entropy_backward",
        example=each(probabilities, labels),
        out={0: ["y", "t"]},
        ulp=2,
        floor=_gradient_size,
    ),
    _of_classes(
        name="softmax_cross_entropy_and_grad",
        example=each(numbers, labels),
        out={1: ["x"]},
        ulp=4,
        floor=_softmax_sizes,
    ),
    _binary(
        name="sigmoid_cross_entropy",
        example=each(numbers, binary_labels),
        out={1: ["x"]},
        ulp=4,
        floor=_sigmoid_sizes,
    ),
    _binary(
        name="sigmoid_cross_entropy_backward",
        example=each(fractions, binary_labels),
        out={0: ["y", "t"]},
    ),
    _squared(name="mean_squared_error", example=each(numbers, numbers), ulp=1, floor=_squares_size),
    _squared(name="mean_squared_error_backward", example=each(numbers, numbers), out={0: ["y", "t"]}),
)
