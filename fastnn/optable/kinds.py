"""What the rows of a kind have in common."""

from functools import partial

from fastnn.optable.base import Op
from fastnn.optable.refusals import ANY, other_shapes
from fastnn.optable.samples import LARGE, NO_COLUMNS, NO_ROWS, SHAPES

# Each element alone; arrays of one shape.
elementwise = partial(Op, shapes=(*SHAPES, *NO_COLUMNS, *NO_ROWS, ()), large=LARGE, refused=(*ANY, other_shapes))

# Of shape (..., C).
by_rows = partial(
    Op, shapes=(*SHAPES, *NO_COLUMNS, *NO_ROWS), bad_shapes=((),), large=LARGE, refused=(*ANY, other_shapes)
)
