"""Steps of the optimizers: a parameter, what is kept for it, its gradient, and numbers."""

from fastnn.optable.base import Op
from fastnn.optable.samples import constant, each, numbers, positive

OPS = tuple(
    Op(name, each(numbers, *[positive] * kept, numbers, *map(constant, constants)), 0, outs=1 + kept)
    for name, kept, constants in (
        ("sgd", 0, (0.1,)),
        ("momentum", 1, (0.1, 0.9)),
        ("nesterov", 1, (0.1, 0.9)),
        ("adagrad", 1, (0.1,)),
        ("rmsprop", 1, (0.1, 0.99)),
        ("adam", 2, (0.1, 0.9, 0.999, 3)),
    )
)
