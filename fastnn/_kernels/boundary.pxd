cimport numpy as cnp

from fastnn._kernels.arrays cimport PyArray_CheckExact, PyArray_ISCARRAY_RO, columns, native, rows

cdef enum:
    # From how many elements a loop runs without the GIL, which costs more to let go than a shorter one gives.
    LONG = 32768
    # From how many bytes two threads were measured to be faster than one: for loops that wait for memory, and for those
    # that compute.
    MOVES = 1 << 21
    COMPUTES = 1 << 19
    # The most chunks of a task, as a rule.
    CHUNKS = 32

# A loop of an op, which its chunk casts back to what it is.
ctypedef void (*Loop)() noexcept nogil

# Runs an op on units first..last-1 of a task, its chunk number `chunk`.  x is the task's first array: its type says of
# which dtype the op is.
ctypedef void (*Chunk)(
    const void* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil

# The head of every task; a family's own begins with it.  `run` fills in the first three.
cdef struct Task:
    Chunk chunk
    Loop loop
    const void* x
    Py_ssize_t N
    Py_ssize_t C

# A task of N rows of C columns, or of N elements (C = 1): x, of the head, and x2, if there is one, make y.
cdef struct Arrays:
    Task head
    const void* x2
    void* y

# A task that sums the N rows of x, of C columns, to y: each chunk leaves its sums in `totals` and `errors`.
cdef struct Columns:
    Task head
    void* y
    double* totals
    double* errors
    Py_ssize_t chunks


cdef class Op:
    """A kernel: what runs it, in float32 and in float64."""
    cdef readonly str name
    cdef Chunk[2] chunks
    cdef Loop[2] loops
    cdef Py_ssize_t long_enough  # bytes from which threads share the work
    cdef bint by_rows  # of at least one dimension


cdef class ColumnsOp(Op):
    """A sum of columns by chunks of rows: `merge` adds what they leave.  Of wide rows, chunks are columns."""
    cdef Op merge
    cdef Op wide

cdef Op chunked_op(str name, Chunk float32, Chunk float64, Py_ssize_t long_enough, bint by_rows)
# Of loops (x, y, n) and (x, x2, y, n); by rows (x, y, N, C) and (x, x2, y, N, C).
cdef Op unary_op(str name, Loop float32, Loop float64, Py_ssize_t long_enough)
cdef Op binary_op(str name, Loop float32, Loop float64, Py_ssize_t long_enough)
cdef Op unary_op_by_rows(str name, Loop float32, Loop float64, Py_ssize_t long_enough)
cdef Op binary_op_by_rows(str name, Loop float32, Loop float64, Py_ssize_t long_enough)
cdef ColumnsOp columns_op(str name, Chunk float32, Chunk float64, Op merge, Op wide)

cdef object unary(Op op, object x, object out)
cdef object binary(Op op, str name, object x, str name2, object x2, object out)
cdef int by_columns(ColumnsOp op, cnp.ndarray x, cnp.ndarray y) except -1

cdef cnp.ndarray read(str name, object x, int least_ndim)
cdef cnp.ndarray made_plain(cnp.ndarray x, int least_ndim)
cdef int common_type(cnp.ndarray x, cnp.ndarray x2) except -2
cdef cnp.ndarray widened(cnp.ndarray x, int type_num)
cdef object fall_back(str name)
cdef int need_same_shape(str name, cnp.ndarray x, str other_name, cnp.ndarray y) except -1
cdef cnp.ndarray empty(int ndim, cnp.npy_intp* shape, int type_num)
cdef cnp.ndarray fresh(cnp.ndarray like, int type_num)
cdef cnp.ndarray result(object out, cnp.ndarray like, cnp.ndarray x, cnp.ndarray x2)
cdef object given_back(cnp.ndarray y, object out)
cdef void run_arrays(Op op, cnp.ndarray x, cnp.ndarray x2, cnp.ndarray y) noexcept
cdef Py_ssize_t run(Op op, cnp.ndarray x, Task* task, Py_ssize_t n, Py_ssize_t C, Py_ssize_t most_chunks) noexcept


# What every call passes through: without a call of their own where nothing is to be done.

cdef inline cnp.ndarray given(str name, object x, int least_ndim):
    """x as an exact array of real numbers."""
    cdef int type_num
    if PyArray_CheckExact(x) and cnp.PyArray_NDIM(<cnp.ndarray> x) >= least_ndim:
        type_num = cnp.PyArray_TYPE(<cnp.ndarray> x)
        if type_num <= cnp.NPY_LONGDOUBLE or type_num == cnp.NPY_FLOAT16:
            return <cnp.ndarray> x
    return read(name, x, least_ndim)


cdef inline cnp.ndarray plain(cnp.ndarray x, int least_ndim):
    """x, which `given` gave, in the plain case, or None if the reference has to do it."""
    if native(cnp.PyArray_TYPE(x)) and PyArray_ISCARRAY_RO(x) and cnp.PyArray_NDIM(x) >= least_ndim:
        return x
    return made_plain(x, least_ndim)


cdef inline Task head(Op op, cnp.ndarray x) noexcept:
    """Of x's rows, or its elements."""
    if op.by_rows:
        return Task(NULL, NULL, NULL, rows(x), columns(x))
    return Task(NULL, NULL, NULL, cnp.PyArray_SIZE(x), 1)
