"""Matrix products, which are NumPy's, by its BLAS."""

from cpython.contextvars cimport PyContext_Copy, PyContext_Enter, PyContext_Exit

cimport numpy as cnp

import contextvars

import numpy as np

from fastnn._kernels.arrays cimport PyArray_CheckExact, PyArray_ISCARRAY_RO, PyTypeNum_ISNUMBER, native, same_type
from fastnn._kernels.boundary cimport common_type, empty, widened

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    object PyArray_MatrixProduct2(object a, object b, cnp.ndarray out)


cdef bint is_matrix(object x) noexcept:
    """Of any layout that BLAS or NumPy can read."""
    return (
        PyArray_CheckExact(x)
        and native(cnp.PyArray_TYPE(<cnp.ndarray> x))
        and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray> x)
        and cnp.PyArray_NDIM(<cnp.ndarray> x) == 2
    )


cdef bint is_row(object b, cnp.ndarray W) noexcept:
    """In the plain case, with one number of W's dtype for each of its columns."""
    return (
        PyArray_CheckExact(b)
        and same_type(<cnp.ndarray> b, W)
        and PyArray_ISCARRAY_RO(<cnp.ndarray> b)
        and cnp.PyArray_NDIM(<cnp.ndarray> b) == 1
        and cnp.PyArray_DIM(<cnp.ndarray> b, 0) == cnp.PyArray_DIM(W, 1)
    )


cdef bint can_be_multiplied(object x, object W) noexcept:
    """Matrices of one dtype whose product exists."""
    return (
        is_matrix(x)
        and is_matrix(W)
        and same_type(<cnp.ndarray> x, <cnp.ndarray> W)
        and cnp.PyArray_DIM(<cnp.ndarray> x, 1) == cnp.PyArray_DIM(<cnp.ndarray> W, 0)
    )


cdef cnp.ndarray behaved(cnp.ndarray x, int type_num):
    """x as BLAS or NumPy can read it, in a type that holds all its numbers, and with its order of axes."""
    if cnp.PyArray_TYPE(x) != type_num and cnp.PyArray_IS_C_CONTIGUOUS(x):
        return widened(x, type_num)
    return cnp.PyArray_FROM_OTF(x, type_num, cnp.NPY_ARRAY_ALIGNED)


def as_factor(x, W):
    """x as a product with W takes it: itself, or its copy in W's dtype where NumPy would make one, too."""
    if not PyArray_CheckExact(x) or not PyArray_CheckExact(W) or same_type(<cnp.ndarray> x, <cnp.ndarray> W):
        return x
    if PyTypeNum_ISNUMBER(cnp.PyArray_TYPE(<cnp.ndarray> x)) and native(cnp.PyArray_TYPE(<cnp.ndarray> W)):
        if common_type(x, W) == cnp.PyArray_TYPE(<cnp.ndarray> W):
            return behaved(x, cnp.PyArray_TYPE(<cnp.ndarray> W))
    return x


cdef cnp.ndarray as_matrix(cnp.ndarray x, Py_ssize_t N, Py_ssize_t K):
    return x if cnp.PyArray_NDIM(x) == 2 else x.reshape(N, K)


cdef cnp.ndarray matrix_of(object out, Py_ssize_t N, Py_ssize_t M):
    """A checked output, which may be of a subclass."""
    return as_matrix(out if PyArray_CheckExact(out) else np.ndarray.view(out, np.ndarray), N, M)


cdef cnp.ndarray transposed(cnp.ndarray x):
    return cnp.PyArray_Transpose(x, NULL)


# In which NumPy says nothing of an overflow.
cdef object without_warnings = contextvars.Context()
without_warnings.run(np.seterr, all="ignore")


cdef cnp.ndarray product(cnp.ndarray a, cnp.ndarray b, object out):
    """a b, in `out` if it is given, an array of whatever shape and the right size."""
    cdef cnp.npy_intp[2] shape
    cdef cnp.ndarray y
    shape[0], shape[1] = cnp.PyArray_DIM(a, 0), cnp.PyArray_DIM(b, 1)
    if out is None:
        y = empty(2, shape, cnp.PyArray_TYPE(a))
    else:
        y = matrix_of(out, shape[0], shape[1])
    # Copying a context takes a tenth of the time that np.errstate does.
    cdef object context = PyContext_Copy(without_warnings)
    PyContext_Enter(context)
    try:
        PyArray_MatrixProduct2(a, b, y)
    finally:
        PyContext_Exit(context)
    return y
