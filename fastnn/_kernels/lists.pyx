"""Questions about lists of arrays that are asked at every step of a training, where in Python each would cost more than
the step of a small network."""

cimport numpy as cnp

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_CheckExact(object x)
    bint PyArray_ISCARRAY(cnp.ndarray x)
    bint PyArray_ISCARRAY_RO(cnp.ndarray x)
    bint PyArray_SAMESHAPE(cnp.ndarray x, cnp.ndarray y)


def are_same(list a, list b):
    """Whether two lists hold the same objects."""
    cdef Py_ssize_t i
    if len(a) != len(b):
        return False
    for i in range(len(a)):
        if a[i] is not b[i]:
            return False
    return True


def go_together(params, grads):
    """Whether two lists hold plain arrays of float32 or float64, alike two by two and apart, the first writeable."""
    cdef Py_ssize_t i
    cdef cnp.ndarray p, dp
    cdef int type_num
    cdef char* first
    cdef char* other
    cdef Py_ssize_t size
    if type(params) is not list or type(grads) is not list or len(<list> params) != len(<list> grads):
        return False
    for i in range(len(<list> params)):
        if not PyArray_CheckExact((<list> params)[i]) or not PyArray_CheckExact((<list> grads)[i]):
            return False
        p, dp = (<list> params)[i], (<list> grads)[i]
        type_num = cnp.PyArray_TYPE(p)
        if type_num != cnp.PyArray_TYPE(dp) or type_num != cnp.NPY_FLOAT32 and type_num != cnp.NPY_FLOAT64:
            return False
        if not (PyArray_ISCARRAY(p) and PyArray_ISCARRAY_RO(dp) and PyArray_SAMESHAPE(p, dp)):
            return False
        first, other, size = cnp.PyArray_BYTES(p), cnp.PyArray_BYTES(dp), cnp.PyArray_NBYTES(p)
        if first < other + size and other < first + size:
            return False
    return True
