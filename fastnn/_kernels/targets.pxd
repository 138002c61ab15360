from libc.stdint cimport uint64_t

cimport numpy as cnp

from fastnn._kernels.boundary cimport Chunk, Loop, Op, Task
from fastnn._kernels.loops.reductions cimport Sum, value

cdef enum Kind:
    CLASSES  # indices or one-hot or soft targets, row by row
    PROBABILITIES  # of class 1, or classes, element by element
    VALUES  # element by element

# What a loss op gives, one or both (then the array is written while t is still read), and what it takes beside x and t.
cdef enum:
    LOSS = 1
    ARRAY = 2
    EPS = 4
    DOUT = 8

# Rows of x with either targets (of its dtype) or labels, one of which is NULL; y is what the op writes, if anything.
cdef struct WithTargets:
    Task head
    const void* targets
    const Py_ssize_t* labels
    void* y
    double eps
    double dout
    Sum* sums  # where each chunk leaves its part of the loss


cdef class LossOp(Op):
    cdef Kind kind
    cdef int form
    cdef Loop[2] checks  # of labels or probabilities
    cdef Loop[4] labels_of  # one-hot rows of 1, 2, 4 and 8 bytes
    cdef Loop[8] loads  # of classes of 1, 2, 4 and 8 bytes, each as float32 and float64
    cdef Op array_alone  # what makes the array of x, where t has no part in it

cdef LossOp loss_op(
    str name, Kind kind, int form, Chunk float32, Chunk float64, Loop check32, Loop check64,
    Py_ssize_t long_enough, Op array_alone=*
)
cdef object loss(LossOp op, object x, object t, object dout, object eps, object out)

cdef object epsilon(object eps)
# Whether each row of t, which is (N, C), has the bits `one` at its label and 0 elsewhere; OUT labels (N,).
ctypedef bint (*LabelsOf)(
    const void* t, uint64_t one, Py_ssize_t* labels, Py_ssize_t N, Py_ssize_t C
) noexcept nogil

cdef uint64_t bits_of_one(int type_num) noexcept
cdef LabelsOf labels_of_rows(LossOp op, cnp.ndarray t) noexcept
cdef cnp.ndarray labels_of(LossOp op, cnp.ndarray t)
cdef cnp.ndarray targets_of(LossOp op, str name, cnp.ndarray x, cnp.ndarray t, bint steady)
cdef bint widen(LossOp op, cnp.ndarray x, cnp.ndarray t) except -1
cdef object run_loss(LossOp op, cnp.ndarray x, cnp.ndarray t, cnp.ndarray y, double eps, double dout)


cdef inline double mean_of(Sum s, Py_ssize_t N) noexcept nogil:
    """The loss of N rows or elements, of a sum that is negative."""
    # The total is not rounded with its error before the division, where a rounding may count double.
    return 0 - value(Sum(s.total / N, s.error / N))
