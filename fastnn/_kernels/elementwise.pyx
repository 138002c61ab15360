"""Element by element: activations and their gradients."""

from libc.stdint cimport uint8_t

cimport numpy as cnp

from fastnn._kernels.arrays cimport COMPILED_FOR, PyArray_ISCARRAY_RO, PyArray_SAMESHAPE, data
from fastnn._kernels.boundary cimport (
    CHUNKS, COMPUTES, MOVES, Chunk, Loop, Op, Task,
    binary, binary_op, chunked_op, fall_back, fresh, given, given_back, head, plain, result, run, unary, unary_op
)
cimport fastnn._kernels.loops.elementwise as loops
from fastnn._kernels.vmath cimport real

from fastnn import arguments

compiled_for = COMPILED_FOR.decode()

RELU = unary_op("relu", <Loop> loops.relu[float], <Loop> loops.relu[double], MOVES)
STEP_PRODUCT = binary_op("step_product", <Loop> loops.step_product[float], <Loop> loops.step_product[double], MOVES)
SIGMOID = unary_op("sigmoid", <Loop> loops.sigmoid[float], <Loop> loops.sigmoid[double], COMPUTES)
SIGMOID_BACKWARD = binary_op(
    "sigmoid_backward", <Loop> loops.sigmoid_backward[float], <Loop> loops.sigmoid_backward[double], MOVES
)
TANH = unary_op("tanh", <Loop> loops.tanh[float], <Loop> loops.tanh[double], COMPUTES)
TANH_BACKWARD = binary_op("tanh_backward", <Loop> loops.tanh_backward[float], <Loop> loops.tanh_backward[double], MOVES)


def relu(x, *, out=None):
    return unary(RELU, x, out)


def step_product(a, x, *, out=None):
    return binary(STEP_PRODUCT, "a", a, "x", x, out)


def sigmoid(x, *, out=None):
    return unary(SIGMOID, x, out)


def sigmoid_backward(dout, y, *, out=None):
    return binary(SIGMOID_BACKWARD, "dout", dout, "y", y, out)


def tanh(x, *, out=None):
    return unary(TANH, x, out)


def tanh_backward(dout, y, *, out=None):
    return binary(TANH_BACKWARD, "dout", dout, "y", y, out)


# ---------------------------------------------------------------- with ReLU's mask

cdef struct Masked:
    Task head
    void* y
    uint8_t* mask


cdef Masked masked(Op op, cnp.ndarray x, cnp.ndarray y, cnp.ndarray mask) noexcept:
    return Masked(head(op, x), data(y), <uint8_t*> data(mask))


cdef void relu_with_mask_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Masked* k = <const Masked*> task
    loops.relu_with_mask(x + first, <real*> k.y + first, k.mask + first, last - first)


cdef void relu_backward_chunk(
    const real* dout, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Masked* k = <const Masked*> task
    loops.relu_backward(dout + first, k.mask + first, <real*> k.y + first, last - first)


RELU_WITH_MASK = chunked_op(
    "relu_with_mask", <Chunk> relu_with_mask_chunk[float], <Chunk> relu_with_mask_chunk[double], MOVES, False
)
RELU_BACKWARD = chunked_op(
    "relu_backward", <Chunk> relu_backward_chunk[float], <Chunk> relu_backward_chunk[double], MOVES, False
)


def relu_with_mask(x, *, out=None):
    x = given("x", x, 0)
    cdef cnp.ndarray a = plain(x, 0)
    if a is None:
        return fall_back("relu_with_mask")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x, None), mask = fresh(a, cnp.NPY_BOOL)
    cdef Masked task = masked(RELU_WITH_MASK, a, y, mask)
    run(RELU_WITH_MASK, a, &task.head, task.head.N, 1, CHUNKS)
    return given_back(y, out), given_back(mask, None)


cdef cnp.ndarray plain_mask(cnp.ndarray mask, cnp.ndarray dout):
    if not (
        cnp.PyArray_TYPE(mask) == cnp.NPY_BOOL and PyArray_ISCARRAY_RO(mask) and PyArray_SAMESHAPE(mask, dout)
    ):
        mask = cnp.PyArray_FROM_OTF(arguments.boolean_mask(mask, dout), cnp.NPY_BOOL, cnp.NPY_ARRAY_CARRAY_RO)
    return mask


def relu_backward(dout, mask, *, out=None):
    dout, mask = given("dout", dout, 0), given("mask", mask, 0)
    cdef cnp.ndarray a = plain(dout, 0)
    if a is None:
        return fall_back("relu_backward")(dout, mask, out=out)
    cdef cnp.ndarray m = plain_mask(mask, a)
    cdef cnp.ndarray dx = result(out, a, dout, mask)
    cdef Masked task = masked(RELU_BACKWARD, a, dx, m)
    run(RELU_BACKWARD, a, &task.head, task.head.N, 1, CHUNKS)
    return given_back(dx, out)
