"""Steps of the optimizers: a parameter, what is kept for it, its gradient, and numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from fastnn.optable.base import Op, Refused
from fastnn.optable.kinds import elementwise
from fastnn.optable.refusals import ANY, Args, other_shapes, replaced
from fastnn.optable.samples import constant, each, numbers, positive

Refusal = Callable[[Op, Args], Iterator[Refused]]


def _bad_state(op: Op, args: Args) -> Iterator[Refused]:
    p, *kept = args[: len(op.out)]
    yield Refused(replaced(args, 0, p.astype(int)), {}, TypeError, "^p must be an array of floats, not of dtype")
    others = [dtype for dtype in (np.float16, np.float32, np.float64, int) if dtype != p.dtype]
    for place, array in enumerate(kept, 1):
        for dtype in others:
            match = f"^{op.names[place]} must be of p's dtype"
            yield Refused(replaced(args, place, array.astype(dtype)), {}, TypeError, match)


def _bad_form(op: Op, args: Args) -> Iterator[Refused]:
    for form in (0, 3, 2**70):
        yield Refused(args, {"form": form}, ValueError, "^form must be from 1 to 2")


def _bad_adam(op: Op, args: Args) -> Iterator[Refused]:
    below_1 = np.nextafter(np.longdouble(1), np.longdouble(0))
    for name in ("beta1", "beta2"):
        for bad in (-0.1, 1, 1.0, 2, *([below_1] if float(below_1) == 1 else [])):
            match = f"^{name} must be a finite number of at least 0 and below 1"
            yield Refused(replaced(args, op.names.index(name), bad), {}, ValueError, match)
    for bad, bounds in ((0, "at least 1"), (-1, "at least 1"), (2**63, f"at most {2**63 - 1}")):
        wrong = replaced(args, op.names.index("iter"), bad)
        yield Refused(wrong, {}, ValueError, f"^iter must be {bounds}, not {bad}$")


def _step(name: str, kept: str, *constants: float, refused: tuple[Refusal, ...] = ()) -> Op:
    """`kept` is what the optimizer keeps for a parameter, a letter each."""
    return elementwise(
        name=name,
        example=each(numbers, *[positive] * len(kept), numbers, *map(constant, constants)),
        out=dict(enumerate(f"p{kept}")),
        refused=(*ANY, other_shapes, _bad_state, *refused),
    )


OPS = (
    _step("sgd", "", 0.1),
    _step("momentum", "v", 0.1, 0.9),
    _step("nesterov", "v", 0.1, 0.9, refused=(_bad_form,)),
    _step("adagrad", "h", 0.1),
    _step("rmsprop", "h", 0.1, 0.99),
    _step("adam", "mv", 0.1, 0.9, 0.999, 3, refused=(_bad_adam,)),
)
