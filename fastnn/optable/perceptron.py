"""A whole multi-layer perceptron in one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastnn import reference
from fastnn.arguments import Array
from fastnn.optable.affine import LARGE
from fastnn.optable.base import Op, Refused
from fastnn.optable.refusals import ANY, Args, replaced
from fastnn.optable.samples import NO_COLUMNS, NO_ROWS, SHAPES, Rng, Shape, columns, numbers

HIDDEN, CLASSES = 7, 5


def _example(rng: Rng, shape: Shape, dtype: npt.DTypeLike) -> tuple[Any, ...]:
    D = columns(shape)
    return (
        numbers(rng, shape, dtype),
        rng.integers(0, CLASSES, shape[:-1]),
        (rng.standard_normal((D, HIDDEN)) / max(D, 1) ** 0.5).astype(dtype),
        numbers(rng, (HIDDEN,), dtype),
        rng.standard_normal((HIDDEN, CLASSES)).astype(dtype),
        numbers(rng, (CLASSES,), dtype),
    )


def _sizes(x: Array, t: Array, W1: Array, b1: Array, W2: Array, b2: Array) -> tuple[Any, ...]:
    """For the loss and each gradient the largest that the terms can be, the gradient of the logits being at most 1.

    All of them times the largest that the terms of a logit can be: it is the rounding of these that moves the gradient.
    """
    h = reference.affine(np.abs(x), np.abs(W1), np.abs(b1))
    logits = max(1.0, np.max(reference.affine(h, np.abs(W2), np.abs(b2)), initial=0))
    dh = np.max(np.sum(np.abs(W2), axis=1))
    sizes = 1.0, np.max(np.abs(x), initial=0) * dh, dh, np.max(np.abs(reference.affine(x, W1, b1)), initial=0), 1.0
    return tuple(logits * size for size in sizes)


def _bad_networks(op: Op, args: Args) -> Iterator[Refused]:
    x, t, W1, b1, W2, _ = args
    N, D = x.shape
    too_large, negative = t.copy(), t.copy()
    too_large[2], negative[4] = CLASSES, -1
    for position, bad, error, match in (
        (0, x[:, 1:], ValueError, rf"^x has shape \({N}, {D - 1}\), but W of .* needs {D}"),
        (1, t[1:], ValueError, rf"^t has shape \({N - 1},\)"),
        (1, too_large, IndexError, rf"^t\[2\] is {CLASSES}, "),
        (1, negative, IndexError, r"^t\[4\] is -1, "),
        (1, t.astype(float), TypeError, "integers, not of dtype float64"),
        (2, W1[0], ValueError, "^W must have two dimensions"),
        (2, W1[np.newaxis], ValueError, "^W must have two dimensions"),
        (3, np.append(b1, b1[:1]), ValueError, rf"^b has shape \({HIDDEN + 1},\), but W of .* needs \({HIDDEN},\)"),
        (3, b1[:, np.newaxis], ValueError, rf"^b has shape \({HIDDEN}, 1\)"),
        (3, b1[0], ValueError, r"^b has shape \(\)"),
        (4, W2[1:], ValueError, rf"^x has shape \({N}, {HIDDEN}\), but W of shape \({HIDDEN - 1}, {CLASSES}\)"),
    ):
        yield Refused(replaced(args, position, bad), {}, error, match)
    for count in (2, 3, 5):
        match = f"^params must be a weight and a bias for each layer, not {count - 2} array"
        yield Refused(args[:count], {}, ValueError, match)
    for loss, bad, error, match in (
        ("sigmoid", np.full((N, CLASSES), 2), IndexError, "neither class 0 nor class 1"),
        ("sigmoid", np.full((N, CLASSES), np.nan), ValueError, "not a probability"),
        ("sigmoid", np.zeros(N), ValueError, "they must be the same"),
        ("identity", np.zeros(N), ValueError, "they must be the same"),
    ):
        yield Refused(replaced(args, 1, bad), {"loss": loss}, error, match)
    for loss in ("sigmoid", "identity"):
        yield Refused((x[:0], np.zeros((0, CLASSES)), *args[2:]), {"loss": loss}, ValueError, "is empty")


OPS = (
    Op(
        name="mlp_gradient",
        example=_example,
        shapes=(*SHAPES, *NO_COLUMNS, ()),
        bad_shapes=NO_ROWS,
        large=LARGE,
        out={1: [], 2: [], 3: [], 4: []},
        ulp=2,
        floor=_sizes,
        products=True,
        refused=(*ANY, _bad_networks),
    ),
)
