"""Targets beside what they are targets of, and the sequence of every loss: the boundary's, for ops with a `t`."""

from libc.math cimport INFINITY
from libc.stdint cimport uint64_t

cimport numpy as cnp

from fastnn._kernels.arrays cimport (
    PyArray_CheckExact,
    PyArray_ISCARRAY_RO,
    PyArray_SAMESHAPE,
    PyTypeNum_ISFLOAT,
    PyTypeNum_ISINTEGER,
    PyTypeNum_ISNUMBER,
    columns,
    data,
    native,
    rows,
    same_type,
)
from fastnn._kernels.boundary cimport (
    CHUNKS, LONG, MOVES, chunked_op, common_type, fall_back, fresh, given, given_back, head, plain, result, run,
    run_arrays, widened
)
from fastnn._kernels.loops.reductions cimport sum_of_sums
from fastnn._kernels.vmath cimport real


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
    BLOCK = 128  # elements

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


cdef uint64_t bits_of_one(int type_num) noexcept:
    if type_num == cnp.NPY_FLOAT64:
        return <uint64_t> 0x3FF << 52
    if type_num == cnp.NPY_FLOAT32:
        return <uint64_t> 0x7F << 23
    return <uint64_t> 0xF << 10 if type_num == cnp.NPY_FLOAT16 else 1


cdef inline int of_width(cnp.ndarray t) noexcept:
    """The place of a loop for elements of 1, 2, 4 or 8 bytes."""
    cdef Py_ssize_t itemsize = cnp.PyArray_ITEMSIZE(t)
    return 0 if itemsize == 1 else 1 if itemsize == 2 else itemsize // 4 + 1


cdef LabelsOf labels_of_rows(LossOp op, cnp.ndarray t) noexcept:
    return <LabelsOf> op.labels_of[of_width(t)]


cdef cnp.ndarray labels_of(LossOp op, cnp.ndarray t):
    """The class indices of one-hot rows, or None if t is something else."""
    cdef int type_num = cnp.PyArray_TYPE(t)
    cdef LabelsOf find = labels_of_rows(op, t)
    cdef cnp.npy_intp N = rows(t), C = columns(t)
    cdef cnp.ndarray labels = cnp.PyArray_EMPTY(1, &N, cnp.NPY_INTP, 0)
    cdef uint64_t one = bits_of_one(type_num)
    cdef Py_ssize_t* found = <Py_ssize_t*> data(labels)
    cdef const void* numbers
    cdef bint one_hot
    t = cnp.PyArray_FROM_OTF(t, type_num, cnp.NPY_ARRAY_CARRAY_RO)
    numbers = data(t)
    if N * C < LONG:
        one_hot = find(numbers, one, found, N, C)
    else:
        with nogil:
            one_hot = find(numbers, one, found, N, C)
    return labels if one_hot else None


# One for `class_indices`: whichever was made last, since all find the same.
cdef LossOp of_classes = None


def class_indices(x, t):
    """t as a loss takes it beside x: class indices, if it is a one-hot array that does not widen x; else t itself."""
    if of_classes is None or not PyArray_CheckExact(x) or not PyArray_CheckExact(t):
        return t
    if not (PyArray_SAMESHAPE(x, t) and cnp.PyArray_NDIM(x) and cnp.PyArray_SIZE(x) and native(cnp.PyArray_TYPE(x))):
        return t
    if not PyTypeNum_ISNUMBER(cnp.PyArray_TYPE(t)) or common_type(t, x) != cnp.PyArray_TYPE(x):
        return t
    cdef cnp.ndarray labels = labels_of(of_classes, t)
    if labels is None:
        return t
    return labels if cnp.PyArray_NDIM(x) == 2 else labels.reshape(x.shape[:-1])


cdef cnp.ndarray classes_of(LossOp op, str name, cnp.ndarray y, cnp.ndarray t, bint steady):
    """t as checked class indices (intp) or as targets of y's dtype, or None if the reference has to do it."""
    cdef FirstBadLabel first_bad = <FirstBadLabel> op.checks[0]
    cdef cnp.ndarray array
    cdef bint soft
    if PyArray_SAMESHAPE(t, y) and cnp.PyArray_SIZE(y):
        if common_type(t, y) != cnp.PyArray_TYPE(y):
            return None
        array = labels_of(op, t)
        return cnp.PyArray_FROM_OTF(t, cnp.PyArray_TYPE(y), cnp.NPY_ARRAY_CARRAY_RO) if array is None else array
    if are_labels_of(t, y):
        array = steady_labels(t, steady)
        if first_bad(<const Py_ssize_t*> data(array), rows(y), columns(y)) < 0:
            return array
    array, soft = arguments.targets(name, y, t)
    array = steady_labels(array, steady)
    if soft or first_bad(<const Py_ssize_t*> data(array), rows(y), columns(y)) >= 0:
        raise RuntimeError("t was changed by another thread while it was being checked")
    return array


# ---------------------------------------------------------------- values and probabilities, element by element

cdef inline bint are_classes_of(cnp.ndarray t, cnp.ndarray y):
    """Integers or booleans, one per element of y, which is not empty; their values are not looked at."""
    cdef int type_num = cnp.PyArray_TYPE(t)
    return (
        (type_num == cnp.NPY_BOOL or PyTypeNum_ISINTEGER(type_num))
        and PyArray_SAMESHAPE(t, y)
        and cnp.PyArray_SIZE(y) > 0
    )


# Classes of `itemsize` bytes, which `load` makes numbers of; each chunk tells whether its own are good.
cdef struct WithClasses:
    WithTargets head
    Chunk chunk  # of the op that takes them as targets
    const char* t
    Py_ssize_t itemsize
    Loop load
    bint[CHUNKS] good


ctypedef bint (*Load32)(const void* t, float* numbers, Py_ssize_t n) noexcept nogil
ctypedef bint (*Load64)(const void* t, double* numbers, Py_ssize_t n) noexcept nogil


cdef inline bint loaded(const WithClasses* k, Py_ssize_t first, real* numbers, Py_ssize_t n) noexcept nogil:
    """OUT numbers (n,), 0 or 1.  Whether these classes are."""
    if real is float:
        return (<Load32> k.load)(k.t + first * k.itemsize, numbers, n)
    else:
        return (<Load64> k.load)(k.t + first * k.itemsize, numbers, n)


cdef void as_numbers_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef WithClasses* k = <WithClasses*> task
    k.good[chunk] = loaded(k, first, <real*> k.head.y + first, last - first)


cdef void with_classes_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    """The op itself, by blocks: arrays are read and written fastest all at once, a little of each in turn."""
    cdef WithClasses* k = <WithClasses*> task
    cdef WithTargets block = k.head
    cdef real numbers[BLOCK]
    cdef Py_ssize_t n
    block.targets = numbers
    k.good[chunk] = True
    while first < last:
        n = min(BLOCK, last - first)
        k.good[chunk] &= loaded(k, first, numbers, n)
        block.y = <real*> k.head.y + first
        k.chunk(x + first, &block, 0, n, 0)
        first += n


cdef Op AS_NUMBERS = chunked_op("", <Chunk> as_numbers_chunk[float], <Chunk> as_numbers_chunk[double], MOVES, False)
cdef Op WITH_CLASSES = chunked_op(
    "", <Chunk> with_classes_chunk[float], <Chunk> with_classes_chunk[double], MOVES, False
)


cdef cnp.ndarray run_classes(LossOp op, Op convert, cnp.ndarray x, cnp.ndarray t, double dout):
    """A new array, made by AS_NUMBERS or WITH_CLASSES; None if there are classes other than 0 and 1."""
    cdef bint is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef cnp.ndarray y = fresh(x, cnp.PyArray_TYPE(x))
    cdef WithClasses task
    cdef Py_ssize_t k
    t = cnp.PyArray_FROM_OTF(t, cnp.PyArray_TYPE(t), cnp.NPY_ARRAY_CARRAY_RO)
    if not (PyArray_SAMESHAPE(t, y) and PyArray_SAMESHAPE(x, y)):
        raise RuntimeError("an argument changed its shape while it was being read")
    task.head = WithTargets(head(op, x), NULL, NULL, data(y), 0, dout, NULL)
    task.chunk, task.load = op.chunks[is_double], op.loads[2 * of_width(t) + is_double]
    task.t, task.itemsize = <const char*> data(t), cnp.PyArray_ITEMSIZE(t)
    for k in range(run(convert, x, &task.head.head, task.head.head.N, 1, CHUNKS)):
        if not task.good[k]:
            return None
    return y


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
        array = run_classes(op, AS_NUMBERS, y, t, 0)
        if array is not None:
            return array
    array = arguments.binary_targets(name, y, t) if binary else arguments.values(name, y, t)
    if same_type(array, y):
        return array
    return widened(array, cnp.PyArray_TYPE(y)) if common_type(array, y) == cnp.PyArray_TYPE(y) else None


cdef bint widen(LossOp op, cnp.ndarray x, cnp.ndarray t) except -1:
    """Targets beside x make the result float64, and x, which is float32, does not."""
    if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64 or same_type(x, t):
        return False
    if op.kind == CLASSES and not PyArray_SAMESHAPE(t, x):
        return False
    if op.kind != CLASSES and not PyTypeNum_ISFLOAT(cnp.PyArray_TYPE(t)):
        return op.kind == VALUES  # differences of integers are taken in float64
    return common_type(x, t) == cnp.NPY_FLOAT64


cdef cnp.ndarray targets_of(LossOp op, str name, cnp.ndarray x, cnp.ndarray t, bint steady):
    """t, checked, as the op reads it beside x, or None if the reference has to do it.

    It may still be in another layout than the plain one.  `steady`: see `steady_labels`.
    """
    return classes_of(op, name, x, t, steady) if op.kind == CLASSES else values_of(op, name, x, t)


# ---------------------------------------------------------------- the sequence

cdef LossOp loss_op(
    str name, Kind kind, int form, Chunk float32, Chunk float64, Loop check32, Loop check64,
    Py_ssize_t long_enough, Op array_alone=None
):
    cdef LossOp op = LossOp.__new__(LossOp)
    op.name, op.kind, op.form = name, kind, form
    op.chunks[0], op.chunks[1] = float32, float64
    op.checks[0], op.checks[1] = check32, check64
    op.long_enough, op.by_rows, op.array_alone = long_enough, kind == CLASSES, array_alone
    if kind == CLASSES:
        global of_classes
        of_classes = op
    return op


cdef object run_loss(LossOp op, cnp.ndarray x, cnp.ndarray t, cnp.ndarray y, double eps, double dout):
    """The mean over the rows, as a scalar of x's dtype, if the op gives a loss.  t is plain and from targets_of.

    Python may have run since t was checked beside x, so it is looked at again.
    """
    cdef FirstBadLabel first_bad = <FirstBadLabel> op.checks[0]
    cdef Sum sums[CHUNKS]
    cdef bint has_labels = not same_type(t, x)
    cdef WithTargets task = WithTargets(head(op, x), NULL, NULL, data(y), eps, dout, &sums[0])
    cdef Py_ssize_t chunks
    cdef double loss
    cdef float rounded
    if has_labels:
        task.labels = <const Py_ssize_t*> data(t)
    else:
        task.targets = data(t)
    if (
        cnp.PyArray_SIZE(t) != (task.head.N if has_labels else task.head.N * task.head.C)
        or has_labels and first_bad(task.labels, task.head.N, task.head.C) >= 0
        or y is not None and cnp.PyArray_SIZE(y) != task.head.N * task.head.C
    ):
        raise RuntimeError("an argument changed while others were being read")
    # A loss of probabilities at labels reads one number of each row.
    chunks = run(op, x, &task.head, task.head.N, 1 if y is None and has_labels else task.head.C, CHUNKS)
    if not op.form & LOSS:
        return None
    loss = mean_of(sum_of_sums(sums, chunks), task.head.N)
    rounded = <float> loss
    return cnp.PyArray_ToScalar(<void*> &rounded if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT32 else <void*> &loss, x)


cdef object loss(LossOp op, object x, object t, object dout, object eps, object out):
    """The loss, the array that the op makes of x and t, or both."""
    cdef bint classes, gives_loss = op.form & LOSS, gives_array = op.form & ARRAY
    cdef str name = "x" if gives_loss and gives_array else "y"
    cdef int least_ndim = op.kind != VALUES
    cdef cnp.ndarray y = None, w
    cdef Py_ssize_t work
    eps, dout = epsilon(eps), upstream(dout)
    x, t = given(name, x, least_ndim), given("t", t, 0)
    cdef cnp.ndarray a = plain(x, least_ndim), b = None
    if a is not None:
        w = plain(widened(a, cnp.NPY_FLOAT64), least_ndim) if widen(op, a, t) else a
        if op.kind == PROBABILITIES and not gives_loss and out is None and are_classes_of(t, w) and not widens(dout, w):
            y = run_classes(op, WITH_CLASSES, w, t, dout)
            if y is not None:
                return y
        # What checks `out` may be Python, during which other threads run, and so do they while loops are long.
        work = cnp.PyArray_SIZE(a) if gives_array or op.kind != CLASSES else rows(a)
        b = targets_of(op, name, w, t, out is None and work < LONG)
    if a is None or b is None or widens(dout, w):
        return loss_by_reference(op, x, t, dout, eps, out)
    if gives_array:
        # Classes of two were copied, as by the reference.  Else b is t itself, in x's shape, or its copy.
        classes = op.kind == PROBABILITIES and not PyTypeNum_ISFLOAT(cnp.PyArray_TYPE(t))
        read = b if classes or op.kind != CLASSES and same_type(b, t) else t
        if out is not None and op.kind != CLASSES and not PyArray_SAMESHAPE(read, w):
            read = (<object> read).reshape((<object> w).shape)  # a column of targets, as the reference has it
        y = result(out, w if op.array_alone is None else a, x, None if gives_loss else read)
        if out is not None and gives_loss:
            arguments.clear_of(out, "t", read)
    b = b if op.kind == CLASSES else plain(b, 0)
    if w is a or op.array_alone is None:
        mean = run_loss(op, w, b, y, eps, dout)
    else:
        mean = run_loss(op, w, b, w, eps, dout)
        run_arrays(op.array_alone, a, None, y)
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
