"""The bias of an affine map, and its gradient: the sums of columns."""

from fastnn._kernels.loops cimport moves
from fastnn._kernels.loops.reductions cimport Sum, TILE, WIDE, add_to, sum_columns, value
from fastnn._kernels.vmath cimport real

cdef enum:
    # As far as memory has to be read in one go to be read fast.
    FAR = 2048


cdef inline int depth_of(Py_ssize_t rows) noexcept nogil:
    """How many rows are added first: the fewer there are, the less their roundings cancel."""
    return 8 if rows >= 256 else 4 if rows >= 64 else 2


cdef inline void add_sums(
    double* totals, double* errors, const double* more, const double* more_errors, Py_ssize_t M
) noexcept nogil:
    """IN and OUT totals, errors (M,), IN more, more_errors (M,)."""
    cdef Py_ssize_t j
    for j in range(M):
        errors[j] += more_errors[j]
        add_to(totals + j, errors + j, more[j])


cdef inline void sums_of_columns(
    const real* dout, Py_ssize_t rows, Py_ssize_t M, double* totals, double* errors
) noexcept nogil:
    """IN dout (rows, M), OUT totals, errors (M,), M <= WIDE."""
    cdef double side_by_side[FAR]
    cdef double lost[FAR]
    # Short rows are side by side for the vectors' sake, many of them for the memory's.
    cdef Py_ssize_t j, n, width, folded = max(TILE // M, min(FAR // M, rows // TILE)) if M else 0
    if folded < 2 or rows < folded:
        sum_columns(dout, M, rows, M, depth_of(rows), totals, errors)
        return
    n, width = rows // folded, folded * M
    sum_columns(dout, width, n, width, depth_of(n), side_by_side, lost)
    for j in range(M):  # scalar: a copy
        totals[j], errors[j] = side_by_side[j], lost[j]
    for n in range(1, folded):  # scalar: of rows
        add_sums(totals, errors, side_by_side + n * M, lost + n * M, M)
    n = rows - rows % folded
    if n < rows:
        sum_columns(dout + n * M, M, rows - n, M, 1, side_by_side, lost)
        add_sums(totals, errors, side_by_side, lost, M)


cdef inline void sum_of_chunks(
    double* totals, double* errors, real* db, Py_ssize_t chunks, Py_ssize_t M
) noexcept nogil:
    """IN totals, errors (chunks, M), the first of which are overwritten; OUT db (M,)."""
    cdef Py_ssize_t j, k
    for k in range(1, chunks):  # scalar: of rows
        add_sums(totals, errors, totals + k * M, errors + k * M, M)
    for j in range(M):
        db[j] = <real> value(Sum(totals[j], errors[j]))


cdef inline void wide_bias_grad(
    const real* dout, real* db, Py_ssize_t N, Py_ssize_t M, Py_ssize_t columns
) noexcept nogil:
    """IN dout, `columns` of (N, M), OUT db (columns,)."""
    cdef double totals[WIDE]
    cdef double errors[WIDE]
    cdef Py_ssize_t first = 0, width
    while first < columns:
        width = min(WIDE, columns - first)
        sum_columns(dout + first, M, N, width, depth_of(N), totals, errors)
        sum_of_chunks(totals, errors, db + first, 1, width)
        first += WIDE


cdef inline moves add_bias(const real* x, const real* b, real* y, Py_ssize_t N, Py_ssize_t M) noexcept nogil:
    """IN x (N, M), b (M,), OUT y (N, M), in place allowed."""
    cdef real repeated[TILE]
    cdef Py_ssize_t n, j, width = M, rows = N, folded = TILE // M if M else 0
    cdef const real* bias = b
    if folded >= 2 and N >= folded:
        width = folded * M
        rows = N // folded
        for n in range(folded):
            for j in range(M):  # scalar: few
                repeated[n * M + j] = b[j]
        bias = <const real*> repeated
    for n in range(rows):
        for j in range(width):
            y[n * width + j] = x[n * width + j] + bias[j]
    for j in range(rows * width, N * M):  # scalar: few
        y[j] = x[j] + b[j % M]
