"""The boundary between Python and the loops: check, allocate, one call, return.

(A) An argument in the plain case (an ndarray of float32 or float64, C-contiguous, aligned, native byte order) is used
    as it is.  Any other layout of these dtypes is copied into the plain case.  Any other dtype, and any mixture that
    NumPy would promote, is handed over to the reference, and the profiler is told.
(B) What is refused is refused by `fastnn.arguments`, so that every backend gives the same errors.
(C) No pointer is taken before every check of the call has passed.  Numbers, whose conversion may run the caller's code,
    are converted before arrays are looked at; class indices are checked after the last of the caller's code has run,
    and in a copy where another thread could change them before they are used.
(D) The GIL is let go for LONG elements or more: below, letting go costs more than it gives.
"""

from cpython.pystate cimport PyThreadState
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t

cimport numpy as cnp

import numpy as np

from fastnn._kernels cimport loops, memory

from fastnn import arguments, reference

cnp.import_array()

cdef extern from "Python.h" nogil:
    PyThreadState* PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(PyThreadState* state) noexcept

cdef extern from "numpy/arrayobject.h":
    bint PyArray_CheckExact(object x)
    bint PyArray_ISCARRAY(cnp.ndarray x)
    bint PyArray_ISCARRAY_RO(cnp.ndarray x)
    bint PyArray_SAMESHAPE(cnp.ndarray x, cnp.ndarray y)
    bint PyTypeNum_ISINTEGER(int type_num)

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

    #ifdef Py_GIL_DISABLED
    #define FASTNN_OTHERS_RUN 1
    #else
    #define FASTNN_OTHERS_RUN 0
    #endif
    """
    const char* FASTNN_COMPILED_FOR
    const bint OTHERS_RUN "FASTNN_OTHERS_RUN"

cdef enum:
    LONG = 32768
    LABELS = cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST

# What the compiler was told to use: its own word, not the build script's.
compiled_for = FASTNN_COMPILED_FOR.decode()

# Matrix products stay with NumPy's BLAS.
dot = reference.dot


# ---------------------------------------------------------------- arguments

cdef inline bint native(int type_num):
    return type_num == cnp.NPY_FLOAT32 or type_num == cnp.NPY_FLOAT64


cdef cnp.ndarray plain(str name, object x, int least_ndim=0):
    """x in the plain case, or None if the reference has to do it."""
    if (
        PyArray_CheckExact(x)
        and native(cnp.PyArray_TYPE(<cnp.ndarray> x))
        and PyArray_ISCARRAY_RO(<cnp.ndarray> x)
        and cnp.PyArray_NDIM(<cnp.ndarray> x) >= least_ndim
    ):
        return <cnp.ndarray> x
    cdef cnp.ndarray array = arguments.numeric(name, x, least_ndim)
    cdef int type_num = cnp.PyArray_TYPE(array)
    return cnp.PyArray_FROM_OTF(array, type_num, cnp.NPY_ARRAY_CARRAY_RO) if native(type_num) else None


cdef inline int same_type(cnp.ndarray x, cnp.ndarray y):
    return cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(y)


cdef int need_same_shape(str name, cnp.ndarray x, str other_name, cnp.ndarray y) except -1:
    if not PyArray_SAMESHAPE(x, y):
        arguments.same_shape(name, x, other_name, y)
    return 0


cdef cnp.ndarray plain_mask(object mask, cnp.ndarray dout):
    if not (
        PyArray_CheckExact(mask)
        and cnp.PyArray_TYPE(<cnp.ndarray> mask) == cnp.NPY_BOOL
        and PyArray_ISCARRAY_RO(<cnp.ndarray> mask)
        and PyArray_SAMESHAPE(<cnp.ndarray> mask, dout)
    ):
        mask = cnp.PyArray_FROM_OTF(arguments.boolean_mask(mask, dout), cnp.NPY_BOOL, cnp.NPY_ARRAY_CARRAY_RO)
    return mask


cdef cnp.ndarray plain_bias(object b, cnp.ndarray x):
    """b in the plain case with one number per column of x, or None if the reference has to do it."""
    cdef cnp.ndarray array = plain("b", b)
    if array is None:
        return None
    if cnp.PyArray_NDIM(array) != 1 or cnp.PyArray_DIM(array, 0) != columns(x):
        array = arguments.bias(array, x)
    return array if same_type(array, x) else None


cdef inline bint are_labels_of(cnp.ndarray t, cnp.ndarray y):
    """Integers, one per row of y, which is not empty; their values are not looked at."""
    cdef int axis, ndim = cnp.PyArray_NDIM(y)
    if not PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(t)) or cnp.PyArray_SIZE(y) == 0 or cnp.PyArray_NDIM(t) != ndim - 1:
        return False
    for axis in range(ndim - 1):
        if cnp.PyArray_DIM(t, axis) != cnp.PyArray_DIM(y, axis):
            return False
    return True


cdef inline cnp.ndarray steady_labels(object t, cnp.ndarray y):
    """t as intp, in a copy if another thread could change it between its check and its use."""
    cdef bint shared = OTHERS_RUN or cnp.PyArray_SIZE(y) >= LONG
    if not shared and cnp.PyArray_TYPE(<cnp.ndarray> t) == cnp.NPY_INTP and PyArray_ISCARRAY_RO(<cnp.ndarray> t):
        return <cnp.ndarray> t
    return cnp.PyArray_FROM_OTF(t, cnp.NPY_INTP, LABELS | (cnp.NPY_ARRAY_ENSURECOPY if shared else 0))


cdef cnp.ndarray plain_targets(str name, cnp.ndarray y, object t):
    """t as checked class indices (intp) or as targets of y's dtype, or None if the reference has to do it."""
    cdef cnp.ndarray array
    cdef bint soft = False
    if PyArray_CheckExact(t) and are_labels_of(<cnp.ndarray> t, y):
        array = steady_labels(t, y)
        if loops.first_bad_label(labels(array), rows(y), columns(y)) < 0:
            return array
    array, soft = arguments.targets(name, y, t)
    if not soft:
        array = steady_labels(array, y)
        if loops.first_bad_label(labels(array), rows(y), columns(y)) >= 0:
            raise RuntimeError("t was changed by another thread while it was being checked")
        return array
    if not same_type(array, y) and np.result_type(array, y) != y.dtype:
        return None
    return cnp.PyArray_FROM_OTF(array, cnp.PyArray_TYPE(y), cnp.NPY_ARRAY_CARRAY_RO)


cdef inline bint soft(cnp.ndarray t, cnp.ndarray y):
    return same_type(t, y)


cdef inline object epsilon(object eps):
    return eps if type(eps) is float and 0 <= <double> eps < INFINITY else arguments.epsilon(eps)


cdef inline object upstream(object dout):
    return dout if type(dout) is float else arguments.upstream(dout)


cdef inline bint widens(object dout, cnp.ndarray y):
    """dout, from upstream(), would widen a result of y's dtype, which is the reference's work."""
    return type(dout) is not float and dout.dtype != (<object> y).dtype


cdef inline Py_ssize_t columns(cnp.ndarray x):
    return cnp.PyArray_DIM(x, cnp.PyArray_NDIM(x) - 1)


cdef inline Py_ssize_t rows(cnp.ndarray x):
    return cnp.PyArray_SIZE(x) // columns(x) if columns(x) else 0


cdef object hand_over(str name):
    tell = reference.handed_over.get()
    if tell is not None:
        tell(name)
    return getattr(reference, name)


# ---------------------------------------------------------------- results

cdef inline bint same_or_apart(cnp.ndarray y, object x):
    """x is plain and either y's own memory or clear of it."""
    if x is None:
        return True
    if not PyArray_CheckExact(x) or not PyArray_ISCARRAY_RO(<cnp.ndarray> x):
        return False
    cdef char* y_first = cnp.PyArray_BYTES(y)
    cdef char* x_first = cnp.PyArray_BYTES(<cnp.ndarray> x)
    if y_first == x_first:
        return same_type(y, <cnp.ndarray> x) and PyArray_SAMESHAPE(y, <cnp.ndarray> x)
    return x_first + cnp.PyArray_NBYTES(<cnp.ndarray> x) <= y_first or y_first + cnp.PyArray_NBYTES(y) <= x_first


cdef inline cnp.ndarray fresh(cnp.ndarray like, int type_num, Py_ssize_t itemsize):
    cdef int ndim = cnp.PyArray_NDIM(like)
    cdef cnp.npy_intp* shape = cnp.PyArray_DIMS(like)
    if cnp.PyArray_SIZE(like) >= memory.LARGE // itemsize:
        return memory.large(ndim, shape, type_num)
    return cnp.PyArray_EMPTY(ndim, shape, type_num, 0)


cdef cnp.ndarray result(object out, cnp.ndarray like, object x, object x2=None):
    """The array to write: of the shape and dtype of `like`, while the caller's x and x2 are read.

    `like` is what x was converted to.  Runs none of the caller's code.
    """
    if out is None:
        return fresh(like, cnp.PyArray_TYPE(like), cnp.PyArray_ITEMSIZE(like))
    if (
        PyArray_CheckExact(out)
        and same_type(<cnp.ndarray> out, like)
        and PyArray_ISCARRAY(<cnp.ndarray> out)
        and PyArray_SAMESHAPE(<cnp.ndarray> out, like)
        and same_or_apart(<cnp.ndarray> out, x)
        and same_or_apart(<cnp.ndarray> out, x2)
    ):
        return out
    inputs = [np.asarray(a) for a in (x, x2) if isinstance(a, np.ndarray)]
    if not isinstance(x, np.ndarray):
        inputs.append(like)
    return arguments.output(out, (<object> like).shape, (<object> like).dtype, *inputs)


cdef inline object given_back(cnp.ndarray y, object out):
    return y if cnp.PyArray_NDIM(y) or out is not None else y[()]


cdef inline object loss_scalar(double loss, cnp.ndarray y):
    cdef float rounded = <float> loss
    return cnp.PyArray_ToScalar(<void*> &rounded if cnp.PyArray_TYPE(y) == cnp.NPY_FLOAT32 else <void*> &loss, y)


cdef inline PyThreadState* let_go(Py_ssize_t elements) noexcept nogil:
    return PyEval_SaveThread() if elements >= LONG else NULL


cdef inline void take_back(PyThreadState* state) noexcept nogil:
    if state != NULL:
        PyEval_RestoreThread(state)


cdef inline const float* in32(cnp.ndarray x):
    return <const float*> cnp.PyArray_DATA(x)


cdef inline const double* in64(cnp.ndarray x):
    return <const double*> cnp.PyArray_DATA(x)


cdef inline float* out32(cnp.ndarray x):
    return <float*> cnp.PyArray_DATA(x)


cdef inline double* out64(cnp.ndarray x):
    return <double*> cnp.PyArray_DATA(x)


cdef inline const Py_ssize_t* labels(cnp.ndarray t):
    return <const Py_ssize_t*> cnp.PyArray_DATA(t)


# ---------------------------------------------------------------- element by element

def relu(x, *, out=None):
    cdef cnp.ndarray a = plain("x", x)
    if a is None:
        return hand_over("relu")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(a)
    cdef PyThreadState* state = let_go(n)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.relu(in32(a), out32(y), n)
    else:
        loops.relu(in64(a), out64(y), n)
    take_back(state)
    return given_back(y, out)


def relu_with_mask(x, *, out=None):
    cdef cnp.ndarray a = plain("x", x)
    if a is None:
        return hand_over("relu_with_mask")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef cnp.ndarray mask = fresh(a, cnp.NPY_BOOL, 1)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(a)
    cdef PyThreadState* state = let_go(n)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.relu_with_mask(in32(a), out32(y), <uint8_t*> cnp.PyArray_DATA(mask), n)
    else:
        loops.relu_with_mask(in64(a), out64(y), <uint8_t*> cnp.PyArray_DATA(mask), n)
    take_back(state)
    return given_back(y, out), given_back(mask, None)


def relu_backward(dout, mask, *, out=None):
    cdef cnp.ndarray a = plain("dout", dout)
    if a is None:
        return hand_over("relu_backward")(dout, mask, out=out)
    cdef cnp.ndarray m = plain_mask(mask, a)
    cdef cnp.ndarray dx = result(out, a, dout, mask)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(a)
    cdef PyThreadState* state = let_go(n)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.relu_backward(in32(a), <const uint8_t*> cnp.PyArray_DATA(m), out32(dx), n)
    else:
        loops.relu_backward(in64(a), <const uint8_t*> cnp.PyArray_DATA(m), out64(dx), n)
    take_back(state)
    return given_back(dx, out)


def sigmoid(x, *, out=None):
    cdef cnp.ndarray a = plain("x", x)
    if a is None:
        return hand_over("sigmoid")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(a)
    cdef PyThreadState* state = let_go(n)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.sigmoid(in32(a), out32(y), n)
    else:
        loops.sigmoid(in64(a), out64(y), n)
    take_back(state)
    return given_back(y, out)


def sigmoid_backward(dout, y, *, out=None):
    cdef cnp.ndarray a = plain("dout", dout)
    cdef cnp.ndarray b = plain("y", y)
    if a is None or b is None or not same_type(a, b):
        return hand_over("sigmoid_backward")(dout, y, out=out)
    need_same_shape("dout", a, "y", b)
    cdef cnp.ndarray dx = result(out, a, dout, y)
    cdef Py_ssize_t n = cnp.PyArray_SIZE(a)
    cdef PyThreadState* state = let_go(n)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.sigmoid_backward(in32(a), in32(b), out32(dx), n)
    else:
        loops.sigmoid_backward(in64(a), in64(b), out64(dx), n)
    take_back(state)
    return given_back(dx, out)


# ---------------------------------------------------------------- row by row

def softmax(x, *, out=None):
    cdef cnp.ndarray a = plain("x", x, 1)
    if a is None:
        return hand_over("softmax")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef Py_ssize_t N = rows(a), C = columns(a)
    cdef PyThreadState* state = let_go(N * C)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.softmax(in32(a), out32(y), N, C)
    else:
        loops.softmax(in64(a), out64(y), N, C)
    take_back(state)
    return y


def softmax_backward(dout, y, *, out=None):
    cdef cnp.ndarray a = plain("dout", dout, 1)
    cdef cnp.ndarray b = plain("y", y)
    if a is None or b is None or not same_type(a, b):
        return hand_over("softmax_backward")(dout, y, out=out)
    need_same_shape("dout", a, "y", b)
    cdef cnp.ndarray dx = result(out, a, dout, y)
    cdef Py_ssize_t N = rows(a), C = columns(a)
    cdef PyThreadState* state = let_go(N * C)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.softmax_backward(in32(a), in32(b), out32(dx), N, C)
    else:
        loops.softmax_backward(in64(a), in64(b), out64(dx), N, C)
    take_back(state)
    return dx


# ---------------------------------------------------------------- losses

def cross_entropy_error(y, t, *, eps=1e-7):
    cdef double loss, e = epsilon(eps)
    cdef cnp.ndarray a = plain("y", y, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("y", a, t)
    if a is None or b is None:
        return hand_over("cross_entropy_error")(y, t, eps=eps)
    cdef Py_ssize_t N = rows(a), C = columns(a)
    cdef bint targets = soft(b, a)
    cdef PyThreadState* state = let_go(N * C if targets else N)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        if targets:
            loss = loops.cross_entropy_targets(in32(a), in32(b), <float> e, N, C)
        else:
            loss = loops.cross_entropy_labels(in32(a), labels(b), <float> e, N, C)
    elif targets:
        loss = loops.cross_entropy_targets(in64(a), in64(b), e, N, C)
    else:
        loss = loops.cross_entropy_labels(in64(a), labels(b), e, N, C)
    take_back(state)
    return loss_scalar(loss, a)


def cross_entropy_error_backward(y, t, dout=1.0, *, eps=1e-7, out=None):
    cdef double e = epsilon(eps)
    dout = upstream(dout)
    cdef double factor = dout
    cdef cnp.ndarray a = plain("y", y, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("y", a, t)
    if a is None or b is None or widens(dout, a):
        return hand_over("cross_entropy_error_backward")(y, t, dout, eps=eps, out=out)
    cdef cnp.ndarray dy = result(out, a, y, t)
    cdef Py_ssize_t N = rows(a), C = columns(a)
    cdef bint targets = soft(b, a)
    cdef PyThreadState* state = let_go(N * C)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        if targets:
            loops.cross_entropy_targets_backward(in32(a), in32(b), <float> factor, <float> e, out32(dy), N, C)
        else:
            loops.cross_entropy_labels_backward(in32(a), labels(b), <float> factor, <float> e, out32(dy), N, C)
    elif targets:
        loops.cross_entropy_targets_backward(in64(a), in64(b), factor, e, out64(dy), N, C)
    else:
        loops.cross_entropy_labels_backward(in64(a), labels(b), factor, e, out64(dy), N, C)
    take_back(state)
    return dy


def softmax_cross_entropy(x, t, *, eps=1e-7, out=None):
    cdef double loss, e = epsilon(eps)
    cdef cnp.ndarray a = plain("x", x, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("x", a, t)
    if a is None or b is None:
        return hand_over("softmax_cross_entropy")(x, t, eps=eps, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    if out is not None:
        arguments.clear_of(out, t)
    cdef Py_ssize_t N = rows(a), C = columns(a)
    cdef bint targets = soft(b, a)
    cdef PyThreadState* state = let_go(N * C)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        if targets:
            loss = loops.softmax_cross_entropy_targets(in32(a), in32(b), <float> e, e == 0, out32(y), N, C)
        else:
            loss = loops.softmax_cross_entropy_labels(in32(a), labels(b), <float> e, e == 0, out32(y), N, C)
    elif targets:
        loss = loops.softmax_cross_entropy_targets(in64(a), in64(b), e, e == 0, out64(y), N, C)
    else:
        loss = loops.softmax_cross_entropy_labels(in64(a), labels(b), e, e == 0, out64(y), N, C)
    take_back(state)
    return loss_scalar(loss, a), y


def softmax_cross_entropy_backward(y, t, dout=1.0, *, out=None):
    dout = upstream(dout)
    cdef double factor = dout
    cdef cnp.ndarray a = plain("y", y, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("y", a, t)
    if a is None or b is None or widens(dout, a):
        return hand_over("softmax_cross_entropy_backward")(y, t, dout, out=out)
    cdef cnp.ndarray dx = result(out, a, y, t)
    cdef Py_ssize_t N = rows(a), C = columns(a)
    cdef bint targets = soft(b, a)
    factor /= N
    cdef PyThreadState* state = let_go(N * C)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        if targets:
            loops.softmax_cross_entropy_targets_backward(in32(a), in32(b), <float> factor, out32(dx), N * C)
        else:
            loops.softmax_cross_entropy_labels_backward(in32(a), labels(b), <float> factor, out32(dx), N, C)
    elif targets:
        loops.softmax_cross_entropy_targets_backward(in64(a), in64(b), factor, out64(dx), N * C)
    else:
        loops.softmax_cross_entropy_labels_backward(in64(a), labels(b), factor, out64(dx), N, C)
    take_back(state)
    return dx


# ---------------------------------------------------------------- the bias

def bias_grad(dout, *, out=None):
    cdef cnp.ndarray a = plain("dout", dout, 1)
    if a is None:
        return hand_over("bias_grad")(dout, out=out)
    cdef Py_ssize_t N = rows(a), M = columns(a)
    cdef cnp.npy_intp shape = M
    cdef cnp.ndarray db
    if out is None:
        db = cnp.PyArray_EMPTY(1, &shape, cnp.PyArray_TYPE(a), 0)
    else:
        db = arguments.output(out, (M,), (<object> a).dtype, np.asarray(dout))
    cdef PyThreadState* state = let_go(N * M)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.bias_grad(in32(a), out32(db), N, M)
    else:
        loops.bias_grad(in64(a), out64(db), N, M)
    take_back(state)
    return db


def add_bias(x, b, *, out=None):
    cdef cnp.ndarray a = plain("x", x, 1)
    cdef cnp.ndarray bias = None if a is None else plain_bias(b, a)
    if a is None or bias is None:
        return hand_over("add_bias")(x, b, out=out)
    cdef cnp.ndarray y = result(out, a, x, b)
    cdef Py_ssize_t N = rows(a), M = columns(a)
    cdef PyThreadState* state = let_go(N * M)
    if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT32:
        loops.add_bias(in32(a), in32(bias), out32(y), N, M)
    else:
        loops.add_bias(in64(a), in64(bias), out64(y), N, M)
    take_back(state)
    return y
