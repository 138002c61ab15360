"""Activations."""

from fastnn.optable.base import Op
from fastnn.optable.samples import each, fractions, mask, numbers

OPS = (
    Op("relu", each(numbers), 0),
    Op("relu_with_mask", each(numbers), 0),
    Op("relu_backward", each(numbers, mask), 0),
    Op("sigmoid", each(numbers), 4),
    Op("sigmoid_backward", each(numbers, fractions), 0),
)
