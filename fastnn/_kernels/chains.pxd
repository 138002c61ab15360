cimport numpy as cnp

from fastnn._kernels.boundary cimport ColumnsOp, Op, Task
from fastnn._kernels.targets cimport LossOp

cdef enum:
    # Up to how many multiplications a loop of our own is faster than a call of BLAS.
    SMALL = 2048

# A small product: x, of the head, and b make y; N, K and M are as the loops have them.
cdef struct Product:
    Task head
    const void* b
    void* y
    Py_ssize_t N
    Py_ssize_t K
    Py_ssize_t M


cdef class Activation:
    """What adds the bias, what follows, None if that is it, and the gradient from the output; all in place."""
    cdef Op add_bias
    cdef Op forward
    cdef Op backward


cdef class Loss:
    """A loss, its gradient from what it has left in place of the outputs, None if that is it; the outputs' name."""
    cdef LossOp loss
    cdef LossOp gradient
    cdef str name


cdef class ChainOps:
    """What a chain is made of, compiled for one instruction set."""
    cdef Op x_W, xT_dout, dout_WT, add_bias
    cdef ColumnsOp bias_grad
    cdef dict activations, losses  # by name
    cdef dict steps  # by name: the op, and the function, which checks its numbers


cdef tuple gradient(
    ChainOps ops, object x, object t, tuple params, object activation, object loss, object eps, object out
)

cdef list forward(
    ChainOps ops, Activation activation, cnp.ndarray x, tuple params, cnp.ndarray y, Py_ssize_t N, list hidden=*
)
cdef object loss_and_gradient(Loss loss, cnp.ndarray y, cnp.ndarray t, double eps)
cdef list backward(
    ChainOps ops, Activation activation, list inputs, tuple params, cnp.ndarray dout, Py_ssize_t N, tuple out,
    list hidden=*
)


cdef inline int need_same(bint same) except -1:
    if not same:
        raise RuntimeError("an argument changed its shape while others were being read")
    return 0
