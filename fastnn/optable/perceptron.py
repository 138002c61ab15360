"""A whole multi-layer perceptron in one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn import reference
from fastnn.arguments import Array
from fastnn.optable.affine import LARGE
from fastnn.optable.base import Op, Refused
from fastnn.optable.refusals import ANY, Args, replaced
from fastnn.optable.samples import NO_COLUMNS, NO_ROWS, SHAPES, Rng, Shape, columns, numbers

HIDDEN, CLASSES = 7, 5


def _example(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> tuple[Any, ...]:
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
    """For arguments x, t, others, and a perceptron."""
    x, t, W1, b1, W2 = (args[op.names.index(name)] for name in ("x", "t", *(f"params[{i}]" for i in range(3))))
    first = len(args) - 4  # of the parameters
    N, D = x.shape
    too_large, negative = t.copy(), t.copy()
    too_large[2], negative[4] = CLASSES, -1
    for position, bad, error, match in (
        (0, x[:, 1:], ValueError, rf"^x has shape \({N}, {D - 1}\), but W of .* needs {D}"),
        (1, t[1:], ValueError, rf"^t has shape \({N - 1},\)"),
        (1, too_large, IndexError, rf"^t\[2\] is {CLASSES}, "),
        (1, negative, IndexError, r"^t\[4\] is -1, "),
        (1, t.astype(float), TypeError, "integers, not of dtype float64"),
        (first, W1[0], ValueError, "^W must have two dimensions"),
        (first, W1[np.newaxis], ValueError, "^W must have two dimensions"),
        (
            first + 1,
            np.append(b1, b1[:1]),
            ValueError,
            rf"^b has shape \({HIDDEN + 1},\), but W of .* needs \({HIDDEN},\)",
        ),
        (first + 1, b1[:, np.newaxis], ValueError, rf"^b has shape \({HIDDEN}, 1\)"),
        (first + 1, b1[0], ValueError, r"^b has shape \(\)"),
        (first + 2, W2[1:], ValueError, rf"^x has shape \({N}, {HIDDEN}\), but W of shape \({HIDDEN - 1}, {CLASSES}\)"),
    ):
        yield Refused(replaced(args, position, bad), {}, error, match)
    for count in (0, 1, 3):
        match = f"^params must be a weight and a bias for each layer, not {count} array"
        yield Refused(args[: first + count], {}, ValueError, match)
    for loss, bad, error, match in (
        ("sigmoid", np.full((N, CLASSES), 2), IndexError, "neither class 0 nor class 1"),
        ("sigmoid", np.full((N, CLASSES), np.nan), ValueError, "not a probability"),
        ("sigmoid", np.zeros(N), ValueError, "they must be the same"),
        ("identity", np.zeros(N), ValueError, "they must be the same"),
    ):
        yield Refused(replaced(args, 1, bad), {"loss": loss}, error, match)
    for loss in ("sigmoid", "identity"):
        yield Refused((x[:0], np.zeros((0, CLASSES)), *args[2:]), {"loss": loss}, ValueError, "is empty")


# ---------------------------------------------------------------- many steps


def _descent_example(rng: Rng, shape: Shape, dtype: np.typing.DTypeLike) -> tuple[Any, ...]:
    """Two batches, of which the second may be shorter."""
    x, t, *params = _example(rng, shape, dtype)
    N = len(x)
    return x, t, rng.permutation(N), max((N + 1) // 2, 1), 2.0**-7, *params


def _descent_sizes(
    x: Array, t: Array, order: Array, batch_size: int, lr: float, *params: Array, out: object = None
) -> tuple[Any, ...]:
    loss, *gradients = _sizes(x, t, *params)
    steps = -(-len(order) // batch_size)
    changes = [steps * abs(lr) * size for size in gradients]
    return loss, *(np.max(np.abs(p), initial=0) + change for p, change in zip(params, changes, strict=True))


def _bad_descents(op: Op, args: Args) -> Iterator[Refused]:
    x, _, order, batch_size, lr, *params = args
    for bad, error, match in (
        (order[:0], ValueError, "^order is empty"),
        (order[0], ValueError, "^order has no dimension"),
        (order[np.newaxis, np.newaxis], ValueError, "^order has too many dimensions"),
        (order.astype(float), TypeError, "^order must be of integers, not of dtype float64"),
        (np.append(order, len(x)), IndexError, f"^order has {len(x)} at {len(order)} of pass 0, but x has {len(x)} "),
        (np.stack([order, order - 1]), IndexError, "^order has -1 at . of pass 1"),
    ):
        yield Refused(replaced(args, 2, bad), {}, error, match)
    for bad, bounds in ((0, "at least 1"), (-1, "at least 1"), (2**63, f"at most {2**63 - 1}")):
        yield Refused(replaced(args, 3, bad), {}, ValueError, f"^batch_size must be {bounds}, not {bad}$")
    for i, p in enumerate(params):
        wrong = replaced(args, 5 + i, p.astype(int))
        yield Refused(wrong, {}, TypeError, rf"^params\[{i}\] must be an array of floats, not of dtype int64")
    kept = [np.zeros_like(p) for p in params]
    for step, count, constants in (("momentum", 1, (0.9,)), ("adam", 2, (0.9, 0.99, 1))):
        whole, options = (*args, *kept * count), {"step": step, "constants": constants}
        match = (
            f"^params must be a weight and a bias for each layer, and as many arrays for each of {count} that {step}"
        )
        yield Refused(whole[:-1], options, ValueError, match)
        wrong = replaced(whole, 9, kept[0].astype(int))
        yield Refused(wrong, options, TypeError, r"^params\[4\] must be of the dtype .* of params\[0\], not of")
        yield Refused(replaced(whole, 9, kept[0][1:]), options, ValueError, r"^params\[4\] has shape .* be the same")
        for bad in ((), (0.9,) * 5, [*constants], None, 0.9, "no"):
            match = f"^constants must be a tuple .* for {step}, not"
            yield Refused(whole, {"step": step, "constants": bad}, TypeError, match)
        yield Refused(whole, {"step": step, "constants": (np.nan, *constants[1:])}, ValueError, "must be a finite")
        yield Refused(whole, {"step": step, "constants": ("1", *constants[1:])}, TypeError, "must be a number")


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
    Op(
        name="mlp_descent",
        example=_descent_example,
        shapes=tuple(shape for shape in (*SHAPES, *NO_COLUMNS) if len(shape) == 2),
        bad_shapes=tuple(shape for shape in NO_ROWS if len(shape) == 2),
        large=tuple(shape for shape in LARGE if len(shape) == 2),
        out={0: []} | {i + 1: [f"params[{i}]"] for i in range(4)},
        ulp=2,
        floor=_descent_sizes,
        products=True,
        refused=(*ANY, _bad_networks, _bad_descents),
    ),
)
