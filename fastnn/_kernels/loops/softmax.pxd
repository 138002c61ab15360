"""Row by row: softmax and its gradient."""

from libc.math cimport INFINITY

from fastnn._kernels.loops.reductions cimport LANES, SHORT, Sum, TILE, dot_of, max_of, sum_of, value
from fastnn._kernels.vmath cimport exp_of_nonpositive, fma64, multiply_add, real


cdef enum:
    # Rows whose gradients are made at once: the next ones come from memory while these are summed.
    FEW = 8


cdef inline void divide(real* y, Sum divisor, Py_ssize_t n) noexcept nogil:
    """IN and OUT y (n,).  A product with the reciprocal, which is taken in two parts to be as good as a division."""
    cdef double reciprocal = 1.0 / value(divisor)
    cdef real high = <real> reciprocal, low
    cdef Py_ssize_t i
    if real is float:
        low = <real> (reciprocal - <double> high)
    else:
        low = (fma64(-divisor.total, high, 1.0) - divisor.error * high) * high
    for i in range(n):
        y[i] = multiply_add(y[i], high, y[i] * low)


cdef inline void softmax_row(const real* x, real* y, Py_ssize_t C, real* largest, Sum* total) noexcept nogil:
    """IN x (C,), OUT y (C,), in place allowed, and what the row was shifted and divided by."""
    cdef Py_ssize_t i
    largest[0] = max_of(x, C)
    for i in range(C):
        y[i] = exp_of_nonpositive(x[i] - largest[0])
    total[0] = sum_of(<const real*> y, C)
    divide(y, total[0], C)


cdef inline void softmax_side_by_side(
    const real* x, real* y, Py_ssize_t C, real* largest, Sum* total
) noexcept nogil:
    """IN x (LANES, C), OUT y (LANES, C), C <= SHORT, in place allowed; largest, total (LANES,)."""
    cdef real e[SHORT * LANES]
    cdef double totals[LANES]
    cdef double errors[LANES]
    cdef real high[LANES]
    cdef real low[LANES]
    cdef double sum_, kept, reciprocal
    cdef Py_ssize_t i, k
    for k in range(LANES):
        for i in range(C):
            e[i * LANES + k] = x[k * C + i]
    for k in range(LANES):
        largest[k] = -INFINITY
        totals[k] = 0
        errors[k] = 0
    for i in range(C):
        for k in range(LANES):
            largest[k] = e[i * LANES + k] if e[i * LANES + k] > largest[k] else largest[k]
    for i in range(C):
        for k in range(LANES):
            e[i * LANES + k] = exp_of_nonpositive(e[i * LANES + k] - largest[k])
    for i in range(C):
        for k in range(LANES):
            sum_ = totals[k] + e[i * LANES + k]
            if real is double:
                kept = sum_ - totals[k]
                errors[k] += (totals[k] - (sum_ - kept)) + (<double> e[i * LANES + k] - kept)
            totals[k] = sum_
    for k in range(LANES):
        total[k] = Sum(totals[k], errors[k])
        reciprocal = 1.0 / totals[k]
        high[k] = <real> reciprocal
        if real is float:
            low[k] = <real> (reciprocal - <double> high[k])
        else:
            low[k] = (fma64(-totals[k], reciprocal, 1.0) - errors[k] * reciprocal) * reciprocal
    for i in range(C):
        for k in range(LANES):
            e[i * LANES + k] = multiply_add(e[i * LANES + k], high[k], e[i * LANES + k] * low[k])
    for k in range(LANES):
        for i in range(C):  # scalar: scattered
            y[k * C + i] = e[i * LANES + k]


cdef inline void softmax_rows(
    const real* x, real* y, Py_ssize_t rows, Py_ssize_t C, real* largest, Sum* total
) noexcept nogil:
    """IN x (rows, C), OUT y (rows, C), in place allowed; largest, total (rows,)."""
    cdef Py_ssize_t n = 0
    if C <= SHORT:
        while n + LANES <= rows:
            softmax_side_by_side(x + n * C, y + n * C, C, largest + n, total + n)
            n += LANES
    while n < rows:
        softmax_row(x + n * C, y + n * C, C, largest + n, total + n)
        n += 1


cdef inline void softmax(const real* x, real* y, Py_ssize_t N, Py_ssize_t C) noexcept nogil:
    """IN x (N, C), OUT y (N, C), in place allowed."""
    cdef real largest[TILE]
    cdef Sum total[TILE]
    cdef Py_ssize_t first = 0
    while first < N:
        softmax_rows(x + first * C, y + first * C, min(TILE, N - first), C, largest, total)
        first += TILE


cdef inline void softmax_backward_side_by_side(
    const real* dout, const real* y, real* dx, Py_ssize_t C
) noexcept nogil:
    """IN dout, y (FEW, C), OUT dx (FEW, C), C <= SHORT, in place allowed."""
    cdef real products[FEW * SHORT]
    cdef real sums[FEW * SHORT + 4]
    cdef real s
    cdef const real* row
    cdef Py_ssize_t i, k
    for i in range(FEW * C):
        products[i] = dout[i] * y[i]
    for k in range(FEW):
        row = products + k * C
        s = 0
        i = 0
        while i + 4 <= C:
            s += (row[i] + row[i + 1]) + (row[i + 2] + row[i + 3])
            i += 4
        while i < C:
            s += row[i]
            i += 1
        # The last row may write up to 3 elements beyond its own.
        i = 0
        while i < C:
            sums[k * C + i] = s
            sums[k * C + i + 1] = s
            sums[k * C + i + 2] = s
            sums[k * C + i + 3] = s
            i += 4
    for i in range(FEW * C):
        dx[i] = y[i] * (dout[i] - sums[i])


cdef inline void softmax_backward(
    const real* dout, const real* y, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN dout, y (N, C), OUT dx (N, C), in place allowed."""
    cdef Py_ssize_t n = 0, i
    cdef real s
    if C <= SHORT:
        while n + FEW <= N:
            softmax_backward_side_by_side(dout + n * C, y + n * C, dx + n * C, C)
            n += FEW
    for n in range(n, N):
        s = <real> dot_of(dout + n * C, y + n * C, C)
        for i in range(n * C, n * C + C):
            dx[i] = y[i] * (dout[i] - s)
