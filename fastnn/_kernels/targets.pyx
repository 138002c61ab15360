"""Targets beside what they are targets of, and the sequence of every loss: the boundary's, for ops with a `t`."""

from libc.math cimport INFINITY

cimport numpy as cnp

from fastnn._kernels.arrays cimport (
    PyArray_ISCARRAY_RO,
    PyArray_SAMESHAPE,
    PyTypeNum_ISINTEGER,
    columns,
    data,
    rows,
    same_type,
)
from fastnn._kernels.boundary cimport (
    CHUNKS, LONG, fall_back, fresh, given, given_back, head, plain, result, run
)
from fastnn._kernels.loops.reductions cimport sum_of_sums, value

import numpy as np

from fastnn import arguments

cnp.import_array()

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define FASTNN_OTHERS_RUN 1
    #else
    #define FASTNN_OTHERS_RUN 0
    #endif
    """
    const bint OTHERS_RUN "FASTNN_OTHERS_RUN"

cdef enum:
    LABELS = cnp.NPY_ARRAY_CARRAY_RO | cnp.NPY_ARRAY_FORCECAST

ctypedef Py_ssize_t (*FirstBadLabel)(const Py_ssize_t* t, Py_ssize_t N, Py_ssize_t C) noexcept nogil
ctypedef bint (*AreProbabilities32)(const float* t, Py_ssize_t n) noexcept nogil
ctypedef bint (*AreProbabilities64)(const double* t, Py_ssize_t n) noexcept nogil


# ---------------------------------------------------------------- numbers

cdef object epsilon(object eps):
    return eps if type(eps) is float and 0 <= <double> eps < INFINITY else arguments.epsilon(eps)


cdef inline object upstream(object dout):
    return dout if type(dout) is float else arguments.upstream(dout)


cdef inline bint widens(object dout, cnp.ndarray y):
    """dout, from upstream(), would widen a result of y's dtype, which is the reference's work."""
    return type(dout) is not float and dout.dtype != (<object> y).dtype


# ---------------------------------------------------------------- classes, row by row

cdef inline bint are_labels_of(cnp.ndarray t, cnp.ndarray y):
    """Integers, one per row of y, which is not empty; their values are not looked at."""
    cdef int axis, ndim = cnp.PyArray_NDIM(y)
    if not PyTypeNum_ISINTEGER(cnp.PyArray_TYPE(t)) or cnp.PyArray_SIZE(y) == 0 or cnp.PyArray_NDIM(t) != ndim - 1:
        return False
    for axis in range(ndim - 1):
        if cnp.PyArray_DIM(t, axis) != cnp.PyArray_DIM(y, axis):
            return False
    return True


cdef inline cnp.ndarray steady_labels(cnp.ndarray t, bint steady):
    """t as intp, in a copy unless it is `steady`: then no other thread runs between its check and its use."""
    steady = steady and not OTHERS_RUN
    if steady and cnp.PyArray_TYPE(t) == cnp.NPY_INTP and PyArray_ISCARRAY_RO(t):
        return t
    return cnp.PyArray_FROM_OTF(t, cnp.NPY_INTP, LABELS | (0 if steady else cnp.NPY_ARRAY_ENSURECOPY))


cdef cnp.ndarray classes_of(LossOp op, str name, cnp.ndarray y, cnp.ndarray t, bint steady):
    """t as checked class indices (intp) or as targets of y's dtype, or None if the reference has to do it."""
    cdef FirstBadLabel first_bad = <FirstBadLabel> op.checks[0]
    cdef cnp.ndarray array
    cdef bint soft = False
    if are_labels_of(t, y):
        array = steady_labels(t, steady)
        if first_bad(<const Py_ssize_t*> data(array), rows(y), columns(y)) < 0:
            return array
    array, soft = arguments.targets(name, y, t)
    if not soft:
        array = steady_labels(array, steady)
        if first_bad(<const Py_ssize_t*> data(array), rows(y), columns(y)) >= 0:
            raise RuntimeError("t was changed by another thread while it was being checked")
        return array
    if not same_type(array, y) and np.result_type(array, y) != y.dtype:
        return None
    return cnp.PyArray_FROM_OTF(array, cnp.PyArray_TYPE(y), cnp.NPY_ARRAY_CARRAY_RO)


# ---------------------------------------------------------------- values and probabilities, element by element

cdef inline bint are_classes_of(cnp.ndarray t, cnp.ndarray y):
    """Integers or booleans, one per element of y, which is not empty; their values are not looked at."""
    cdef int type_num = cnp.PyArray_TYPE(t)
    return (
        (type_num == cnp.NPY_BOOL or PyTypeNum_ISINTEGER(type_num))
        and PyArray_SAMESHAPE(t, y)
        and cnp.PyArray_SIZE(y) > 0
    )


cdef inline bint are_probabilities(LossOp op, cnp.ndarray t):
    if cnp.PyArray_TYPE(t) == cnp.NPY_FLOAT32:
        return (<AreProbabilities32> op.checks[0])(<const float*> data(t), cnp.PyArray_SIZE(t))
    return (<AreProbabilities64> op.checks[1])(<const double*> data(t), cnp.PyArray_SIZE(t))


cdef cnp.ndarray values_of(LossOp op, str name, cnp.ndarray y, cnp.ndarray t):
    """t in y's shape and dtype, checked, or None if the reference has to do it."""
    cdef bint binary = op.kind == PROBABILITIES
    cdef cnp.ndarray array
    if (
        same_type(t, y)
        and PyArray_ISCARRAY_RO(t)
        and PyArray_SAMESHAPE(t, y)
        and cnp.PyArray_SIZE(y)
        and (not binary or are_probabilities(op, t))
    ):
        return t
    if binary and are_classes_of(t, y):
        array = fresh(y, cnp.PyArray_TYPE(y))
        cnp.PyArray_CopyInto(array, t)
        if are_probabilities(op, array):
            return array
    array = arguments.binary_targets(name, y, t) if binary else arguments.values(name, y, t)
    return array if same_type(array, y) else None


cdef cnp.ndarray targets_of(LossOp op, str name, cnp.ndarray x, cnp.ndarray t, bint steady):
    """t, checked, as the op reads it beside x, or None if the reference has to do it.

    It may still be in another layout than the plain one.  `steady`: see `steady_labels`.
    """
    return classes_of(op, name, x, t, steady) if op.kind == CLASSES else values_of(op, name, x, t)


# ---------------------------------------------------------------- the sequence

cdef LossOp loss_op(
    str name, Kind kind, int form, Chunk float32, Chunk float64, Loop check32, Loop check64,
    Py_ssize_t long_enough
):
    cdef LossOp op = LossOp.__new__(LossOp)
    op.name, op.kind, op.form = name, kind, form
    op.chunks[0], op.chunks[1] = float32, float64
    op.checks[0], op.checks[1] = check32, check64
    op.long_enough, op.by_rows = long_enough, kind == CLASSES
    return op


cdef object run_loss(LossOp op, cnp.ndarray x, cnp.ndarray t, cnp.ndarray y, double eps, double dout):
    """The mean over the rows, as a scalar of x's dtype, if the op gives a loss.  t is plain and from targets_of."""
    cdef Sum sums[CHUNKS]
    cdef Sum s
    cdef bint has_labels = not same_type(t, x)
    cdef WithTargets task = WithTargets(head(op, x), NULL, NULL, data(y), eps, dout, &sums[0])
    cdef Py_ssize_t chunks
    cdef double loss
    cdef float rounded
    if has_labels:
        task.labels = <const Py_ssize_t*> data(t)
    else:
        task.targets = data(t)
    # A loss of probabilities at labels reads one number of each row.
    chunks = run(op, x, &task.head, task.head.N, 1 if y is None and has_labels else task.head.C, CHUNKS)
    if not op.form & LOSS:
        return None
    s = sum_of_sums(sums, chunks)
    # The total is not rounded with its error before the division, where a rounding may count double.
    loss = 0 - value(Sum(s.total / task.head.N, s.error / task.head.N))
    rounded = <float> loss
    return cnp.PyArray_ToScalar(<void*> &rounded if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 else <void*> &loss, x)


cdef object loss(LossOp op, object x, object t, object dout, object eps, object out):
    """The loss, the array that the op makes of x and t, or both."""
    cdef bint gives_loss = op.form & LOSS, gives_array = op.form & ARRAY
    cdef str name = "x" if gives_loss and gives_array else "y"
    cdef int least_ndim = op.kind != VALUES
    cdef cnp.ndarray y = None
    cdef Py_ssize_t work
    eps, dout = epsilon(eps), upstream(dout)
    x, t = given(name, x, least_ndim), given("t", t, 0)
    cdef cnp.ndarray a = plain(x, least_ndim), b = None
    if a is not None:
        # What checks `out` may be Python, during which other threads run, and so do they while loops are long.
        work = cnp.PyArray_SIZE(a) if gives_array or op.kind != CLASSES else rows(a)
        b = targets_of(op, name, a, t, out is None and work < LONG)
    if a is None or b is None or widens(dout, a):
        return loss_by_reference(op, x, t, dout, eps, out)
    if gives_array:
        read = t if op.kind == CLASSES else b
        y = result(out, a, x, None if gives_loss else read)
        if out is not None and gives_loss:
            arguments.clear_of(out, "t", read)
    mean = run_loss(op, a, b if op.kind == CLASSES else plain(b, 0), y, eps, dout)
    if not gives_array:
        return mean
    array = given_back(y, out)
    return (mean, array) if gives_loss else array


cdef object loss_by_reference(LossOp op, object x, object t, object dout, object eps, object out):
    args = (x, t, dout) if op.form & DOUT else (x, t)
    options = {"eps": eps} if op.form & EPS else {}
    if op.form & ARRAY:
        options["out"] = out
    return fall_back(op.name)(*args, **options)
