"""A perceptron: its products where they are small, what is done between them, and the ops that make a gradient and a
descent of these and those of other families."""

from fastnn._kernels.arrays cimport COMPILED_FOR
from fastnn._kernels.boundary cimport MOVES, Arrays, Chunk, ColumnsOp, Op, chunked_op
from fastnn._kernels.chains cimport Activation, ChainOps, Loss, Product, gradient
from fastnn._kernels.descents cimport descent
cimport fastnn._kernels.loops.perceptron as loops
from fastnn._kernels.vmath cimport real

from fastnn import arguments

# Compiled for the same instruction set.
cdef Op ADD_BIAS, SIGMOID, SIGMOID_BACKWARD, TANH, TANH_BACKWARD
cdef ColumnsOp BIAS_GRAD
from .affine import ADD_BIAS, BIAS_GRAD
from .elementwise import SIGMOID, SIGMOID_BACKWARD, TANH, TANH_BACKWARD
from .losses import (
    MEAN_SQUARED_ERROR,
    MEAN_SQUARED_ERROR_BACKWARD,
    SIGMOID_CROSS_ENTROPY,
    SIGMOID_CROSS_ENTROPY_BACKWARD,
    SOFTMAX_CROSS_ENTROPY_AND_GRAD,
)
from .steps import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, SGD, adagrad, adam, momentum, nesterov, rmsprop, sgd

compiled_for = COMPILED_FOR.decode()


# ---------------------------------------------------------------- products

cdef void x_W_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Product* k = <const Product*> task
    loops.small_product(x, <const real*> k.b, <real*> k.y, k.N, k.K, k.M)


cdef void xT_dout_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Product* k = <const Product*> task
    loops.small_product_xt(x, <const real*> k.b, <real*> k.y, k.N, k.K, k.M)


cdef void dout_WT_chunk(
    const real* dout, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Product* k = <const Product*> task
    loops.small_product_wt(dout, <const real*> k.b, <real*> k.y, k.N, k.K, k.M)


cdef Op X_W = chunked_op("x W", <Chunk> x_W_chunk[float], <Chunk> x_W_chunk[double], MOVES, False)
cdef Op XT_DOUT = chunked_op("x^T dout", <Chunk> xT_dout_chunk[float], <Chunk> xT_dout_chunk[double], MOVES, False)
cdef Op DOUT_WT = chunked_op("dout W^T", <Chunk> dout_WT_chunk[float], <Chunk> dout_WT_chunk[double], MOVES, False)


# ---------------------------------------------------------------- between the products, in place

# Their x is y.

cdef void add_bias_relu_chunk(
    const real* y, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    loops.add_bias_relu(<const real*> k.x2, <real*> k.y + first * k.head.C, last - first, k.head.C)


cdef void relu_backward_from_output_chunk(
    const real* dh, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    loops.relu_backward_from_output(<const real*> k.x2 + first, <real*> k.y + first, last - first)


cdef Op ADD_BIAS_RELU = chunked_op(
    "add_bias_relu", <Chunk> add_bias_relu_chunk[float], <Chunk> add_bias_relu_chunk[double], MOVES, True
)
cdef Op RELU_BACKWARD_FROM_OUTPUT = chunked_op(
    "relu_backward_from_output",
    <Chunk> relu_backward_from_output_chunk[float], <Chunk> relu_backward_from_output_chunk[double], MOVES, False
)


# ---------------------------------------------------------------- all of it

cdef ChainOps OPS = ChainOps(
    x_W=X_W,
    xT_dout=XT_DOUT,
    dout_WT=DOUT_WT,
    add_bias=ADD_BIAS,
    bias_grad=BIAS_GRAD,
    activations={
        "relu": Activation(ADD_BIAS_RELU, None, RELU_BACKWARD_FROM_OUTPUT),
        "sigmoid": Activation(ADD_BIAS, SIGMOID, SIGMOID_BACKWARD),
        "tanh": Activation(ADD_BIAS, TANH, TANH_BACKWARD),
    },
    losses={
        "softmax": Loss(SOFTMAX_CROSS_ENTROPY_AND_GRAD, None, "x"),
        "sigmoid": Loss(SIGMOID_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY_BACKWARD, "x"),
        "identity": Loss(MEAN_SQUARED_ERROR, MEAN_SQUARED_ERROR_BACKWARD, "y"),
    },
    steps={
        "sgd": (SGD, sgd),
        "momentum": (MOMENTUM, momentum),
        "nesterov": (NESTEROV, nesterov),
        "adagrad": (ADAGRAD, adagrad),
        "rmsprop": (RMSPROP, rmsprop),
        "adam": (ADAM, adam),
    },
)


def mlp_gradient(x, t, *params, activation="relu", loss="softmax", eps=arguments.EPS, out=None):
    return gradient(OPS, x, t, params, activation, loss, eps, out)


def mlp_descent(
    x, t, order, batch_size, lr, *params, step="sgd", constants=(), activation="relu", loss="softmax",
    eps=arguments.EPS, out=None
):
    return descent(OPS, x, t, order, batch_size, lr, params, step, constants, activation, loss, eps, out)
