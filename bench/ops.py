"""The ops of the op table, each beside what the peers have under its name."""

import numpy as np

from bench import ours
from fastnn.optable import OPS

# Matrix products are every library's BLAS, and almost all of the ops that are made of them: these are timed as layers
# and as training steps.
TIMED = [name for name, op in OPS.items() if not op.products]


def op_of(name):
    return OPS[name]


def shapes(op, wanted):
    """Those of the wanted ones that have the dimensions of the op's arrays; if none has, the op table's."""
    return [shape for shape in wanted if len(shape) == len(op.shapes[0])] or [op.shapes[0], *op.large]


def written(op):
    """Into how many of its first arguments a call writes: a step's are its parameter and what is kept for that."""
    return len(op.out) if op.family == "steps" else 0


def calls(name, dtype, shape, peers):
    """For each contender that has the op, fastnn first, a function without arguments that computes it."""
    op = op_of(name)
    args = op.example(np.random.default_rng(shape), shape, dtype)
    made = {"fastnn": ours.op(name, args, written(op))}
    for peer, module in peers.items():
        if hasattr(module, name):
            made[peer] = module.call(getattr(module, name), ours.placed(args))
    return made
