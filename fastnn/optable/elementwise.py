"""Activations."""

from __future__ import annotations

from collections.abc import Iterator

from fastnn.optable.base import Op, Refused, Truth
from fastnn.optable.kinds import elementwise
from fastnn.optable.refusals import ANY, Args, other_shapes, replaced
from fastnn.optable.samples import each, fractions, mask, numbers


def _no_mask(op: Op, args: Args) -> Iterator[Refused]:
    for bad in (args[0], args[1].astype(int)):
        yield Refused(replaced(args, 1, bad), {}, TypeError, "^mask must be an array of bool, not of dtype")


OPS = (
    elementwise(name="relu", example=each(numbers), out={0: ["x"]}),
    elementwise(name="relu_with_mask", example=each(numbers), out={0: ["x"]}),
    elementwise(
        name="relu_backward",
        example=each(numbers, mask),
        out={0: ["dout"]},
        refused=(*ANY, other_shapes, _no_mask),
    ),
    elementwise(name="step_product", example=each(numbers, numbers), out={0: ["a", "x"]}),
    elementwise(
        name="sigmoid",
        example=each(numbers),
        out={0: ["x"]},
        ulp=4,
        truth=Truth(lambda mp, x: 1 / (1 + mp.exp(-x)), between=(-40, 40)),
    ),
    elementwise(name="sigmoid_backward", example=each(numbers, fractions), out={0: ["dout", "y"]}),
    elementwise(
        name="tanh",
        example=each(numbers),
        out={0: ["x"]},
        ulp=4,
        truth=Truth(lambda mp, x: mp.tanh(x), between=(-20, 20)),
    ),
    elementwise(name="tanh_backward", example=each(numbers, fractions), out={0: ["dout", "y"]}),
)
