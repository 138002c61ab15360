"""The affine map of a layer, its bias and its gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnn import reference
from fastnn.arguments import Array
from fastnn.optable.base import Op, Refused
from fastnn.optable.kinds import by_rows
from fastnn.optable.refusals import ANY, Args, replaced
from fastnn.optable.samples import NO_COLUMNS, NO_ROWS, SHAPES, Rng, Shape, bias, columns, each, numbers
from fastnn.optable.sizes import column_sizes, sizes

M = 7


def _weights(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    return numbers(rng, (columns(shape), M), dtype)


def _weights_bias(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    return numbers(rng, (M,), dtype)


def _dout(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> Array:
    return numbers(rng, (*shape[:-1], M), dtype)


def _sizes(x: Array, W: Array, b: Array, *, out: object = None) -> tuple[Any]:
    return ((len(W) + 1) * reference.affine(*sizes(x, W, b)),)  # the bias is a term, too


def _backward_sizes(dout: Array, x: Array, W: Array, *, out: object = None) -> tuple[Any, Any, Any]:
    dx, dW, db = reference.affine_backward(*sizes(dout, x, W))
    return W.shape[1] * dx, math.prod(dout.shape[:-1]) * dW, db


def _bad_bias(op: Op, args: Args) -> Iterator[Refused]:
    place = op.names.index("b")
    b = args[place]
    for wrong in (b[1:], np.append(b, b[:1]), b[:, np.newaxis], np.stack([b, b]), b[0]):
        yield Refused(replaced(args, place, wrong), {}, ValueError, "^b has shape")


def _bad_matrices(op: Op, args: Args) -> Iterator[Refused]:
    for name in op.names:
        place = op.names.index(name)
        array = args[place]
        if name == "W":
            for wrong in (array[0], array[0, 0], array[np.newaxis]):
                yield Refused(replaced(args, place, wrong), {}, ValueError, "^W must have two dimensions")
            yield Refused(replaced(args, place, array[1:]), {}, ValueError, "^x has shape .* numbers in each sample")
        elif name == "x":
            for wrong in (array[:, 1:], array[..., np.newaxis, np.newaxis][..., [0, 0]], array[0, 0]):
                yield Refused(replaced(args, place, wrong), {}, ValueError, "^x has shape .* numbers in each sample")
        elif name == "dout":
            for wrong in (array[1:], array[:, 1:], array[0], array[..., np.newaxis], array[0, 0]):
                yield Refused(replaced(args, place, wrong), {}, ValueError, "^dout has shape .* but forward gave")


# Rows of M numbers are what threads share.
LARGE: tuple[Shape, ...] = (
    *((4099, 64), (3, 20000), (20000, 3), (5000, 40)),
    *((80003, 10), (131, 4099), (11, 50257)),
)

_product = partial(Op, shapes=(*SHAPES, *NO_COLUMNS, *NO_ROWS, ()), large=LARGE, products=True)

OPS = (
    by_rows(
        name="bias_grad",
        example=each(numbers),
        out={0: ["dout"]},
        ulp=1,
        floor=lambda dout, out=None: (column_sizes(dout),),
    ),
    by_rows(name="add_bias", example=each(numbers, bias), out={0: ["x", "b"]}, refused=(*ANY, _bad_bias)),
    _product(
        name="affine",
        example=each(numbers, _weights, _weights_bias),
        out={0: []},
        floor=_sizes,
        refused=(*ANY, _bad_matrices, _bad_bias),
    ),
    _product(
        name="affine_backward",
        example=each(_dout, numbers, _weights),
        out={0: [], 1: [], 2: []},
        ulp=(0, 0, 1),
        floor=_backward_sizes,
        refused=(*ANY, _bad_matrices),
    ),
)
