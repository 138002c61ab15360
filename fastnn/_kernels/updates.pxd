from libc.math cimport pow, sqrt

from fastnn._kernels.boundary cimport Loop, Op, Task

# x, of the head, is the gradient; what the op does not keep is NULL.
cdef struct Update:
    Task head
    const double* constants
    void* p
    void* a
    void* b


cdef class UpdateOp(Op):
    cdef tuple names  # of what it changes: the parameter and what is kept beside it

# Of loops (dp, constants, p, a, b, n).
cdef UpdateOp update_op(str name, tuple names, Loop float32, Loop float64)
cdef object update(UpdateOp op, object p, object a, object b, object dp, const double* constants, object out)

cdef double finite(str name, object number) except? -1


cdef inline double adam_rate(double lr, double beta1, double beta2, double iter) noexcept nogil:
    """As arguments.adam_rate has it, of numbers that are known to be good."""
    return lr * sqrt(1 - pow(beta2, iter)) / (1 - pow(beta1, iter))
