"""Sums, dot products and maxima: what softmax, the losses and the bias gradient have in common.

A sum in float64 carries its rounding errors along (Knuth's two-sum); one of float32 numbers is taken in double.
"""

from libc.math cimport INFINITY

from fastnn._kernels.vmath cimport real

cdef extern from *:
    # Nothing else points to what this points to: GCC compares at most ten pairs of pointers itself.
    ctypedef double* alone "double *__restrict"

cdef enum:
    LANES = 32
    SHORT = 64
    TILE = 256
    WIDE = 4096


cdef struct Sum:
    double total
    double error


cdef inline Sum plus(Sum s, double term) noexcept nogil:
    cdef double total = s.total + term
    cdef double kept = total - s.total
    return Sum(total, s.error + ((s.total - (total - kept)) + (term - kept)))


cdef inline double value(Sum s) noexcept nogil:
    # An infinity or NaN in the total has made the error NaN.
    return s.total + s.error if s.error == s.error else s.total


cdef inline Sum plus_sum(Sum s, Sum more) noexcept nogil:
    s = plus(s, more.total)
    s.error += more.error
    return s


cdef inline Sum sum_of_sums(const Sum* sums, Py_ssize_t n) noexcept nogil:
    """IN sums (n,), n >= 1."""
    cdef Sum s = sums[0]
    cdef Py_ssize_t k
    for k in range(1, n):  # scalar: few
        s = plus_sum(s, sums[k])
    return s


cdef inline void add_to(double* total, double* error, double term) noexcept nogil:
    """`plus`, for arrays of totals and of errors."""
    cdef double sum_ = total[0] + term
    cdef double kept = sum_ - total[0]
    error[0] += (total[0] - (sum_ - kept)) + (term - kept)
    total[0] = sum_


cdef inline void sum_columns(
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t width, int depth, alone totals, alone errors
) noexcept nogil:
    """IN x (rows, width) with rows `stride` apart, OUT totals, errors (width,).

    `depth` rows, 2, 4 or 8, are first added in pairs and pairs of pairs: up to three roundings, none if they are equal.
    They are read side by side, each as far as it goes: memory is read fastest in long rows.
    """
    cdef real term
    cdef Py_ssize_t n = 0, j
    cdef const real* a
    cdef const real* b
    cdef const real* c
    cdef const real* d
    cdef const real* e
    cdef const real* f
    cdef const real* g
    cdef const real* h
    for j in range(width):  # scalar: a memset
        totals[j] = 0
        errors[j] = 0
    while depth == 8 and n + 8 <= rows:
        a, b, c, d = x + n * stride, x + (n + 1) * stride, x + (n + 2) * stride, x + (n + 3) * stride
        e, f, g, h = a + 4 * stride, b + 4 * stride, c + 4 * stride, d + 4 * stride
        for j in range(width):
            term = ((a[j] + b[j]) + (c[j] + d[j])) + ((e[j] + f[j]) + (g[j] + h[j]))
            if real is double:
                add_to(totals + j, errors + j, term)
            else:
                totals[j] += term
        n += 8
    while depth >= 4 and n + 4 <= rows:
        a, b, c, d = x + n * stride, x + (n + 1) * stride, x + (n + 2) * stride, x + (n + 3) * stride
        for j in range(width):
            term = (a[j] + b[j]) + (c[j] + d[j])
            if real is double:
                add_to(totals + j, errors + j, term)
            else:
                totals[j] += term
        n += 4
    while n + 2 <= rows:
        a, b = x + n * stride, x + (n + 1) * stride
        for j in range(width):
            term = a[j] + b[j]
            if real is double:
                add_to(totals + j, errors + j, term)
            else:
                totals[j] += term
        n += 2
    if n < rows:
        a = x + n * stride
        for j in range(width):
            if real is double:
                add_to(totals + j, errors + j, a[j])
            else:
                totals[j] += a[j]


cdef inline Sum sum_of_few(const real* x, Py_ssize_t n) noexcept nogil:
    """IN x (n,), n < LANES."""
    cdef Sum even = Sum(0, 0), odd = Sum(0, 0)
    cdef Py_ssize_t i
    for i in range(n // 2):  # scalar: few
        even = plus(even, x[2 * i])
        odd = plus(odd, x[2 * i + 1])
    if n % 2:
        even = plus(even, x[n - 1])
    even.error += odd.error
    return plus(even, odd.total)


cdef inline void add_tile(const real* x, double* totals, double* errors) noexcept nogil:
    """IN x (TILE,), IN and OUT totals, errors (LANES,)."""
    cdef Py_ssize_t i = 0, k
    while i < TILE:
        for k in range(LANES):
            if real is double:
                add_to(totals + k, errors + k, x[i + k])
            else:
                totals[k] += x[i + k]
        i += LANES


cdef inline Sum sum_of_lanes(double* totals, double* errors) noexcept nogil:
    """IN totals, errors (LANES,), overwritten."""
    cdef Py_ssize_t width = LANES // 2, k
    while width:
        for k in range(width):
            errors[k] += errors[k + width]
            add_to(totals + k, errors + k, totals[k + width])
        width //= 2
    return Sum(totals[0], errors[0])


cdef inline Sum sum_of(const real* x, Py_ssize_t n) noexcept nogil:
    """IN x (n,)."""
    cdef double totals[LANES]
    cdef double errors[LANES]
    cdef Sum s, rest
    cdef Py_ssize_t rows = n // LANES
    if rows == 0:
        return sum_of_few(x, n)
    # Deeper, the roundings beside the one large term of a peaked softmax would show in every number of its row.
    sum_columns(x, LANES, rows, LANES, 2, totals, errors)
    s = sum_of_lanes(totals, errors)
    rest = sum_of_few(x + rows * LANES, n - rows * LANES)
    return plus(Sum(s.total, s.error + rest.error), rest.total)


cdef inline double dot_of_tile(const real* x, const real* y, Py_ssize_t n) noexcept nogil:
    """IN x, y (n,), n <= TILE."""
    cdef real lanes[LANES]
    cdef double totals[LANES]
    cdef Py_ssize_t i, k, whole = n // LANES, width = LANES // 2
    for k in range(LANES):  # scalar: a memset
        lanes[k] = 0
    for i in range(whole):
        for k in range(LANES):
            lanes[k] += x[i * LANES + k] * y[i * LANES + k]
    for k in range(n - whole * LANES):
        lanes[k] += x[whole * LANES + k] * y[whole * LANES + k]
    for k in range(LANES):  # scalar: a copy in float64
        totals[k] = lanes[k]
    while width:
        for k in range(width):
            totals[k] += totals[k + width]
        width //= 2
    return totals[0]


cdef inline double dot_of(const real* x, const real* y, Py_ssize_t n) noexcept nogil:
    """IN x, y (n,)."""
    cdef Sum s = Sum(0, 0)
    cdef double even = 0, odd = 0
    cdef Py_ssize_t i = 0, k
    if n < LANES:
        for k in range(n // 2):  # scalar: few
            even += x[2 * k] * y[2 * k]
            odd += x[2 * k + 1] * y[2 * k + 1]
        return even + odd + (x[n - 1] * y[n - 1] if n % 2 else 0)
    while i < n:
        s = plus(s, dot_of_tile(x + i, y + i, min(TILE, n - i)))
        i += TILE
    return value(s)


cdef inline real max_of(const real* x, Py_ssize_t n) noexcept nogil:
    """IN x (n,).  NaN is passed over: it spoils the row by itself."""
    cdef real lanes[LANES]
    cdef real largest = -INFINITY
    cdef Py_ssize_t i, k, whole = n - n % LANES
    if whole:
        for k in range(LANES):
            lanes[k] = -INFINITY
        i = 0
        while i < whole:
            for k in range(LANES):
                lanes[k] = x[i + k] if x[i + k] > lanes[k] else lanes[k]
            i += LANES
        for k in range(LANES):  # scalar: once a row
            largest = lanes[k] if lanes[k] > largest else largest
    for i in range(whole, n):  # scalar: few
        largest = x[i] if x[i] > largest else largest
    return largest
