"""What the kernels ask of arrays, through NumPy's C API: no Python runs here, and nothing is refused."""

cimport numpy as cnp

cdef extern from "numpy/arrayobject.h":
    bint PyArray_CheckExact(object x)
    bint PyArray_ISCARRAY(cnp.ndarray x)
    bint PyArray_ISCARRAY_RO(cnp.ndarray x)
    bint PyArray_SAMESHAPE(cnp.ndarray x, cnp.ndarray y)
    bint PyTypeNum_ISFLOAT(int type_num)
    bint PyTypeNum_ISINTEGER(int type_num)
    bint PyTypeNum_ISNUMBER(int type_num)

cdef extern from *:
    """
    #if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    #define FASTNN_COMPILED_FOR "x86-64-v4"
    #elif defined(__AVX2__)
    #define FASTNN_COMPILED_FOR "x86-64-v3"
    #elif defined(__SSE4_2__) || defined(_M_X64)
    #define FASTNN_COMPILED_FOR "x86-64-v2"
    #else
    #define FASTNN_COMPILED_FOR "generic"
    #endif
    """
    # What the compiler was told to use: its own word, not the build script's.
    const char* COMPILED_FOR "FASTNN_COMPILED_FOR"


cdef inline bint native(int type_num) noexcept:
    return type_num == cnp.NPY_FLOAT32 or type_num == cnp.NPY_FLOAT64


cdef inline bint same_type(cnp.ndarray x, cnp.ndarray y) noexcept:
    return cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(y)


cdef inline void* data(cnp.ndarray x) noexcept:
    """The memory of x; NULL of None."""
    if x is None:
        return NULL
    return cnp.PyArray_DATA(x)


cdef inline Py_ssize_t columns(cnp.ndarray x) noexcept:
    return cnp.PyArray_DIM(x, cnp.PyArray_NDIM(x) - 1)


cdef inline Py_ssize_t rows(cnp.ndarray x) noexcept:
    return cnp.PyArray_SIZE(x) // columns(x) if columns(x) else 0


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Both are C-contiguous and have no byte in common: `fastnn.arguments` looks closer where it is False."""
    cdef char* first = cnp.PyArray_BYTES(a)
    cdef char* other = cnp.PyArray_BYTES(b)
    if not (cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_IS_C_CONTIGUOUS(b)):
        return False
    return other + cnp.PyArray_NBYTES(b) <= first or first + cnp.PyArray_NBYTES(a) <= other


cdef inline bint itself_or_apart(cnp.ndarray y, cnp.ndarray x) noexcept:
    """x, if there is one, is y's own memory, read in the same way, or apart from it."""
    return x is None or apart(y, x) or (
        cnp.PyArray_BYTES(y) == cnp.PyArray_BYTES(x)
        and PyArray_ISCARRAY_RO(x)
        and same_type(y, x)
        and PyArray_SAMESHAPE(y, x)
    )
