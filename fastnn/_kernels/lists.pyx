"""Questions about lists of arrays that are asked at every step of a training, where in Python each would cost more than
the step of a small network."""

cimport numpy as cnp

from fastnn._kernels.arrays cimport (
    PyArray_CheckExact,
    PyArray_ISCARRAY,
    PyArray_ISCARRAY_RO,
    PyArray_SAMESHAPE,
    apart,
    native,
    same_type,
)

cnp.import_array()


def same_objects(list a, list b):
    """Whether two lists hold the same objects."""
    cdef Py_ssize_t i
    if len(a) != len(b):
        return False
    for i in range(len(a)):
        if a[i] is not b[i]:
            return False
    return True


def can_step_in_place(params, grads):
    """Whether two lists hold plain arrays of float32 or float64, alike two by two and apart, the first writeable."""
    cdef Py_ssize_t i
    cdef cnp.ndarray p, dp
    if type(params) is not list or type(grads) is not list or len(<list> params) != len(<list> grads):
        return False
    for i in range(len(<list> params)):
        if not PyArray_CheckExact((<list> params)[i]) or not PyArray_CheckExact((<list> grads)[i]):
            return False
        p, dp = (<list> params)[i], (<list> grads)[i]
        if not (native(cnp.PyArray_TYPE(p)) and same_type(p, dp) and PyArray_SAMESHAPE(p, dp)):
            return False
        if not (PyArray_ISCARRAY(p) and PyArray_ISCARRAY_RO(dp) and apart(p, dp)):
            return False
    return True


def are_apart(list arrays):
    """Whether they are exact arrays, C-contiguous and aligned, of which no two have a byte in common."""
    cdef Py_ssize_t i, k
    for i in range(len(arrays)):
        if not PyArray_CheckExact(arrays[i]) or not PyArray_ISCARRAY_RO(<cnp.ndarray> arrays[i]):
            return False
        for k in range(i):
            if not apart(<cnp.ndarray> arrays[i], <cnp.ndarray> arrays[k]):
                return False
    return True
