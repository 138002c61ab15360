"""The boundary between Python and the loops: check, allocate, run, return.  Written once, for all families.

(A) An argument in the plain case (an ndarray of float32 or float64, C-contiguous, aligned, native byte order) is used
    as it is.  Any other layout of these dtypes is copied into the plain case.  Where arguments are of different dtypes
    that NumPy promotes to one of the two, the narrow ones are first copied into that.  For any other dtype the
    reference does the work, and the profiler is told.
(B) What is refused is refused by `fastnn.arguments`, so that every backend gives the same errors.
(C) No pointer is taken before every check of the call has passed, and no check is made before all arguments are numbers
    and exact arrays, since their conversion may run the caller's code.
(D) An op is an `Op`: its kernel in float32 and in float64.  `run` alone chooses between them, and how the work is done:
    little in one chunk under the GIL; LONG tasks without it; still larger ones in chunks, by several threads.
(E) The families, which hold loops and what calls them, are compiled for each instruction set, this module once.

Rejected: one module for each instruction set, put together from the families by `include`.  From a changed loop to a
running test it took 22 s on two processors, since the whole is compiled again; now it takes 5 to 12.  It was better in
what matters less: 45 s of processor time to build all from nothing, now 60; a wheel of 0.94 MB, now 1.40; an import
that is 3 ms shorter.  A call takes the same time.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uintptr_t
from libc.string cimport memcpy

cimport numpy as cnp

cimport fastnn._kernels.memory as memory
cimport fastnn._kernels.threads as threads
from fastnn._kernels.arrays cimport (
    PyArray_CheckExact,
    PyArray_ISCARRAY,
    PyArray_ISCARRAY_RO,
    PyArray_SAMESHAPE,
    data,
    itself_or_apart,
    native,
    same_type,
)
from fastnn._kernels.loops.reductions cimport LANES, SHORT, WIDE
from fastnn._kernels.vmath cimport real

import numpy as np

from fastnn import arguments, fallback, reference

cnp.import_array()

cdef enum:
    SHORTEST = 1 << 13  # elements of a chunk
    LINE = 64


# ---------------------------------------------------------------- arguments

cdef cnp.ndarray read(str name, object x, int least_ndim):
    """What `given` gives of anything but an exact array of numbers."""
    return arguments.numeric(name, x, least_ndim)


cdef cnp.ndarray made_plain(cnp.ndarray x, int least_ndim):
    """What `plain` gives of an array that is not plain."""
    cdef int type_num = cnp.PyArray_TYPE(x)
    if cnp.PyArray_NDIM(x) < least_ndim:
        raise RuntimeError("an argument lost its dimensions while another was being read")
    if not native(type_num):
        return None
    return x if PyArray_ISCARRAY_RO(x) else cnp.PyArray_FROM_OTF(x, type_num, cnp.NPY_ARRAY_CARRAY_RO)


cdef int need_same_shape(str name, cnp.ndarray x, str other_name, cnp.ndarray y) except -1:
    if not PyArray_SAMESHAPE(x, y):
        arguments.same_shape(name, x, other_name, y)
    return 0


cdef int common_type(cnp.ndarray x, cnp.ndarray x2) except -2:
    """The type that NumPy gives numbers of both together if it is a kernel's, else -1."""
    cdef int type_num = cnp.PyArray_TYPE(x)
    if not same_type(x, x2):
        type_num = np.promote_types(x.dtype, x2.dtype).num
    return type_num if native(type_num) else -1


cdef cnp.ndarray widened(cnp.ndarray x, int type_num):
    """x in the plain case and in a type that holds all its numbers."""
    cdef cnp.ndarray y
    if cnp.PyArray_TYPE(x) == type_num:
        return plain(x, 0)
    y = fresh(x, type_num)
    cnp.PyArray_CopyInto(y, x)
    return y


cdef object fall_back(str name):
    """The reference's function, which does what the kernel cannot."""
    tell = fallback.fell_back.get()
    if tell is not None:
        tell(name)
    return getattr(reference, name)


# ---------------------------------------------------------------- results

cdef cnp.ndarray empty(int ndim, cnp.npy_intp* shape, int type_num):
    cdef Py_ssize_t itemsize = 1 if type_num == cnp.NPY_BOOL else 4 if type_num == cnp.NPY_FLOAT32 else 8
    if cnp.PyArray_MultiplyList(shape, ndim) >= memory.LARGE // itemsize:
        return memory.large(ndim, shape, type_num)
    return cnp.PyArray_EMPTY(ndim, shape, type_num, 0)


cdef cnp.ndarray fresh(cnp.ndarray like, int type_num):
    return empty(cnp.PyArray_NDIM(like), cnp.PyArray_DIMS(like), type_num)


cdef cnp.ndarray result(object out, cnp.ndarray like, cnp.ndarray x, cnp.ndarray x2):
    """The array to write: of the shape and dtype of `like`, while x and x2, as they were given, are read."""
    if out is None:
        return fresh(like, cnp.PyArray_TYPE(like))
    if (
        PyArray_CheckExact(out)
        and same_type(<cnp.ndarray> out, like)
        and PyArray_ISCARRAY(<cnp.ndarray> out)
        and PyArray_SAMESHAPE(<cnp.ndarray> out, like)
        and itself_or_apart(<cnp.ndarray> out, x)
        and itself_or_apart(<cnp.ndarray> out, x2)
    ):
        return out
    inputs = (x,) if x2 is None else (x, x2)
    return arguments.output(out, (<object> like).shape, (<object> like).dtype, *inputs)


cdef object given_back(cnp.ndarray y, object out):
    return y if cnp.PyArray_NDIM(y) or out is not None else y[()]


# ---------------------------------------------------------------- ops and tasks

cdef class Op:
    pass


cdef class ColumnsOp(Op):
    pass


cdef Op chunked_op(str name, Chunk float32, Chunk float64, Py_ssize_t long_enough, bint by_rows):
    cdef Op op = Op.__new__(Op)
    op.name, op.long_enough, op.by_rows = name, long_enough, by_rows
    op.chunks[0], op.chunks[1] = float32, float64
    return op


cdef void work(const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk) noexcept nogil:
    cdef const Task* k = <const Task*> task
    k.chunk(k.x, task, first, last, chunk)


cdef Py_ssize_t run(
    Op op, cnp.ndarray x, Task* task, Py_ssize_t n, Py_ssize_t C, Py_ssize_t most_chunks
) noexcept:
    """Run an op over n units of C elements.  Returns in how many chunks: the number of threads does not change it."""
    cdef bint is_double = cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64
    cdef Py_ssize_t length = n
    task.chunk, task.loop, task.x = op.chunks[is_double], op.loops[is_double], data(x)
    if n * C < LONG:
        work(task, 0, n, 0)
        return 1
    if n * C * (sizeof(double) if is_double else sizeof(float)) >= <size_t> op.long_enough:
        length = max(n // most_chunks, SHORTEST // C) + 1
        if C <= SHORT:
            # Where rows are handled LANES at a time, a row must not depend on its chunk.
            length += LANES - length % LANES
    with nogil:
        threads.run(work, task, n, length)
    return (n + length - 1) // length


cdef void run_arrays(Op op, cnp.ndarray x, cnp.ndarray x2, cnp.ndarray y) noexcept:
    cdef Arrays task = Arrays(head(op, x), data(x2), data(y))
    run(op, x, &task.head, task.head.N, task.head.C, CHUNKS)


# ---------------------------------------------------------------- arrays in, an array out

cdef void unary_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    (<void (*)(const real*, real*, Py_ssize_t) noexcept nogil> k.head.loop)(
        x + first, <real*> k.y + first, last - first
    )


cdef void binary_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    (<void (*)(const real*, const real*, real*, Py_ssize_t) noexcept nogil> k.head.loop)(
        x + first, <const real*> k.x2 + first, <real*> k.y + first, last - first
    )


cdef void unary_chunk_by_rows(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    cdef Py_ssize_t C = k.head.C, at = first * C
    (<void (*)(const real*, real*, Py_ssize_t, Py_ssize_t) noexcept nogil> k.head.loop)(
        x + at, <real*> k.y + at, last - first, C
    )


cdef void binary_chunk_by_rows(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    cdef Py_ssize_t C = k.head.C, at = first * C
    (<void (*)(const real*, const real*, real*, Py_ssize_t, Py_ssize_t) noexcept nogil> k.head.loop)(
        x + at, <const real*> k.x2 + at, <real*> k.y + at, last - first, C
    )


cdef Op unary_op(str name, Loop float32, Loop float64, Py_ssize_t long_enough):
    cdef Op op = chunked_op(name, <Chunk> unary_chunk[float], <Chunk> unary_chunk[double], long_enough, False)
    op.loops[0], op.loops[1] = float32, float64
    return op


cdef Op binary_op(str name, Loop float32, Loop float64, Py_ssize_t long_enough):
    cdef Op op = chunked_op(name, <Chunk> binary_chunk[float], <Chunk> binary_chunk[double], long_enough, False)
    op.loops[0], op.loops[1] = float32, float64
    return op


cdef Op unary_op_by_rows(str name, Loop float32, Loop float64, Py_ssize_t long_enough):
    cdef Op op = chunked_op(
        name, <Chunk> unary_chunk_by_rows[float], <Chunk> unary_chunk_by_rows[double], long_enough, True
    )
    op.loops[0], op.loops[1] = float32, float64
    return op


cdef Op binary_op_by_rows(str name, Loop float32, Loop float64, Py_ssize_t long_enough):
    cdef Op op = chunked_op(
        name, <Chunk> binary_chunk_by_rows[float], <Chunk> binary_chunk_by_rows[double], long_enough, True
    )
    op.loops[0], op.loops[1] = float32, float64
    return op


cdef object unary(Op op, object x, object out):
    x = given("x", x, op.by_rows)
    cdef cnp.ndarray a = plain(x, 0)
    if a is None:
        return fall_back(op.name)(x, out=out)
    cdef cnp.ndarray y = result(out, a, x, None)
    run_arrays(op, a, None, y)
    return given_back(y, out)


cdef object binary(Op op, str name, object x, str name2, object x2, object out):
    """Of two arrays of one shape."""
    x, x2 = given(name, x, op.by_rows), given(name2, x2, 0)
    cdef cnp.ndarray a = plain(x, op.by_rows), b = plain(x2, 0)
    cdef int type_num
    if a is None or b is None or not same_type(a, b):
        type_num = common_type(x, x2)
        if type_num < 0:
            return fall_back(op.name)(x, x2, out=out)
        a, b = plain(widened(x, type_num), op.by_rows), widened(x2, type_num)
    need_same_shape(name, a, name2, b)
    cdef cnp.ndarray y = result(out, a, x, x2)
    run_arrays(op, a, b, y)
    return given_back(y, out)


# ---------------------------------------------------------------- by columns

cdef ColumnsOp columns_op(str name, Chunk float32, Chunk float64, Op merge, Op wide):
    cdef ColumnsOp op = ColumnsOp.__new__(ColumnsOp)
    op.name, op.long_enough, op.by_rows = name, 2 * MOVES, True
    op.chunks[0], op.chunks[1] = float32, float64
    op.merge, op.wide = merge, wide
    return op


cdef int by_columns(ColumnsOp op, cnp.ndarray x, cnp.ndarray y) except -1:
    """y (C,) = the sums over the rows of x, both plain."""
    cdef Columns task = Columns(head(op, x), data(y), NULL, NULL, 0)
    cdef Py_ssize_t N = task.head.N, C = task.head.C, most_chunks
    cdef void* memory_of_sums
    if cnp.PyArray_SIZE(y) != C:
        raise RuntimeError("an output changed its size while others were being read")
    if N == 1:
        memcpy(task.y, data(x), cnp.PyArray_NBYTES(y))
        return 0
    if C > WIDE:
        run(op.wide, x, &task.head, C, N, C // WIDE + 1)
        return 0
    # The sums of all chunks together stay small beside what they are the sums of.
    most_chunks = min(CHUNKS, 2 * WIDE // max(C, 1))
    memory_of_sums = PyMem_Malloc(2 * sizeof(double) * (C * most_chunks + 8 * LINE))
    if memory_of_sums == NULL:
        raise MemoryError
    # On whole cache lines, which are not the same ones of their pages.
    task.totals = <double*> ((<uintptr_t> memory_of_sums // LINE + 1) * LINE)
    task.errors = <double*> ((<uintptr_t> (task.totals + C * most_chunks) // LINE + 5) * LINE)
    task.chunks = run(op, x, &task.head, N, C, most_chunks)
    run(op.merge, x, &task.head, 1, 1, 1)
    PyMem_Free(memory_of_sums)
    return 0
