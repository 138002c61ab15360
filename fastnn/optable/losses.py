"""Losses and their gradients."""

from fastnn.optable.base import Op
from fastnn.optable.samples import binary_labels, each, fractions, labels, numbers, probabilities

OPS = (
    Op("cross_entropy_error", each(probabilities, labels), 4),
    Op("cross_entropy_error_backward", each(probabilities, labels), 0),
    Op("softmax_cross_entropy", each(numbers, labels), 4, lambda x, t: (1.0, 0.0)),
    Op("softmax_cross_entropy_backward", each(probabilities, labels), 0),
    # At its label a row has the difference of a probability and 1, divided by the number of rows.
    Op("softmax_cross_entropy_and_grad", each(numbers, labels), 4, lambda x, t: (1.0, x.shape[-1] / x.size)),
    Op("sigmoid_cross_entropy", each(numbers, binary_labels), 4, lambda x, t: (1.0, 0.0)),
    Op("sigmoid_cross_entropy_backward", each(fractions, binary_labels), 0),
    Op("mean_squared_error", each(numbers, numbers), 1),
    Op("mean_squared_error_backward", each(numbers, numbers), 0),
)
