"""Row by row: softmax and its gradient."""

from fastnn._kernels.arrays cimport COMPILED_FOR
from fastnn._kernels.boundary cimport COMPUTES, MOVES, Loop, binary, binary_op_by_rows, unary, unary_op_by_rows
cimport fastnn._kernels.loops.softmax as loops

compiled_for = COMPILED_FOR.decode()

SOFTMAX = unary_op_by_rows("softmax", <Loop> loops.softmax[float], <Loop> loops.softmax[double], COMPUTES)
SOFTMAX_BACKWARD = binary_op_by_rows(
    "softmax_backward", <Loop> loops.softmax_backward[float], <Loop> loops.softmax_backward[double], MOVES
)


def softmax(x, *, out=None):
    return unary(SOFTMAX, x, out)


def softmax_backward(dout, y, *, out=None):
    return binary(SOFTMAX_BACKWARD, "dout", dout, "y", y, out)
