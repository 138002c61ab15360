"""Element by element."""

from libc.stdint cimport uint8_t

from fastnn._kernels.loops cimport moves
from fastnn._kernels.vmath cimport real, sigmoid as sigmoid_of, tanh as tanh_of


cdef inline moves relu(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = <real> 0 if x[i] <= 0 else x[i]


cdef inline moves relu_with_mask(const real* x, real* y, uint8_t* mask, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), mask (n,), y in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        mask[i] = x[i] <= 0
        y[i] = <real> 0 if x[i] <= 0 else x[i]


cdef inline void relu_backward(const real* dout, const uint8_t* mask, real* dx, Py_ssize_t n) noexcept nogil:
    """IN dout (n,), mask (n,), OUT dx (n,), in place allowed."""
    cdef real kept
    cdef Py_ssize_t i
    for i in range(n):
        kept = dout[i]  # read in any case: without masked loads a conditional one is not vectorised
        dx[i] = <real> 0 if mask[i] else kept


cdef inline void step_product(const real* a, const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """IN a, x (n,), OUT y (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = a[i] * (<real> 1 if x[i] > 0 else <real> 0)


cdef inline void sigmoid(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = sigmoid_of(x[i])


cdef inline moves sigmoid_backward(const real* dout, const real* y, real* dx, Py_ssize_t n) noexcept nogil:
    """IN dout, y (n,), OUT dx (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dout[i] * (<real> 1 - y[i]) * y[i]


cdef inline void tanh(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = tanh_of(x[i])


cdef inline moves tanh_backward(const real* dout, const real* y, real* dx, Py_ssize_t n) noexcept nogil:
    """IN dout, y (n,), OUT dx (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dout[i] * (<real> 1 - y[i] * y[i])
