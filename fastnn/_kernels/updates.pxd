from fastnn._kernels.boundary cimport Loop, Op


cdef class UpdateOp(Op):
    cdef tuple names  # of what it changes: the parameter and what is kept beside it

# Of loops (dp, constants, p, a, b, n), where what the op does not keep is NULL.
cdef UpdateOp update_op(str name, tuple names, Loop float32, Loop float64)
cdef object update(UpdateOp op, object p, object a, object b, object dp, const double* constants, object out)

cdef double finite(str name, object number) except? -1
