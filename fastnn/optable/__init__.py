"""The ops, one row each: arguments to try an op with, and how closely every backend agrees with the reference.

Tests, reports and benchmarks read this table; an op without a row does not exist.
"""

from fastnn.optable import affine, elementwise, losses, perceptron, softmax, steps
from fastnn.optable.base import Op as Op
from fastnn.optable.base import as_tuple as as_tuple
from fastnn.optable.base import ulps as ulps

FAMILIES = elementwise, softmax, losses, affine, perceptron, steps

OPS = {op.name: op for family in FAMILIES for op in family.OPS}

# How closely training on a compiled backend follows the reference: the largest relative difference of the losses over
# so many steps of the two-layer network on the digits, by dtype.  In float32 a sum in another order now and then puts a
# ReLU on its other side, and the learning rate carries that on.
LOSS_CURVE = {"float64": 1e-9, "float32": 5e-2}
LOSS_CURVE_STEPS = 1000
