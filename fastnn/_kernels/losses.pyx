"""Losses and their gradients."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastnn._kernels.arrays cimport COMPILED_FOR
from fastnn._kernels.boundary cimport COMPUTES, MOVES, Chunk, Loop, Op
cimport fastnn._kernels.loops.losses as loops
from fastnn._kernels.targets cimport (
    ARRAY, CLASSES, DOUT, EPS, LOSS, PROBABILITIES, VALUES, Kind, LossOp, WithTargets, loss, loss_op
)
from fastnn._kernels.vmath cimport real

from fastnn import arguments

# Compiled for the same instruction set.
cdef Op SIGMOID, SOFTMAX
from .elementwise import SIGMOID
from .softmax import SOFTMAX

compiled_for = COMPILED_FOR.decode()


cdef LossOp of_classes(
    str name, int form, Chunk float32, Chunk float64, Py_ssize_t long_enough, Op array_alone=None
):
    cdef Loop check = <Loop> loops.first_bad_label
    cdef LossOp op = loss_op(name, CLASSES, form, float32, float64, check, check, long_enough, array_alone)
    op.labels_of[0], op.labels_of[1] = <Loop> loops.labels_of_rows[uint8_t], <Loop> loops.labels_of_rows[uint16_t]
    op.labels_of[2], op.labels_of[3] = <Loop> loops.labels_of_rows[uint32_t], <Loop> loops.labels_of_rows[uint64_t]
    return op


cdef LossOp of_elements(
    str name, Kind kind, int form, Chunk float32, Chunk float64, Py_ssize_t long_enough, Op array_alone=None
):
    cdef LossOp op = loss_op(
        name, kind, form, float32, float64,
        <Loop> loops.are_probabilities[float], <Loop> loops.are_probabilities[double], long_enough, array_alone
    )
    if kind == PROBABILITIES:
        op.loads[0] = <Loop> loops.classes_as_numbers[uint8_t, float]
        op.loads[1] = <Loop> loops.classes_as_numbers[uint8_t, double]
        op.loads[2] = <Loop> loops.classes_as_numbers[uint16_t, float]
        op.loads[3] = <Loop> loops.classes_as_numbers[uint16_t, double]
        op.loads[4] = <Loop> loops.classes_as_numbers[uint32_t, float]
        op.loads[5] = <Loop> loops.classes_as_numbers[uint32_t, double]
        op.loads[6] = <Loop> loops.classes_as_numbers[uint64_t, float]
        op.loads[7] = <Loop> loops.classes_as_numbers[uint64_t, double]
    return op


# ---------------------------------------------------------------- of classes

cdef void cross_entropy_error_chunk(
    const real* y, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    cdef Py_ssize_t C = k.head.C, at = first * C, n = last - first
    if k.labels != NULL:
        k.sums[chunk] = loops.cross_entropy_labels(y + at, k.labels + first, <real> k.eps, n, C)
    else:
        k.sums[chunk] = loops.cross_entropy_targets(y + at, <const real*> k.targets + at, <real> k.eps, n * C)


cdef void cross_entropy_error_backward_chunk(
    const real* y, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    cdef Py_ssize_t N = k.head.N, C = k.head.C, at = first * C, n = last - first
    cdef real dout = <real> k.dout, eps = <real> k.eps
    cdef real* dy = <real*> k.y + at
    if k.labels != NULL:
        loops.cross_entropy_labels_backward(y + at, k.labels + first, dout, eps, dy, N, n, C)
    else:
        loops.cross_entropy_targets_backward(y + at, <const real*> k.targets + at, dout, eps, dy, N, n * C)


cdef void softmax_cross_entropy_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    cdef Py_ssize_t C = k.head.C, at = first * C, n = last - first
    cdef real eps = <real> k.eps
    cdef bint exact = k.eps == 0
    cdef real* y = <real*> k.y + at
    if k.labels != NULL:
        k.sums[chunk] = loops.softmax_cross_entropy_labels(x + at, k.labels + first, eps, exact, y, n, C)
    else:
        k.sums[chunk] = loops.softmax_cross_entropy_targets(
            x + at, <const real*> k.targets + at, eps, exact, y, n, C
        )


cdef void softmax_cross_entropy_backward_chunk(
    const real* y, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    cdef Py_ssize_t C = k.head.C, at = first * C, n = last - first
    cdef real factor = <real> (k.dout / k.head.N)
    cdef real* dx = <real*> k.y + at
    if k.labels != NULL:
        loops.softmax_cross_entropy_labels_backward(y + at, k.labels + first, factor, dx, n, C)
    else:
        loops.softmax_cross_entropy_targets_backward(y + at, <const real*> k.targets + at, factor, dx, n, C)


cdef void softmax_cross_entropy_and_grad_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    cdef Py_ssize_t C = k.head.C, at = first * C, n = last - first
    cdef real eps = <real> k.eps, factor = <real> (k.dout / k.head.N)
    cdef bint exact = k.eps == 0
    cdef real* dx = <real*> k.y + at
    if k.labels != NULL:
        k.sums[chunk] = loops.softmax_cross_entropy_labels_and_grad(
            x + at, k.labels + first, eps, exact, factor, dx, n, C
        )
    else:
        k.sums[chunk] = loops.softmax_cross_entropy_targets_and_grad(
            x + at, <const real*> k.targets + at, eps, exact, factor, dx, n, C
        )


CROSS_ENTROPY_ERROR = of_classes(
    "cross_entropy_error", LOSS | EPS,
    <Chunk> cross_entropy_error_chunk[float], <Chunk> cross_entropy_error_chunk[double], COMPUTES
)
CROSS_ENTROPY_ERROR_BACKWARD = of_classes(
    "cross_entropy_error_backward", ARRAY | EPS | DOUT,
    <Chunk> cross_entropy_error_backward_chunk[float], <Chunk> cross_entropy_error_backward_chunk[double], MOVES
)
SOFTMAX_CROSS_ENTROPY = of_classes(
    "softmax_cross_entropy", LOSS | ARRAY | EPS,
    <Chunk> softmax_cross_entropy_chunk[float], <Chunk> softmax_cross_entropy_chunk[double], COMPUTES, SOFTMAX
)
SOFTMAX_CROSS_ENTROPY_BACKWARD = of_classes(
    "softmax_cross_entropy_backward", ARRAY | DOUT,
    <Chunk> softmax_cross_entropy_backward_chunk[float], <Chunk> softmax_cross_entropy_backward_chunk[double], MOVES
)
SOFTMAX_CROSS_ENTROPY_AND_GRAD = of_classes(
    "softmax_cross_entropy_and_grad", LOSS | ARRAY | EPS | DOUT,
    <Chunk> softmax_cross_entropy_and_grad_chunk[float], <Chunk> softmax_cross_entropy_and_grad_chunk[double],
    COMPUTES
)


def cross_entropy_error(y, t, *, eps=arguments.EPS):
    return loss(CROSS_ENTROPY_ERROR, y, t, 1.0, eps, None)


def cross_entropy_error_backward(y, t, dout=1.0, *, eps=arguments.EPS, out=None):
    return loss(CROSS_ENTROPY_ERROR_BACKWARD, y, t, dout, eps, out)


def softmax_cross_entropy(x, t, *, eps=arguments.EPS, out=None):
    return loss(SOFTMAX_CROSS_ENTROPY, x, t, 1.0, eps, out)


def softmax_cross_entropy_backward(y, t, dout=1.0, *, out=None):
    return loss(SOFTMAX_CROSS_ENTROPY_BACKWARD, y, t, dout, 0.0, out)


def softmax_cross_entropy_and_grad(x, t, dout=1.0, *, eps=arguments.EPS, out=None):
    return loss(SOFTMAX_CROSS_ENTROPY_AND_GRAD, x, t, dout, eps, out)


# ---------------------------------------------------------------- element by element

cdef void sigmoid_cross_entropy_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    k.sums[chunk] = loops.sigmoid_cross_entropy(
        x + first, <const real*> k.targets + first, <real> k.eps, k.eps == 0, <real*> k.y + first, last - first
    )


cdef void squared_error_chunk(
    const real* y, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    k.sums[chunk] = loops.squared_error(y + first, <const real*> k.targets + first, last - first)


cdef void scaled_difference_chunk(
    const real* y, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const WithTargets* k = <const WithTargets*> task
    cdef real factor = <real> (k.dout / k.head.N)
    loops.scaled_difference(
        y + first, <const real*> k.targets + first, <real> 1, factor, <real*> k.y + first, last - first
    )


SIGMOID_CROSS_ENTROPY = of_elements(
    "sigmoid_cross_entropy", PROBABILITIES, LOSS | ARRAY | EPS,
    <Chunk> sigmoid_cross_entropy_chunk[float], <Chunk> sigmoid_cross_entropy_chunk[double], COMPUTES, SIGMOID
)
SIGMOID_CROSS_ENTROPY_BACKWARD = of_elements(
    "sigmoid_cross_entropy_backward", PROBABILITIES, ARRAY | DOUT,
    <Chunk> scaled_difference_chunk[float], <Chunk> scaled_difference_chunk[double], MOVES
)
MEAN_SQUARED_ERROR = of_elements(
    "mean_squared_error", VALUES, LOSS, <Chunk> squared_error_chunk[float], <Chunk> squared_error_chunk[double], MOVES
)
MEAN_SQUARED_ERROR_BACKWARD = of_elements(
    "mean_squared_error_backward", VALUES, ARRAY | DOUT,
    <Chunk> scaled_difference_chunk[float], <Chunk> scaled_difference_chunk[double], MOVES
)


def sigmoid_cross_entropy(x, t, *, eps=arguments.EPS, out=None):
    return loss(SIGMOID_CROSS_ENTROPY, x, t, 1.0, eps, out)


def sigmoid_cross_entropy_backward(y, t, dout=1.0, *, out=None):
    return loss(SIGMOID_CROSS_ENTROPY_BACKWARD, y, t, dout, 0.0, out)


def mean_squared_error(y, t):
    return loss(MEAN_SQUARED_ERROR, y, t, 1.0, 0.0, None)


def mean_squared_error_backward(y, t, dout=1.0, *, out=None):
    return loss(MEAN_SQUARED_ERROR_BACKWARD, y, t, dout, 0.0, out)
