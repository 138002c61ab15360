"""The boundary between Python and the loops: check, allocate, one call, return.

(A) An argument in the plain case (an ndarray of float32 or float64, C-contiguous, aligned, native byte order) is used
    as it is.  Any other layout of these dtypes is copied into the plain case.  Any other dtype, and any mixture that
    NumPy would promote, is handed over to the reference, and the profiler is told.
(B) What is refused is refused by `fastnn.arguments`, so that every backend gives the same errors.
(C) No pointer is taken before every check of the call has passed, and none is made before all arguments are numbers and
    exact arrays, since their conversion may run the caller's code.  Class indices are checked in a copy where another
    thread could change them before they are used.
(D) An op fills in a Task and has its *_part run over pieces of it, by `run`: small tasks in one piece under the GIL,
    which costs more to let go than it gives; LONG ones without it; still larger ones by several threads.
"""

from cpython.contextvars cimport PyContext_Copy, PyContext_Enter, PyContext_Exit
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport INFINITY, pow, sqrt
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cimport numpy as cnp

import contextvars

import numpy as np

from fastnn._kernels cimport loops, memory, threads
from fastnn._kernels.loops cimport Sum

from fastnn import arguments, reference

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    bint PyArray_CheckExact(object x)
    bint PyArray_ISCARRAY(cnp.ndarray x)
    bint PyArray_ISCARRAY_RO(cnp.ndarray x)
    bint PyArray_SAMESHAPE(cnp.ndarray x, cnp.ndarray y)
    bint PyTypeNum_ISINTEGER(int type_num)
    object PyArray_MatrixProduct2(object a, object b, cnp.ndarray out)

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
    # From how many bytes two threads were measured to be faster than one, for loops that wait for memory and for those
    # that compute; the elements of the shortest piece; the most pieces as a rule.
    LONG_TO_MOVE = 1 << 21
    LONG_TO_COMPUTE = 1 << 19
    PIECE = 1 << 13
    PIECES = 32
    # Up to how many multiplications a loop of our own is faster than a call of BLAS.
    SMALL = 2048
    LABELS = cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST

# What the compiler was told to use: its own word, not the build script's.
compiled_for = FASTNN_COMPILED_FOR.decode()


# ---------------------------------------------------------------- arguments

cdef inline bint native(int type_num):
    return type_num == cnp.NPY_FLOAT32 or type_num == cnp.NPY_FLOAT64


cdef inline cnp.ndarray given(str name, object x, int least_ndim=0):
    """x as an exact array of real numbers."""
    cdef int type_num
    if PyArray_CheckExact(x) and cnp.PyArray_NDIM(<cnp.ndarray> x) >= least_ndim:
        type_num = cnp.PyArray_TYPE(<cnp.ndarray> x)
        if type_num <= cnp.NPY_LONGDOUBLE or type_num == cnp.NPY_FLOAT16:
            return <cnp.ndarray> x
    return arguments.numeric(name, x, least_ndim)


cdef inline cnp.ndarray plain(cnp.ndarray x, int least_ndim=0):
    """x, which `given` gave, in the plain case, or None if the reference has to do it."""
    cdef int type_num = cnp.PyArray_TYPE(x)
    if cnp.PyArray_NDIM(x) < least_ndim:
        raise RuntimeError("an argument lost its dimensions while another was being read")
    if not native(type_num):
        return None
    return x if PyArray_ISCARRAY_RO(x) else cnp.PyArray_FROM_OTF(x, type_num, cnp.NPY_ARRAY_CARRAY_RO)


cdef inline int same_type(cnp.ndarray x, cnp.ndarray y):
    return cnp.PyArray_TYPE(x) == cnp.PyArray_TYPE(y)


cdef int need_same_shape(str name, cnp.ndarray x, str other_name, cnp.ndarray y) except -1:
    if not PyArray_SAMESHAPE(x, y):
        arguments.same_shape(name, x, other_name, y)
    return 0


cdef cnp.ndarray plain_mask(cnp.ndarray mask, cnp.ndarray dout):
    if not (
        cnp.PyArray_TYPE(mask) == cnp.NPY_BOOL and PyArray_ISCARRAY_RO(mask) and PyArray_SAMESHAPE(mask, dout)
    ):
        mask = cnp.PyArray_FROM_OTF(arguments.boolean_mask(mask, dout), cnp.NPY_BOOL, cnp.NPY_ARRAY_CARRAY_RO)
    return mask


cdef cnp.ndarray plain_bias(cnp.ndarray b, cnp.ndarray x):
    """b in the plain case with one number per column of x, or None if the reference has to do it."""
    if cnp.PyArray_NDIM(b) != 1 or cnp.PyArray_DIM(b, 0) != columns(x):
        b = arguments.bias(b, "x", x)
    return plain(b) if same_type(b, x) else None


cdef inline bint are_labels_of(cnp.ndarray t, cnp.ndarray y):
    """Integers, one per row of y, which is not empty; their values are not looked at."""
    cdef int axis, ndim = cnp.PyArray_NDIM(y)
    if not PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(t)) or cnp.PyArray_SIZE(y) == 0 or cnp.PyArray_NDIM(t) != ndim - 1:
        return False
    for axis in range(ndim - 1):
        if cnp.PyArray_DIM(t, axis) != cnp.PyArray_DIM(y, axis):
            return False
    return True


cdef inline cnp.ndarray steady_labels(cnp.ndarray t, Py_ssize_t work):
    """t as intp, in a copy if another thread could change it between its check and its use."""
    cdef bint shared = OTHERS_RUN or work >= LONG
    if not shared and cnp.PyArray_TYPE(t) == cnp.NPY_INTP and PyArray_ISCARRAY_RO(t):
        return t
    return cnp.PyArray_FROM_OTF(t, cnp.NPY_INTP, LABELS | (cnp.NPY_ARRAY_ENSURECOPY if shared else 0))


cdef cnp.ndarray plain_targets(str name, cnp.ndarray y, cnp.ndarray t, Py_ssize_t work):
    """t as checked class indices (intp) or as targets of y's dtype, or None if the reference has to do it.

    `work` is how much is done with them, which decides whether other threads run meanwhile.
    """
    cdef cnp.ndarray array
    cdef bint soft = False
    if are_labels_of(t, y):
        array = steady_labels(t, work)
        if loops.first_bad_label(labels(array), rows(y), columns(y)) < 0:
            return array
    array, soft = arguments.targets(name, y, t)
    if not soft:
        array = steady_labels(array, work)
        if loops.first_bad_label(labels(array), rows(y), columns(y)) >= 0:
            raise RuntimeError("t was changed by another thread while it was being checked")
        return array
    if not same_type(array, y) and np.result_type(array, y) != y.dtype:
        return None
    return cnp.PyArray_FROM_OTF(array, cnp.PyArray_TYPE(y), cnp.NPY_ARRAY_CARRAY_RO)


cdef inline Py_ssize_t work_with(cnp.ndarray y, object out):
    """For plain_targets: what checks `out` may be Python, during which other threads run."""
    return cnp.PyArray_SIZE(y) if out is None else LONG


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

cdef inline bint same_or_apart(cnp.ndarray y, cnp.ndarray x):
    """x, if there is one, is plain and either y's own memory or clear of it."""
    if x is None:
        return True
    if not PyArray_ISCARRAY_RO(x):
        return False
    cdef char* y_first = cnp.PyArray_BYTES(y)
    cdef char* x_first = cnp.PyArray_BYTES(x)
    if y_first == x_first:
        return same_type(y, x) and PyArray_SAMESHAPE(y, x)
    return x_first + cnp.PyArray_NBYTES(x) <= y_first or y_first + cnp.PyArray_NBYTES(y) <= x_first


cdef inline cnp.ndarray empty(int ndim, cnp.npy_intp* shape, int type_num):
    cdef Py_ssize_t itemsize = 1 if type_num == cnp.NPY_BOOL else 4 if type_num == cnp.NPY_FLOAT32 else 8
    if cnp.PyArray_MultiplyList(shape, ndim) >= memory.LARGE // itemsize:
        return memory.large(ndim, shape, type_num)
    return cnp.PyArray_EMPTY(ndim, shape, type_num, 0)


cdef inline cnp.ndarray fresh(cnp.ndarray like, int type_num):
    return empty(cnp.PyArray_NDIM(like), cnp.PyArray_DIMS(like), type_num)


cdef cnp.ndarray result(object out, cnp.ndarray like, cnp.ndarray x, cnp.ndarray x2=None):
    """The array to write: of the shape and dtype of `like`, while x and x2, as they were given, are read."""
    if out is None:
        return fresh(like, cnp.PyArray_TYPE(like))
    if (
        PyArray_CheckExact(out)
        and same_type(<cnp.ndarray> out, like)
        and PyArray_ISCARRAY(<cnp.ndarray> out)
        and PyArray_SAMESHAPE(<cnp.ndarray> out, like)
        and same_or_apart(<cnp.ndarray> out, x)
        and same_or_apart(<cnp.ndarray> out, x2)
    ):
        return out
    inputs = (x,) if x2 is None else (x, x2)
    return arguments.output(out, (<object> like).shape, (<object> like).dtype, *inputs)


cdef inline object given_back(cnp.ndarray y, object out):
    return y if cnp.PyArray_NDIM(y) or out is not None else y[()]


# ---------------------------------------------------------------- tasks

cdef inline const Py_ssize_t* labels(cnp.ndarray t) noexcept nogil:
    return <const Py_ssize_t*> cnp.PyArray_DATA(t)


# What an op does, for its *_part: arrays of N rows of C columns, or for ops on single elements of N C elements.
cdef struct Task:
    bint single  # float32, otherwise float64
    const void* x
    const void* x2
    const Py_ssize_t* labels  # class indices, or NULL where x2 has targets
    uint8_t* mask
    void* y
    Py_ssize_t N
    Py_ssize_t C
    double eps
    double factor
    void* y2  # a step's further arrays, changed in place like y, and its further constants
    void* y3
    double[3] constants
    Sum* sums  # where each piece leaves its part of a sum; below, of the sum of each column
    double* totals
    double* errors
    Py_ssize_t most_pieces


cdef inline Task elements(cnp.ndarray x, cnp.ndarray x2, cnp.ndarray y):
    """Of an op on single elements, of x and of x2 if it is not None."""
    cdef Task task
    task.single = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32
    task.x = cnp.PyArray_DATA(x)
    task.x2 = NULL if x2 is None else cnp.PyArray_BYTES(x2)
    task.labels, task.mask, task.sums, task.totals, task.errors = NULL, NULL, NULL, NULL, NULL
    task.y = NULL if y is None else cnp.PyArray_BYTES(y)
    task.N, task.C = cnp.PyArray_SIZE(x), 1
    task.eps, task.factor = 0, 0
    task.most_pieces = PIECES
    return task


cdef inline Task by_rows(cnp.ndarray x, cnp.ndarray x2, cnp.ndarray y):
    cdef Task task = elements(x, x2, y)
    task.N, task.C = rows(x), columns(x)
    return task


cdef inline Task by_rows_with_targets(cnp.ndarray x, cnp.ndarray t, cnp.ndarray y):
    """t is what plain_targets gave."""
    cdef Task task = by_rows(x, t, y)
    if not same_type(t, x):
        task.labels, task.x2 = labels(t), NULL
    return task


cdef Py_ssize_t run(threads.Part part, const Task* task, Py_ssize_t n, Py_ssize_t C, Py_ssize_t long_enough) noexcept:
    """Run `part` over n units of C elements.  Returns in how many pieces: the number of threads does not change it."""
    cdef Py_ssize_t length = n
    if n * C < LONG:
        part(task, 0, n, 0)
        return 1
    if n * C * (sizeof(float) if task.single else sizeof(double)) >= <size_t> long_enough:
        length = max(n // task.most_pieces, PIECE // C) + 1
        if C <= loops.SHORT:
            # Where rows are handled LANES at a time, a row must not depend on its piece.
            length += loops.LANES - length % loops.LANES
    with nogil:
        threads.run(part, task, n, length)
    return (n + length - 1) // length


cdef inline const float* in32(const void* x, Py_ssize_t offset) noexcept nogil:
    return <const float*> x + offset


cdef inline const double* in64(const void* x, Py_ssize_t offset) noexcept nogil:
    return <const double*> x + offset


cdef inline float* out32(void* y, Py_ssize_t offset) noexcept nogil:
    return <float*> y + offset


cdef inline double* out64(void* y, Py_ssize_t offset) noexcept nogil:
    return <double*> y + offset


# ---------------------------------------------------------------- element by element

cdef void relu_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.relu(in32(k.x, first), out32(k.y, first), last - first)
    else:
        loops.relu(in64(k.x, first), out64(k.y, first), last - first)


def relu(x, *, out=None):
    x = given("x", x)
    cdef cnp.ndarray a = plain(x)
    if a is None:
        return hand_over("relu")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef Task task = elements(a, None, y)
    run(relu_part, &task, task.N, task.C, LONG_TO_MOVE)
    return given_back(y, out)


cdef void relu_with_mask_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.relu_with_mask(in32(k.x, first), out32(k.y, first), k.mask + first, last - first)
    else:
        loops.relu_with_mask(in64(k.x, first), out64(k.y, first), k.mask + first, last - first)


def relu_with_mask(x, *, out=None):
    x = given("x", x)
    cdef cnp.ndarray a = plain(x)
    if a is None:
        return hand_over("relu_with_mask")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef cnp.ndarray mask = fresh(a, cnp.NPY_BOOL)
    cdef Task task = elements(a, None, y)
    task.mask = <uint8_t*> cnp.PyArray_DATA(mask)
    run(relu_with_mask_part, &task, task.N, task.C, LONG_TO_MOVE)
    return given_back(y, out), given_back(mask, None)


cdef void relu_backward_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.relu_backward(in32(k.x, first), k.mask + first, out32(k.y, first), last - first)
    else:
        loops.relu_backward(in64(k.x, first), k.mask + first, out64(k.y, first), last - first)


def relu_backward(dout, mask, *, out=None):
    dout, mask = given("dout", dout), given("mask", mask)
    cdef cnp.ndarray a = plain(dout)
    if a is None:
        return hand_over("relu_backward")(dout, mask, out=out)
    cdef cnp.ndarray m = plain_mask(mask, a)
    cdef cnp.ndarray dx = result(out, a, dout, mask)
    cdef Task task = elements(a, None, dx)
    task.mask = <uint8_t*> cnp.PyArray_DATA(m)
    run(relu_backward_part, &task, task.N, task.C, LONG_TO_MOVE)
    return given_back(dx, out)


cdef void sigmoid_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.sigmoid(in32(k.x, first), out32(k.y, first), last - first)
    else:
        loops.sigmoid(in64(k.x, first), out64(k.y, first), last - first)


def sigmoid(x, *, out=None):
    x = given("x", x)
    cdef cnp.ndarray a = plain(x)
    if a is None:
        return hand_over("sigmoid")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef Task task = elements(a, None, y)
    run(sigmoid_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    return given_back(y, out)


cdef void sigmoid_backward_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.sigmoid_backward(in32(k.x, first), in32(k.x2, first), out32(k.y, first), last - first)
    else:
        loops.sigmoid_backward(in64(k.x, first), in64(k.x2, first), out64(k.y, first), last - first)


def sigmoid_backward(dout, y, *, out=None):
    dout, y = given("dout", dout), given("y", y)
    cdef cnp.ndarray a = plain(dout), b = plain(y)
    if a is None or b is None or not same_type(a, b):
        return hand_over("sigmoid_backward")(dout, y, out=out)
    need_same_shape("dout", a, "y", b)
    cdef cnp.ndarray dx = result(out, a, dout, y)
    cdef Task task = elements(a, b, dx)
    run(sigmoid_backward_part, &task, task.N, task.C, LONG_TO_MOVE)
    return given_back(dx, out)


# ---------------------------------------------------------------- row by row

cdef void softmax_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C
    if k.single:
        loops.softmax(in32(k.x, at), out32(k.y, at), last - first, k.C)
    else:
        loops.softmax(in64(k.x, at), out64(k.y, at), last - first, k.C)


def softmax(x, *, out=None):
    x = given("x", x, 1)
    cdef cnp.ndarray a = plain(x)
    if a is None:
        return hand_over("softmax")(x, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    cdef Task task = by_rows(a, None, y)
    run(softmax_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    return y


cdef void softmax_backward_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C
    if k.single:
        loops.softmax_backward(in32(k.x, at), in32(k.x2, at), out32(k.y, at), last - first, k.C)
    else:
        loops.softmax_backward(in64(k.x, at), in64(k.x2, at), out64(k.y, at), last - first, k.C)


def softmax_backward(dout, y, *, out=None):
    dout, y = given("dout", dout, 1), given("y", y)
    cdef cnp.ndarray a = plain(dout, 1), b = plain(y)
    if a is None or b is None or not same_type(a, b):
        return hand_over("softmax_backward")(dout, y, out=out)
    need_same_shape("dout", a, "y", b)
    cdef cnp.ndarray dx = result(out, a, dout, y)
    cdef Task task = by_rows(a, b, dx)
    run(softmax_backward_part, &task, task.N, task.C, LONG_TO_MOVE)
    return dx


# ---------------------------------------------------------------- losses

cdef object loss_of(const Task* task, Py_ssize_t pieces, cnp.ndarray x):
    """The mean over the rows of minus the sums that the pieces have left, as a scalar of x's dtype."""
    cdef Sum s = loops.sum_of_sums(task.sums, pieces)
    # The total is not rounded with its error before the division, where a rounding may count double.
    cdef double loss = 0 - loops.value(Sum(s.total / task.N, s.error / task.N))
    cdef float rounded = <float> loss
    return cnp.PyArray_ToScalar(<void*> &rounded if task.single else <void*> &loss, x)


cdef void cross_entropy_error_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C, n = last - first
    if k.single:
        if k.labels != NULL:
            k.sums[piece] = loops.cross_entropy_labels(in32(k.x, at), k.labels + first, <float> k.eps, n, k.C)
        else:
            k.sums[piece] = loops.cross_entropy_targets(in32(k.x, at), in32(k.x2, at), <float> k.eps, n * k.C)
    elif k.labels != NULL:
        k.sums[piece] = loops.cross_entropy_labels(in64(k.x, at), k.labels + first, k.eps, n, k.C)
    else:
        k.sums[piece] = loops.cross_entropy_targets(in64(k.x, at), in64(k.x2, at), k.eps, n * k.C)


def cross_entropy_error(y, t, *, eps=1e-7):
    cdef double e = epsilon(eps)
    y, t = given("y", y, 1), given("t", t)
    cdef cnp.ndarray a = plain(y, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("y", a, t, rows(a))
    if a is None or b is None:
        return hand_over("cross_entropy_error")(y, t, eps=eps)
    cdef Sum sums[PIECES]
    cdef Task task = by_rows_with_targets(a, b, None)
    task.eps, task.sums = e, sums
    cdef Py_ssize_t pieces = run(
        cross_entropy_error_part, &task, task.N, 1 if task.labels != NULL else task.C, LONG_TO_COMPUTE
    )
    return loss_of(&task, pieces, a)


cdef void cross_entropy_error_backward_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C, n = last - first
    if k.single:
        if k.labels != NULL:
            loops.cross_entropy_labels_backward(
                in32(k.x, at), k.labels + first, <float> k.factor, <float> k.eps, out32(k.y, at), k.N, n, k.C
            )
        else:
            loops.cross_entropy_targets_backward(
                in32(k.x, at), in32(k.x2, at), <float> k.factor, <float> k.eps, out32(k.y, at), k.N, n * k.C
            )
    elif k.labels != NULL:
        loops.cross_entropy_labels_backward(
            in64(k.x, at), k.labels + first, k.factor, k.eps, out64(k.y, at), k.N, n, k.C
        )
    else:
        loops.cross_entropy_targets_backward(
            in64(k.x, at), in64(k.x2, at), k.factor, k.eps, out64(k.y, at), k.N, n * k.C
        )


def cross_entropy_error_backward(y, t, dout=1.0, *, eps=1e-7, out=None):
    cdef double e = epsilon(eps)
    dout = upstream(dout)
    cdef double factor = dout
    y, t = given("y", y, 1), given("t", t)
    cdef cnp.ndarray a = plain(y, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("y", a, t, work_with(a, out))
    if a is None or b is None or widens(dout, a):
        return hand_over("cross_entropy_error_backward")(y, t, dout, eps=eps, out=out)
    cdef cnp.ndarray dy = result(out, a, y, t)
    cdef Task task = by_rows_with_targets(a, b, dy)
    task.eps, task.factor = e, factor
    run(cross_entropy_error_backward_part, &task, task.N, task.C, LONG_TO_MOVE)
    return dy


cdef void softmax_cross_entropy_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C, n = last - first
    cdef bint exact = k.eps == 0
    if k.single:
        if k.labels != NULL:
            k.sums[piece] = loops.softmax_cross_entropy_labels(
                in32(k.x, at), k.labels + first, <float> k.eps, exact, out32(k.y, at), n, k.C
            )
        else:
            k.sums[piece] = loops.softmax_cross_entropy_targets(
                in32(k.x, at), in32(k.x2, at), <float> k.eps, exact, out32(k.y, at), n, k.C
            )
    elif k.labels != NULL:
        k.sums[piece] = loops.softmax_cross_entropy_labels(
            in64(k.x, at), k.labels + first, k.eps, exact, out64(k.y, at), n, k.C
        )
    else:
        k.sums[piece] = loops.softmax_cross_entropy_targets(
            in64(k.x, at), in64(k.x2, at), k.eps, exact, out64(k.y, at), n, k.C
        )


def softmax_cross_entropy(x, t, *, eps=1e-7, out=None):
    cdef double e = epsilon(eps)
    x, t = given("x", x, 1), given("t", t)
    cdef cnp.ndarray a = plain(x, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("x", a, t, work_with(a, out))
    if a is None or b is None:
        return hand_over("softmax_cross_entropy")(x, t, eps=eps, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    if out is not None:
        arguments.clear_of(out, "t", t)
    cdef Sum sums[PIECES]
    cdef Task task = by_rows_with_targets(a, b, y)
    task.eps, task.sums = e, sums
    cdef Py_ssize_t pieces = run(softmax_cross_entropy_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    return loss_of(&task, pieces, a), y


cdef void softmax_cross_entropy_backward_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C, n = last - first
    if k.single:
        if k.labels != NULL:
            loops.softmax_cross_entropy_labels_backward(
                in32(k.x, at), k.labels + first, <float> k.factor, out32(k.y, at), n, k.C
            )
        else:
            loops.softmax_cross_entropy_targets_backward(
                in32(k.x, at), in32(k.x2, at), <float> k.factor, out32(k.y, at), n * k.C
            )
    elif k.labels != NULL:
        loops.softmax_cross_entropy_labels_backward(
            in64(k.x, at), k.labels + first, k.factor, out64(k.y, at), n, k.C
        )
    else:
        loops.softmax_cross_entropy_targets_backward(in64(k.x, at), in64(k.x2, at), k.factor, out64(k.y, at), n * k.C)


def softmax_cross_entropy_backward(y, t, dout=1.0, *, out=None):
    dout = upstream(dout)
    cdef double factor = dout
    y, t = given("y", y, 1), given("t", t)
    cdef cnp.ndarray a = plain(y, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("y", a, t, work_with(a, out))
    if a is None or b is None or widens(dout, a):
        return hand_over("softmax_cross_entropy_backward")(y, t, dout, out=out)
    cdef cnp.ndarray dx = result(out, a, y, t)
    cdef Task task = by_rows_with_targets(a, b, dx)
    task.factor = factor / task.N
    run(softmax_cross_entropy_backward_part, &task, task.N, task.C, LONG_TO_MOVE)
    return dx


cdef void softmax_cross_entropy_and_grad_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C, n = last - first
    cdef bint exact = k.eps == 0
    if k.single:
        if k.labels != NULL:
            k.sums[piece] = loops.softmax_cross_entropy_labels_and_grad(
                in32(k.x, at), k.labels + first, <float> k.eps, exact, <float> k.factor, out32(k.y, at), n, k.C
            )
        else:
            k.sums[piece] = loops.softmax_cross_entropy_targets_and_grad(
                in32(k.x, at), in32(k.x2, at), <float> k.eps, exact, <float> k.factor, out32(k.y, at), n, k.C
            )
    elif k.labels != NULL:
        k.sums[piece] = loops.softmax_cross_entropy_labels_and_grad(
            in64(k.x, at), k.labels + first, k.eps, exact, k.factor, out64(k.y, at), n, k.C
        )
    else:
        k.sums[piece] = loops.softmax_cross_entropy_targets_and_grad(
            in64(k.x, at), in64(k.x2, at), k.eps, exact, k.factor, out64(k.y, at), n, k.C
        )


def softmax_cross_entropy_and_grad(x, t, dout=1.0, *, eps=1e-7, out=None):
    cdef double e = epsilon(eps)
    dout = upstream(dout)
    cdef double factor = dout
    x, t = given("x", x, 1), given("t", t)
    cdef cnp.ndarray a = plain(x, 1)
    cdef cnp.ndarray b = None if a is None else plain_targets("x", a, t, work_with(a, out))
    if a is None or b is None or widens(dout, a):
        return hand_over("softmax_cross_entropy_and_grad")(x, t, dout, eps=eps, out=out)
    cdef cnp.ndarray dx = result(out, a, x)
    if out is not None:
        arguments.clear_of(out, "t", t)
    cdef Sum sums[PIECES]
    cdef Task task = by_rows_with_targets(a, b, dx)
    task.eps, task.factor, task.sums = e, factor / task.N, sums
    cdef Py_ssize_t pieces = run(softmax_cross_entropy_and_grad_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    return loss_of(&task, pieces, a), dx


cdef inline bint are_classes_of(cnp.ndarray t, cnp.ndarray y):
    """Integers or booleans, one per element of y, which is not empty; their values are not looked at."""
    cdef int type_num = cnp.PyArray_TYPE(t)
    return (
        (type_num == cnp.NPY_BOOL or PyTypeNum_ISINTEGER(type_num))
        and PyArray_SAMESHAPE(t, y)
        and cnp.PyArray_SIZE(y) > 0
    )


cdef bint are_probabilities(cnp.ndarray t):
    if cnp.PyArray_TYPE(t) == cnp.NPY_FLOAT32:
        return loops.are_probabilities(in32(cnp.PyArray_DATA(t), 0), cnp.PyArray_SIZE(t))
    return loops.are_probabilities(in64(cnp.PyArray_DATA(t), 0), cnp.PyArray_SIZE(t))


cdef cnp.ndarray checked_values(str name, cnp.ndarray y, cnp.ndarray t, bint binary=False):
    """t in y's shape and dtype, probabilities if `binary`, or None if the reference has to do it."""
    cdef cnp.ndarray array
    if (
        same_type(t, y)
        and PyArray_ISCARRAY_RO(t)
        and PyArray_SAMESHAPE(t, y)
        and cnp.PyArray_SIZE(y)
        and (not binary or are_probabilities(t))
    ):
        return t
    if binary and are_classes_of(t, y):
        array = fresh(y, cnp.PyArray_TYPE(y))
        cnp.PyArray_CopyInto(array, t)
        if are_probabilities(array):
            return array
    array = arguments.binary_targets(name, y, t) if binary else arguments.values(name, y, t)
    return array if same_type(array, y) else None


cdef void sigmoid_cross_entropy_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef bint exact = k.eps == 0
    if k.single:
        k.sums[piece] = loops.sigmoid_cross_entropy(
            in32(k.x, first), in32(k.x2, first), <float> k.eps, exact, out32(k.y, first), last - first
        )
    else:
        k.sums[piece] = loops.sigmoid_cross_entropy(
            in64(k.x, first), in64(k.x2, first), k.eps, exact, out64(k.y, first), last - first
        )


def sigmoid_cross_entropy(x, t, *, eps=1e-7, out=None):
    cdef double e = epsilon(eps)
    x, t = given("x", x, 1), given("t", t)
    cdef cnp.ndarray a = plain(x, 1)
    cdef cnp.ndarray b = None if a is None else checked_values("x", a, t, True)
    if a is None or b is None:
        return hand_over("sigmoid_cross_entropy")(x, t, eps=eps, out=out)
    cdef cnp.ndarray y = result(out, a, x)
    if out is not None:
        arguments.clear_of(out, "t", b)
    b = plain(b)
    cdef Sum sums[PIECES]
    cdef Task task = elements(a, b, y)
    task.eps, task.sums = e, sums
    cdef Py_ssize_t pieces = run(sigmoid_cross_entropy_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    return loss_of(&task, pieces, a), y


cdef void mean_squared_error_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        k.sums[piece] = loops.squared_error(in32(k.x, first), in32(k.x2, first), last - first)
    else:
        k.sums[piece] = loops.squared_error(in64(k.x, first), in64(k.x2, first), last - first)


def mean_squared_error(y, t):
    y, t = given("y", y), given("t", t)
    cdef cnp.ndarray a = plain(y)
    cdef cnp.ndarray b = None if a is None else checked_values("y", a, t)
    if a is None or b is None:
        return hand_over("mean_squared_error")(y, t)
    b = plain(b)
    cdef Sum sums[PIECES]
    cdef Task task = elements(a, b, None)
    task.sums = sums
    cdef Py_ssize_t pieces = run(mean_squared_error_part, &task, task.N, task.C, LONG_TO_MOVE)
    return loss_of(&task, pieces, a)


cdef void mean_difference_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.softmax_cross_entropy_targets_backward(
            in32(k.x, first), in32(k.x2, first), <float> k.factor, out32(k.y, first), last - first
        )
    else:
        loops.softmax_cross_entropy_targets_backward(
            in64(k.x, first), in64(k.x2, first), k.factor, out64(k.y, first), last - first
        )


cdef object mean_difference(str op, bint binary, object y, object t, object dout, object out):
    """dout (y - t) / size"""
    dout = upstream(dout)
    cdef double factor = dout
    y, t = given("y", y, 1 if binary else 0), given("t", t)
    cdef cnp.ndarray a = plain(y, 1 if binary else 0)
    cdef cnp.ndarray b = None if a is None else checked_values("y", a, t, binary)
    if a is None or b is None or widens(dout, a):
        return hand_over(op)(y, t, dout, out=out)
    cdef cnp.ndarray dx = result(out, a, y, b)
    b = plain(b)
    cdef Task task = elements(a, b, dx)
    task.factor = factor / task.N
    run(mean_difference_part, &task, task.N, task.C, LONG_TO_MOVE)
    return given_back(dx, out)


def sigmoid_cross_entropy_backward(y, t, dout=1.0, *, out=None):
    return mean_difference("sigmoid_cross_entropy_backward", True, y, t, dout, out)


def mean_squared_error_backward(y, t, dout=1.0, *, out=None):
    return mean_difference("mean_squared_error_backward", False, y, t, dout, out)


# ---------------------------------------------------------------- the bias

cdef void bias_grad_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C
    if k.single:
        loops.sums_of_columns(in32(k.x, at), last - first, k.C, k.totals + piece * k.C, k.errors + piece * k.C)
    else:
        loops.sums_of_columns(in64(k.x, at), last - first, k.C, k.totals + piece * k.C, k.errors + piece * k.C)


cdef void wide_bias_grad_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.wide_bias_grad(in32(k.x, first), out32(k.y, first), k.N, k.C, last - first)
    else:
        loops.wide_bias_grad(in64(k.x, first), out64(k.y, first), k.N, k.C, last - first)


cdef int sum_rows(cnp.ndarray dout, cnp.ndarray db) except -1:
    cdef Py_ssize_t pieces, M = columns(dout)
    cdef Task task = by_rows(dout, None, db)
    if task.N == 1:
        memcpy(task.y, task.x, cnp.PyArray_NBYTES(db))
        return 0
    if M > loops.WIDE:
        run(wide_bias_grad_part, &task, M, task.N, 2 * LONG_TO_MOVE)
        return 0
    # The sums of all pieces together stay small beside what they are the sums of.
    task.most_pieces = min(PIECES, 4 * loops.WIDE // max(M, 1))
    task.totals = <double*> PyMem_Malloc(2 * sizeof(double) * M * task.most_pieces)
    if task.totals == NULL:
        raise MemoryError
    task.errors = task.totals + M * task.most_pieces
    pieces = run(bias_grad_part, &task, task.N, M, 2 * LONG_TO_MOVE)
    if task.single:
        loops.sum_of_pieces(task.totals, task.errors, out32(task.y, 0), pieces, M)
    else:
        loops.sum_of_pieces(task.totals, task.errors, out64(task.y, 0), pieces, M)
    PyMem_Free(task.totals)
    return 0


def bias_grad(dout, *, out=None):
    dout = given("dout", dout, 1)
    cdef cnp.ndarray a = plain(dout)
    if a is None:
        return hand_over("bias_grad")(dout, out=out)
    cdef cnp.npy_intp M = columns(a)
    cdef cnp.ndarray db
    if out is None:
        db = empty(1, &M, cnp.PyArray_TYPE(a))
    else:
        db = arguments.output(out, (M,), (<object> a).dtype, dout)
    sum_rows(a, db)
    return db


cdef void add_bias_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef Py_ssize_t at = first * k.C
    if k.single:
        loops.add_bias(in32(k.x, at), in32(k.x2, 0), out32(k.y, at), last - first, k.C)
    else:
        loops.add_bias(in64(k.x, at), in64(k.x2, 0), out64(k.y, at), last - first, k.C)


def add_bias(x, b, *, out=None):
    x, b = given("x", x, 1), given("b", b)
    cdef cnp.ndarray a = plain(x, 1)
    cdef cnp.ndarray bias = None if a is None else plain_bias(b, a)
    if a is None or bias is None:
        return hand_over("add_bias")(x, b, out=out)
    cdef cnp.ndarray y = result(out, a, x, b)
    cdef Task task = by_rows(a, bias, y)
    run(add_bias_part, &task, task.N, task.C, LONG_TO_MOVE)
    return y


# ---------------------------------------------------------------- products, by NumPy's BLAS

cdef inline bint is_matrix(object x):
    """Of any layout that BLAS or NumPy can read."""
    return (
        PyArray_CheckExact(x)
        and native(cnp.PyArray_TYPE(<cnp.ndarray> x))
        and cnp.PyArray_ISBEHAVED_RO(<cnp.ndarray> x)
        and cnp.PyArray_NDIM(<cnp.ndarray> x) == 2
    )


cdef inline bint is_row(object b, cnp.ndarray W):
    """In the plain case, with one number of W's dtype for each of its columns."""
    return (
        PyArray_CheckExact(b)
        and same_type(<cnp.ndarray> b, W)
        and PyArray_ISCARRAY_RO(<cnp.ndarray> b)
        and cnp.PyArray_NDIM(<cnp.ndarray> b) == 1
        and cnp.PyArray_DIM(<cnp.ndarray> b, 0) == cnp.PyArray_DIM(W, 1)
    )


cdef inline bint go_together(object x, object W):
    """Matrices of one dtype whose product exists."""
    return (
        is_matrix(x)
        and is_matrix(W)
        and same_type(<cnp.ndarray> x, <cnp.ndarray> W)
        and cnp.PyArray_DIM(<cnp.ndarray> x, 1) == cnp.PyArray_DIM(<cnp.ndarray> W, 0)
    )


cdef cnp.ndarray behaved(cnp.ndarray x):
    return cnp.PyArray_FROM_OTF(x, cnp.PyArray_TYPE(x), cnp.NPY_ARRAY_ALIGNED)


cdef bint native_together(cnp.ndarray a, cnp.ndarray b, cnp.ndarray c):
    return native(cnp.PyArray_TYPE(a)) and same_type(a, b) and same_type(a, c)


cdef inline cnp.ndarray as_matrix(cnp.ndarray x, Py_ssize_t N, Py_ssize_t K):
    return x if cnp.PyArray_NDIM(x) == 2 else x.reshape(N, K)


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
        y = as_matrix(out if PyArray_CheckExact(out) else np.ndarray.view(out, np.ndarray), shape[0], shape[1])
    # Copying a context takes a tenth of the time that np.errstate does.
    cdef object context = PyContext_Copy(without_warnings)
    PyContext_Enter(context)
    try:
        PyArray_MatrixProduct2(a, b, y)
    finally:
        PyContext_Exit(context)
    return y


def affine(x, W, b, *, out=None):
    cdef cnp.ndarray a, w, bias, y
    cdef bint is_plain = go_together(x, W) and is_row(b, <cnp.ndarray> W)
    if is_plain:
        a, w, bias = x, W, b
    else:
        x, W, b = given("x", x), given("W", W), given("b", b)
        arguments.weights(W)
        w = W
        a, batch = arguments.samples(x, w)
        bias = arguments.bias(b, "W", w)
        if not native_together(a, w, bias):
            return hand_over("affine")(x, W, b, out=out)
        a, w = behaved(a), behaved(w)
        bias = cnp.PyArray_FROM_OTF(bias, cnp.PyArray_TYPE(bias), cnp.NPY_ARRAY_CARRAY_RO)
    if out is not None:
        if is_plain:
            batch = (a.shape[0],)
        arguments.separate_output(out, (*batch, w.shape[1]), (<object> w).dtype, {"x": x, "W": W, "b": b})
    y = product(a, w, out)
    cdef Task task = by_rows(y, bias, y)
    run(add_bias_part, &task, task.N, task.C, LONG_TO_MOVE)
    return y if is_plain and out is None else out if out is not None else y.reshape(*batch, w.shape[1])


def affine_backward(dout, x, W, *, out=None):
    cdef cnp.ndarray a, d, w, db
    cdef cnp.npy_intp M
    cdef bint is_plain = (
        go_together(x, W)
        and is_matrix(dout)
        and same_type(<cnp.ndarray> dout, <cnp.ndarray> x)
        and cnp.PyArray_DIM(<cnp.ndarray> dout, 0) == cnp.PyArray_DIM(<cnp.ndarray> x, 0)
        and cnp.PyArray_DIM(<cnp.ndarray> dout, 1) == cnp.PyArray_DIM(<cnp.ndarray> W, 1)
    )
    if is_plain:
        a, d, w = x, dout, W
    else:
        dout, x, W = given("dout", dout), given("x", x), given("W", W)
        arguments.weights(W)
        w = W
        a, batch = arguments.samples(x, w)
        d = arguments.samples_gradient(dout, batch, w)
        if not native_together(a, d, w):
            return hand_over("affine_backward")(dout, x, W, out=out)
        a, d, w = behaved(a), behaved(d), behaved(w)
    dx = dW = db_out = None
    if out is not None:
        shapes, dtypes = (x.shape, W.shape, (w.shape[1],)), ((<object> w).dtype,) * 3
        dx, dW, db_out = arguments.separate_outputs(out, shapes, dtypes, {"dout": dout, "x": x, "W": W})
    M = cnp.PyArray_DIM(w, 1)
    db = db_out if db_out is not None else empty(1, &M, cnp.PyArray_TYPE(d))
    # The products take dout as it is, like the reference's: BLAS sums in an order that depends on the layout.
    sum_rows(cnp.PyArray_FROM_OTF(d, cnp.PyArray_TYPE(d), cnp.NPY_ARRAY_CARRAY_RO), db)
    gradient = product(d, cnp.PyArray_Transpose(w, NULL), dx)
    if dx is None:
        dx = gradient if is_plain else given_back(gradient.reshape(x.shape), None)
    weights_gradient = product(cnp.PyArray_Transpose(a, NULL), d, dW)
    return dx, weights_gradient if dW is None else dW, db


# ---------------------------------------------------------------- a perceptron in one call

cdef void add_bias_relu_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.add_bias_relu(in32(k.x2, 0), out32(k.y, first * k.C), last - first, k.C)
    else:
        loops.add_bias_relu(in64(k.x2, 0), out64(k.y, first * k.C), last - first, k.C)


cdef void relu_backward_from_output_part(
    const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece
) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.relu_backward_from_output(in32(k.x, first), out32(k.y, first), last - first)
    else:
        loops.relu_backward_from_output(in64(k.x, first), out64(k.y, first), last - first)


cdef int multiply(cnp.ndarray h, cnp.ndarray W, cnp.ndarray y, Py_ssize_t N) except -1:
    """y = h W, of N rows."""
    cdef Py_ssize_t K = cnp.PyArray_DIM(W, 0), M = cnp.PyArray_DIM(W, 1)
    cdef void* a = cnp.PyArray_DATA(h)
    cdef void* b = cnp.PyArray_DATA(W)
    cdef void* c = cnp.PyArray_DATA(y)
    if N * K * M > SMALL:
        product(as_matrix(h, N, K), W, y)
    elif cnp.PyArray_TYPE(W) == cnp.NPY_FLOAT32:
        loops.small_product(in32(a, 0), in32(b, 0), out32(c, 0), N, K, M)
    else:
        loops.small_product(in64(a, 0), in64(b, 0), out64(c, 0), N, K, M)
    return 0


cdef int multiply_xt(cnp.ndarray h, cnp.ndarray dy, cnp.ndarray dW, Py_ssize_t N) except -1:
    """dW = h^T dy, of N rows each."""
    cdef Py_ssize_t K = cnp.PyArray_DIM(dW, 0), M = cnp.PyArray_DIM(dW, 1)
    cdef void* a = cnp.PyArray_DATA(h)
    cdef void* b = cnp.PyArray_DATA(dy)
    cdef void* c = cnp.PyArray_DATA(dW)
    if N * K * M > SMALL:
        product(cnp.PyArray_Transpose(as_matrix(h, N, K), NULL), as_matrix(dy, N, M), dW)
    elif cnp.PyArray_TYPE(dW) == cnp.NPY_FLOAT32:
        loops.small_product_xt(in32(a, 0), in32(b, 0), out32(c, 0), N, K, M)
    else:
        loops.small_product_xt(in64(a, 0), in64(b, 0), out64(c, 0), N, K, M)
    return 0


cdef int multiply_wt(cnp.ndarray dy, cnp.ndarray W, cnp.ndarray dh, Py_ssize_t N) except -1:
    """dh = dy W^T, of N rows."""
    cdef Py_ssize_t K = cnp.PyArray_DIM(W, 0), M = cnp.PyArray_DIM(W, 1)
    cdef void* a = cnp.PyArray_DATA(dy)
    cdef void* b = cnp.PyArray_DATA(W)
    cdef void* c = cnp.PyArray_DATA(dh)
    if N * K * M > SMALL:
        product(as_matrix(dy, N, M), cnp.PyArray_Transpose(W, NULL), dh)
    elif cnp.PyArray_TYPE(W) == cnp.NPY_FLOAT32:
        loops.small_product_wt(in32(a, 0), in32(b, 0), out32(c, 0), N, K, M)
    else:
        loops.small_product_wt(in64(a, 0), in64(b, 0), out64(c, 0), N, K, M)
    return 0


cdef int activate(cnp.ndarray y, cnp.ndarray b, bint relu) except -1:
    """y = activation(y + b), in place."""
    cdef Task task = by_rows(y, b, y)
    if relu:
        run(add_bias_relu_part, &task, task.N, task.C, LONG_TO_MOVE)
    else:
        run(add_bias_part, &task, task.N, task.C, LONG_TO_MOVE)
        task = elements(y, None, y)
        run(sigmoid_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    return 0


cdef int activate_backward(cnp.ndarray h, cnp.ndarray dh, bint relu) except -1:
    """dh = the gradient with respect to what the activation made h from, in place."""
    cdef Task task
    if relu:
        task = elements(h, None, dh)
        run(relu_backward_from_output_part, &task, task.N, task.C, LONG_TO_MOVE)
    else:
        task = elements(dh, h, dh)
        run(sigmoid_backward_part, &task, task.N, task.C, LONG_TO_MOVE)
    return 0


cdef object loss_and_gradient(cnp.ndarray y, cnp.ndarray t, object loss, double eps):
    """The loss; y becomes its gradient.  None if the reference has to do it."""
    cdef Sum sums[PIECES]
    cdef Task task
    cdef Py_ssize_t pieces
    cdef cnp.ndarray targets
    if loss == "softmax":
        targets = plain_targets("x", y, t, cnp.PyArray_SIZE(y))
    else:
        targets = checked_values("x" if loss == "sigmoid" else "y", y, t, loss == "sigmoid")
    if targets is None:
        return None
    if loss == "softmax":
        task = by_rows_with_targets(y, targets, y)
        task.eps, task.factor, task.sums = eps, 1.0 / task.N, sums
        pieces = run(softmax_cross_entropy_and_grad_part, &task, task.N, task.C, LONG_TO_COMPUTE)
        return loss_of(&task, pieces, y)
    targets = plain(targets)
    task = elements(y, targets, y)
    task.eps, task.factor, task.sums = eps, 1.0 / task.N, sums
    if loss == "sigmoid":
        pieces = run(sigmoid_cross_entropy_part, &task, task.N, task.C, LONG_TO_COMPUTE)
    else:
        pieces = run(mean_squared_error_part, &task, task.N, task.C, LONG_TO_MOVE)
    run(mean_difference_part, &task, task.N, task.C, LONG_TO_MOVE)
    return loss_of(&task, pieces, y)


cdef bint plain_chain(cnp.ndarray x, tuple params):
    """Plain weights and biases of x's dtype, each layer as wide as the one before."""
    cdef Py_ssize_t i
    cdef object W, b
    if not params or len(params) % 2:
        return False
    for i in range(0, len(params), 2):
        W, b = params[i], params[i + 1]
        if not (
            PyArray_CheckExact(W)
            and same_type(<cnp.ndarray> W, x)
            and PyArray_ISCARRAY_RO(<cnp.ndarray> W)
            and cnp.PyArray_NDIM(<cnp.ndarray> W) == 2
            and is_row(b, <cnp.ndarray> W)
            and (i == 0 or columns(params[i - 2]) == cnp.PyArray_DIM(<cnp.ndarray> W, 0))
        ):
            return False
    return True


cdef bint good_outputs(object out, tuple params, cnp.ndarray x, cnp.ndarray t):
    """As arguments.separate_outputs has it, seen without running any Python."""
    cdef Py_ssize_t i, k
    cdef cnp.ndarray array
    if type(out) is not tuple or len(<tuple> out) != len(params):
        return False
    for i in range(len(params)):
        if not PyArray_CheckExact((<tuple> out)[i]):
            return False
        array = (<tuple> out)[i]
        if not (same_type(array, x) and PyArray_ISCARRAY(array) and PyArray_SAMESHAPE(array, params[i])):
            return False
        if not (apart(array, x) and apart(array, t)):
            return False
        for k in range(len(params)):
            if not apart(array, params[k]) or k < i and not apart(array, (<tuple> out)[k]):
                return False
    return True


cdef inline bint apart(cnp.ndarray a, cnp.ndarray b):
    """Not overlapping, b being C-contiguous or of no dimensions; a is."""
    cdef char* first = cnp.PyArray_BYTES(a)
    cdef char* other = cnp.PyArray_BYTES(b)
    if not cnp.PyArray_IS_C_CONTIGUOUS(b):
        return False
    return other + cnp.PyArray_NBYTES(b) <= first or first + cnp.PyArray_NBYTES(a) <= other


def mlp_gradient(x, t, *params, activation="relu", loss="softmax", eps=1e-7, out=None):
    cdef double e = epsilon(eps)
    if type(activation) is not str or activation != "relu":
        activation = arguments.one_of("activation", activation, ("relu", "sigmoid"))
    if type(loss) is not str or loss != "softmax":
        loss = arguments.one_of("loss", loss, ("softmax", "sigmoid", "identity"))
    cdef bint relu = activation == "relu"
    x, t = given("x", x), given("t", t)
    cdef cnp.ndarray a = plain(x)
    cdef cnp.ndarray W, y, dh
    cdef cnp.npy_intp[2] shape
    cdef Py_ssize_t N, layer, last = len(params) // 2 - 1
    cdef tuple batch = None
    if a is None or not plain_chain(a, params):
        return hand_over("mlp_gradient")(x, t, *params, activation=activation, loss=loss, eps=eps, out=out)
    W = params[0]
    if cnp.PyArray_NDIM(a) == 0 or cnp.PyArray_NDIM(a) > 2 or columns(a) != cnp.PyArray_DIM(W, 0):
        a, batch = arguments.samples(a, W)
    N = cnp.PyArray_DIM(a, 0) if cnp.PyArray_NDIM(a) == 2 else 1

    cdef list inputs = [a]
    for layer in range(last + 1):
        W = params[2 * layer]
        shape[0], shape[1] = N, cnp.PyArray_DIM(W, 1)
        if layer == last and cnp.PyArray_NDIM(a) == 1:
            y = empty(1, shape + 1, cnp.PyArray_TYPE(a))
        else:
            y = empty(2, shape, cnp.PyArray_TYPE(a))
        multiply(inputs[layer], W, y, N)
        if layer < last:
            activate(y, params[2 * layer + 1], relu)
            inputs.append(y)
    cdef Task task = by_rows(y, params[2 * last + 1], y)
    run(add_bias_part, &task, task.N, task.C, LONG_TO_MOVE)
    if batch is not None:
        y = y.reshape(*batch, columns(y))
    value = loss_and_gradient(y, t, loss, e)
    if value is None:
        return hand_over("mlp_gradient")(x, t, *params, activation=activation, loss=loss, eps=eps, out=out)

    if out is not None and not good_outputs(out, params, x, t):
        read = {"x": x, "t": t} | {f"params[{i}]": p for i, p in enumerate(params)}
        shapes = tuple([p.shape for p in params])
        out = arguments.separate_outputs(out, shapes, ((<object> a).dtype,) * len(params), read)
    cdef list grads = [None] * len(params) if out is None else list(out)
    for layer in range(last, -1, -1):
        W = params[2 * layer]
        if grads[2 * layer] is None:
            grads[2 * layer] = fresh(W, cnp.PyArray_TYPE(W))
        if grads[2 * layer + 1] is None:
            grads[2 * layer + 1] = fresh(params[2 * layer + 1], cnp.PyArray_TYPE(W))
        multiply_xt(inputs[layer], y, grads[2 * layer], N)
        sum_rows(y, grads[2 * layer + 1])
        if layer:
            shape[0], shape[1] = N, cnp.PyArray_DIM(W, 0)
            dh = empty(2, shape, cnp.PyArray_TYPE(a))
            multiply_wt(y, W, dh, N)
            activate_backward(inputs[layer], dh, relu)
            y = dh
    return value, *grads


# ---------------------------------------------------------------- a step of an optimizer

cdef inline bint is_state(object a, cnp.ndarray p, object dp, object given):
    """A plain array of p's dtype and shape, to be changed in place, which dp is clear of."""
    return (
        given is a
        and PyArray_CheckExact(a)
        and same_type(<cnp.ndarray> a, p)
        and PyArray_ISCARRAY(<cnp.ndarray> a)
        and PyArray_SAMESHAPE(<cnp.ndarray> a, p)
        and apart(<cnp.ndarray> a, dp)
    )


cdef bint in_place(object p, object a, object b, object dp, object out):
    """The case that needs no copy: a step changes p and, if they are not None, a and b, which `out` is too."""
    if not (
        PyArray_CheckExact(p)
        and native(cnp.PyArray_TYPE(<cnp.ndarray> p))
        and PyArray_CheckExact(dp)
        and same_type(<cnp.ndarray> dp, <cnp.ndarray> p)
        and PyArray_ISCARRAY_RO(<cnp.ndarray> dp)
        and PyArray_SAMESHAPE(<cnp.ndarray> dp, <cnp.ndarray> p)
    ):
        return False
    if a is None:
        return is_state(p, p, dp, out)
    if type(out) is not tuple or len(<tuple> out) != (2 if b is None else 3):
        return False
    if not (is_state(p, p, dp, (<tuple> out)[0]) and is_state(a, p, dp, (<tuple> out)[1]) and apart(p, a)):
        return False
    return b is None or is_state(b, p, dp, (<tuple> out)[2]) and apart(b, p) and apart(b, a)


cdef list brought_in_place(tuple names, tuple state, object dp, object out):
    """The arrays to change, which hold the state, and the gradient, all plain; None if the reference has to do it.

    `out` is a tuple or None.
    """
    arrays, gradient = arguments.step(dict(zip(names, state, strict=True)), dp)
    given = arguments.step_outputs(out, arrays, gradient)
    cdef cnp.ndarray p = arrays[0]
    if not native(cnp.PyArray_TYPE(p)) or not same_type(gradient, p):
        return None
    changed = [fresh(a, cnp.PyArray_TYPE(p)) if g is None else g for a, g in zip(arrays, given, strict=True)]
    for array, values in zip(changed, arrays, strict=True):
        if array is not values:
            cnp.PyArray_CopyInto(array, values)  # np.copyto would ask a subclass
    return [*changed, cnp.PyArray_FROM_OTF(gradient, cnp.PyArray_TYPE(p), cnp.NPY_ARRAY_CARRAY_RO)]


cdef inline double finite(str name, object number) except? -1:
    if type(number) is float and -INFINITY < <double> number < INFINITY:
        return number
    return arguments.number(name, number)


cdef inline Task of_step(cnp.ndarray p, cnp.ndarray a, cnp.ndarray b, cnp.ndarray dp):
    """x is the gradient; y, y2, y3 are what the step changes, as far as there is any."""
    cdef Task task = elements(dp, None, p)
    task.y2 = NULL if a is None else cnp.PyArray_BYTES(a)
    task.y3 = NULL if b is None else cnp.PyArray_BYTES(b)
    return task


cdef inline object stepped(cnp.ndarray a, object out, int i):
    """What a step gives back for its array number i."""
    return a if cnp.PyArray_NDIM(a) or out is not None and (<tuple> out)[i] is not None else a[()]


cdef void sgd_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.sgd(in32(k.x, first), <float> k.factor, out32(k.y, first), last - first)
    else:
        loops.sgd(in64(k.x, first), k.factor, out64(k.y, first), last - first)


def sgd(p, dp, lr, *, out=None):
    cdef double rate = finite("lr", lr)
    if not in_place(p, None, None, dp, out):
        arrays = brought_in_place(("p",), (p,), dp, (out,))
        if arrays is None:
            return hand_over("sgd")(p, dp, lr, out=out)
        p, dp = arrays
    cdef Task task = of_step(p, None, None, dp)
    task.factor = rate
    run(sgd_part, &task, task.N, 1, LONG_TO_MOVE)
    return given_back(p, out)


cdef void momentum_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.momentum(
            in32(k.x, first), <float> k.factor, <float> k.constants[0],
            out32(k.y, first), out32(k.y2, first), last - first
        )
    else:
        loops.momentum(in64(k.x, first), k.factor, k.constants[0], out64(k.y, first), out64(k.y2, first), last - first)


def momentum(p, v, dp, lr, momentum, *, out=None):
    cdef double rate = finite("lr", lr), kept = finite("momentum", momentum)
    if not in_place(p, v, None, dp, out):
        arrays = brought_in_place(("p", "v"), (p, v), dp, out)
        if arrays is None:
            return hand_over("momentum")(p, v, dp, lr, momentum, out=out)
        p, v, dp = arrays
    cdef Task task = of_step(p, v, None, dp)
    task.factor, task.constants[0] = rate, kept
    run(momentum_part, &task, task.N, 1, LONG_TO_MOVE)
    return stepped(p, out, 0), stepped(v, out, 1)


cdef void nesterov_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    cdef double squared = k.constants[0] * k.constants[0], ahead = (1 + k.constants[0]) * k.factor
    if k.single:
        loops.nesterov(
            in32(k.x, first), <float> k.factor, <float> k.constants[0], <float> squared, <float> ahead,
            k.constants[1] == 1, out32(k.y, first), out32(k.y2, first), last - first
        )
    else:
        loops.nesterov(
            in64(k.x, first), k.factor, k.constants[0], squared, ahead, k.constants[1] == 1,
            out64(k.y, first), out64(k.y2, first), last - first
        )


def nesterov(p, v, dp, lr, momentum, volume=1, *, out=None):
    cdef double rate = finite("lr", lr), kept = finite("momentum", momentum)
    cdef Py_ssize_t form = arguments.whole_number("volume", volume, 1, 2)
    if not in_place(p, v, None, dp, out):
        arrays = brought_in_place(("p", "v"), (p, v), dp, out)
        if arrays is None:
            return hand_over("nesterov")(p, v, dp, lr, momentum, volume, out=out)
        p, v, dp = arrays
    cdef Task task = of_step(p, v, None, dp)
    task.factor, task.constants[0], task.constants[1] = rate, kept, form
    run(nesterov_part, &task, task.N, 1, LONG_TO_MOVE)
    return stepped(p, out, 0), stepped(v, out, 1)


cdef void adagrad_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.adagrad(in32(k.x, first), <float> k.factor, out32(k.y, first), out32(k.y2, first), last - first)
    else:
        loops.adagrad(in64(k.x, first), k.factor, out64(k.y, first), out64(k.y2, first), last - first)


def adagrad(p, h, dp, lr, *, out=None):
    cdef double rate = finite("lr", lr)
    if not in_place(p, h, None, dp, out):
        arrays = brought_in_place(("p", "h"), (p, h), dp, out)
        if arrays is None:
            return hand_over("adagrad")(p, h, dp, lr, out=out)
        p, h, dp = arrays
    cdef Task task = of_step(p, h, None, dp)
    task.factor = rate
    run(adagrad_part, &task, task.N, 1, LONG_TO_MOVE)
    return stepped(p, out, 0), stepped(h, out, 1)


cdef void rmsprop_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.rmsprop(
            in32(k.x, first), <float> k.factor, <float> k.constants[0], <float> (1 - k.constants[0]),
            out32(k.y, first), out32(k.y2, first), last - first
        )
    else:
        loops.rmsprop(
            in64(k.x, first), k.factor, k.constants[0], 1 - k.constants[0],
            out64(k.y, first), out64(k.y2, first), last - first
        )


def rmsprop(p, h, dp, lr, decay_rate, *, out=None):
    cdef double rate = finite("lr", lr), kept = finite("decay_rate", decay_rate)
    if not in_place(p, h, None, dp, out):
        arrays = brought_in_place(("p", "h"), (p, h), dp, out)
        if arrays is None:
            return hand_over("rmsprop")(p, h, dp, lr, decay_rate, out=out)
        p, h, dp = arrays
    cdef Task task = of_step(p, h, None, dp)
    task.factor, task.constants[0] = rate, kept
    run(rmsprop_part, &task, task.N, 1, LONG_TO_MOVE)
    return stepped(p, out, 0), stepped(h, out, 1)


cdef void adam_part(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t piece) noexcept nogil:
    cdef const Task* k = <const Task*> task
    if k.single:
        loops.adam(
            in32(k.x, first), <float> k.factor, <float> (1 - k.constants[0]), <float> (1 - k.constants[1]),
            out32(k.y, first), out32(k.y2, first), out32(k.y3, first), last - first
        )
    else:
        loops.adam(
            in64(k.x, first), k.factor, 1 - k.constants[0], 1 - k.constants[1],
            out64(k.y, first), out64(k.y2, first), out64(k.y3, first), last - first
        )


cdef int adam_numbers(object lr, object beta1, object beta2, object iter, double* numbers) except -1:
    """The rate at this step, beta1 and beta2: as arguments.adam_rate has it, without running any Python as a rule."""
    if type(iter) is int and 0 < iter < 1 << 31 and type(lr) is float and type(beta1) is float and type(beta2) is float:
        numbers[0], numbers[1], numbers[2] = lr, beta1, beta2
        if -INFINITY < numbers[0] < INFINITY and 0 <= numbers[1] < 1 and 0 <= numbers[2] < 1:
            numbers[0] = numbers[0] * sqrt(1 - pow(numbers[2], <double> iter)) / (1 - pow(numbers[1], <double> iter))
            return 0
    numbers[0], numbers[1], numbers[2] = arguments.adam_rate(lr, beta1, beta2, iter)
    return 0


def adam(p, m, v, dp, lr, beta1, beta2, iter, *, out=None):
    cdef double[3] numbers = [0, 0, 0]
    adam_numbers(lr, beta1, beta2, iter, numbers)
    if not in_place(p, m, v, dp, out):
        arrays = brought_in_place(("p", "m", "v"), (p, m, v), dp, out)
        if arrays is None:
            return hand_over("adam")(p, m, v, dp, lr, beta1, beta2, iter, out=out)
        p, m, v, dp = arrays
    cdef Task task = of_step(p, m, v, dp)
    task.factor, task.constants[0], task.constants[1] = numbers[0], numbers[1], numbers[2]
    run(adam_part, &task, task.N, 1, LONG_TO_MOVE)
    return stepped(p, out, 0), stepped(m, out, 1), stepped(v, out, 2)
