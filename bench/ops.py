"""The ops of the op table, each beside what the peers have under its name."""

import functools

import numpy as np

from fastnn import ops
from fastnn.optable import OPS

# Matrix products are every library's BLAS, and almost all of the ops that are made of them: these are timed as layers
# and as training steps.
TIMED = [name for name, op in OPS.items() if not op.products]


def op_of(name):
    return OPS[name]


def shapes(op, wanted):
    """Those of the wanted ones that have the dimensions of the op's arrays; if none has, the op table's."""
    return [shape for shape in wanted if len(shape) == len(op.shapes[0])] or [op.shapes[0], *op.large]


def own(args):
    """Arrays that nobody else has, since some versions write into theirs."""
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


def in_place(op, args):
    """What else a call is given: a step writes into its parameter and what is kept for that, as an optimizer has it."""
    return {"out": op.as_out(args[: len(op.out)])} if op.family == "steps" else {}


def calls(name, dtype, shape, peers):
    """For each contender that has the op, fastnn first, a function without arguments that computes it."""
    op = op_of(name)
    args = op.example(np.random.default_rng(shape), shape, dtype)
    ours = own(args)
    made = {"fastnn": functools.partial(getattr(ops, name), *ours, **in_place(op, ours))}
    for peer, module in peers.items():
        if hasattr(module, name):
            made[peer] = module.call(getattr(module, name), own(args))
    return made
