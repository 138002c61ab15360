"""The loops: raw memory in, raw memory out, no Python objects, no checks (kernels.pyx has made them).

Every array is C-contiguous.  x and y may be the same memory where a docstring says "in place"; otherwise arrays do not
overlap.  N rows of C (or M) columns; `real` is float32 or float64.

(A) A long sum is taken in columns: LANES interleaved partial sums, as wide as vectors want them.  A few rows are added
    in `real`, then in double, for float64 with the rounding errors carried along (Knuth's two-sum), so that the error
    does not grow with the length.
(B) Rows too short for vectors are handled several at a time: softmax turns LANES rows of up to SHORT columns on their
    side, so that the vectors run across rows; the column loops view k rows of M columns as one row of k M.
(C) Inner loops are vectorised but for those marked "scalar", which `python -m bench.vectorised` holds.
"""

from libc.math cimport INFINITY
from libc.stdint cimport uint8_t
from libc.string cimport memcpy, memset

from fastnn._kernels.vmath cimport (
    exp_of_nonpositive, fma64, log, multiply_add, real, root, sigmoid as sigmoid_of
)

cdef enum:
    LANES = 32
    SHORT = 64
    TILE = 256
    WIDE = 1024
    CLOSE = 4096


# ---------------------------------------------------------------- sums

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
    const real* x, Py_ssize_t stride, Py_ssize_t rows, Py_ssize_t width, int depth, double* totals, double* errors
) noexcept nogil:
    """IN x (rows, width) with rows `stride` apart, OUT totals, errors (width,), width <= WIDE.

    `depth` rows, 2, 4 or 8, are first added in pairs and pairs of pairs: up to three roundings, none if they are equal.
    """
    cdef real group[WIDE]
    cdef real term
    cdef Py_ssize_t n = 0, j
    cdef const real* a
    cdef const real* b
    cdef const real* c
    cdef const real* d
    for j in range(width):  # scalar: a memset
        totals[j] = 0
        errors[j] = 0
    while depth == 8 and n + 8 <= rows:
        a, b, c, d = x + n * stride, x + (n + 1) * stride, x + (n + 2) * stride, x + (n + 3) * stride
        for j in range(width):
            group[j] = (a[j] + b[j]) + (c[j] + d[j])
        a, b, c, d = a + 4 * stride, b + 4 * stride, c + 4 * stride, d + 4 * stride
        for j in range(width):
            term = group[j] + ((a[j] + b[j]) + (c[j] + d[j]))
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


cdef inline Sum sum_of(const real* x, Py_ssize_t n) noexcept nogil:
    """IN x (n,)."""
    cdef double totals[LANES]
    cdef double errors[LANES]
    cdef Sum rest
    cdef Py_ssize_t rows = n // LANES, width = LANES // 2, k
    if rows == 0:
        return sum_of_few(x, n)
    # Deeper, the roundings beside the one large term of a peaked softmax would show in every number of its row.
    sum_columns(x, LANES, rows, LANES, 2, totals, errors)
    while width:
        for k in range(width):
            errors[k] += errors[k + width]
            add_to(totals + k, errors + k, totals[k + width])
        width //= 2
    rest = sum_of_few(x + rows * LANES, n - rows * LANES)
    return plus(Sum(totals[0], errors[0] + rest.error), rest.total)


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


# ---------------------------------------------------------------- element by element

cdef inline void relu(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = <real> 0 if x[i] <= 0 else x[i]


cdef inline void relu_with_mask(const real* x, real* y, uint8_t* mask, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), mask (n,), y in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        mask[i] = x[i] <= 0
        y[i] = <real> 0 if x[i] <= 0 else x[i]


cdef inline void relu_backward(const real* dout, const uint8_t* mask, real* dx, Py_ssize_t n) noexcept nogil:
    """IN dout (n,), mask (n,), OUT dx (n,), in place allowed."""
    cdef real kept
    cdef Py_ssize_t i
    for i in range(n):
        kept = dout[i]  # read in any case: without masked loads a conditional one is not vectorised
        dx[i] = <real> 0 if mask[i] else kept


cdef inline void sigmoid(const real* x, real* y, Py_ssize_t n) noexcept nogil:
    """IN x (n,), OUT y (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = sigmoid_of(x[i])


cdef inline void sigmoid_backward(const real* dout, const real* y, real* dx, Py_ssize_t n) noexcept nogil:
    """IN dout, y (n,), OUT dx (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = dout[i] * (<real> 1 - y[i]) * y[i]


# ---------------------------------------------------------------- row by row

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
    """IN dout, y (LANES, C), OUT dx (LANES, C), C <= SHORT, in place allowed."""
    cdef real products[SHORT * LANES]
    cdef real sums[SHORT * LANES + 4]
    cdef real s
    cdef const real* row
    cdef Py_ssize_t i, k
    for i in range(LANES * C):
        products[i] = dout[i] * y[i]
    for k in range(LANES):
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
    for i in range(LANES * C):
        dx[i] = y[i] * (dout[i] - sums[i])


cdef inline void softmax_backward(
    const real* dout, const real* y, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN dout, y (N, C), OUT dx (N, C), in place allowed."""
    cdef Py_ssize_t n = 0, i
    cdef real s
    if C <= SHORT:
        while n + LANES <= N:
            softmax_backward_side_by_side(dout + n * C, y + n * C, dx + n * C, C)
            n += LANES
    for n in range(n, N):
        s = <real> dot_of(dout + n * C, y + n * C, C)
        for i in range(n * C, n * C + C):
            dx[i] = y[i] * (dout[i] - s)


# ---------------------------------------------------------------- losses

cdef inline Py_ssize_t first_bad_label(const Py_ssize_t* t, Py_ssize_t N, Py_ssize_t C) noexcept nogil:
    """IN t (N,).  The first row whose label is outside 0..C-1, or -1."""
    cdef Py_ssize_t n
    cdef size_t worst = 0
    for n in range(N):
        worst = <size_t> t[n] if <size_t> t[n] > worst else worst
    if N == 0 or worst < <size_t> C:
        return -1
    for n in range(N):  # scalar: stops at the first
        if <size_t> t[n] >= <size_t> C:
            return n
    return -1


cdef inline double sum_of_logs(real* p, Py_ssize_t n) noexcept nogil:
    """IN p (n,), overwritten with its logarithms."""
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = log(p[i])
    return value(sum_of(<const real*> p, n))


cdef inline double weighted_sum(const real* t, const real* x, real shift, Py_ssize_t n) noexcept nogil:
    """IN t, x (n,).  sum t (x - shift) over the t that are not 0: an infinite x counts for nothing there."""
    cdef Sum s = Sum(0, 0)
    cdef real shifted
    cdef real counted[TILE]
    cdef Py_ssize_t i = 0, k, width
    while i < n:
        width = min(TILE, n - i)
        for k in range(width):
            shifted = x[i + k] - shift
            counted[k] = <real> 0 if t[i + k] == 0 else shifted
        s = plus(s, dot_of(t + i, <const real*> counted, width))
        i += TILE
    return value(s)


cdef inline Sum weighted_logs(const real* t, const real* y, real eps, Py_ssize_t n) noexcept nogil:
    """IN t, y (n,).  sum t log(y + eps) over the t that are not 0."""
    cdef Sum s = Sum(0, 0)
    cdef real logs[TILE]
    cdef Py_ssize_t i = 0, k, width
    while i < n:
        width = min(TILE, n - i)
        for k in range(width):
            logs[k] = log(y[i + k] + eps)
        s = plus(s, weighted_sum(t + i, <const real*> logs, <real> 0, width))
        i += TILE
    return s


# Each gives the sum over its rows, of which the loss is minus the mean.

cdef inline Sum cross_entropy_labels(
    const real* y, const Py_ssize_t* t, real eps, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN y (N, C), t (N,)."""
    cdef Sum s = Sum(0, 0)
    cdef real p[TILE]
    cdef Py_ssize_t first, rows, n
    first = 0
    while first < N:
        rows = min(TILE, N - first)
        for n in range(rows):  # scalar: at labels
            p[n] = y[(first + n) * C + t[first + n]] + eps
        s = plus(s, sum_of_logs(p, rows))
        first += TILE
    return s


cdef inline Sum cross_entropy_targets(const real* y, const real* t, real eps, Py_ssize_t n) noexcept nogil:
    """IN y, t (n,)."""
    return weighted_logs(t, y, eps, n)


cdef inline void cross_entropy_labels_backward(
    const real* y, const Py_ssize_t* t, real dout, real eps, real* dy, Py_ssize_t N, Py_ssize_t rows, Py_ssize_t C
) noexcept nogil:
    """IN y (rows, C), t (rows,), OUT dy (rows, C), in place allowed.  N is the rows of the whole."""
    cdef Py_ssize_t n
    cdef real p
    for n in range(rows):  # scalar: at labels
        p = y[n * C + t[n]]
        memset(dy + n * C, 0, C * sizeof(real))
        dy[n * C + t[n]] = -dout / (<real> N * (p + eps))


cdef inline void cross_entropy_targets_backward(
    const real* y, const real* t, real dout, real eps, real* dy, Py_ssize_t N, Py_ssize_t n
) noexcept nogil:
    """IN y, t (n,), OUT dy (n,), in place allowed.  N is the rows of the whole."""
    cdef Py_ssize_t i
    cdef real rows = <real> N
    for i in range(n):
        dy[i] = <real> 0 if t[i] == 0 else -t[i] * dout / (rows * (y[i] + eps))


# `exact` means eps = 0 before it was rounded to `real`: the loss of a row is log(sum exp(x)) - x[t], both parts
# relative to the row's maximum.  Otherwise it is -log(softmax(x)[t] + eps).

cdef inline Sum softmax_cross_entropy_labels(
    const real* x, const Py_ssize_t* t, real eps, bint exact, real* y, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN x (N, C), t (N,), OUT y (N, C) = softmax(x), in place allowed."""
    cdef Sum s = Sum(0, 0)
    cdef real p[TILE]
    cdef real largest[TILE]
    cdef Sum total[TILE]
    cdef double sums[TILE]
    cdef Py_ssize_t first = 0, rows, n
    while first < N:
        rows = min(TILE, N - first)
        for n in range(rows):  # scalar: at labels
            p[n] = x[(first + n) * C + t[first + n]]
        softmax_rows(x + first * C, y + first * C, rows, C, largest, total)
        if exact:
            for n in range(rows):  # scalar: one sum
                s = plus(s, p[n] - largest[n])
                sums[n] = value(total[n])
            s = plus(s, -sum_of_logs(sums, rows))
        else:
            for n in range(rows):  # scalar: at labels
                p[n] = y[(first + n) * C + t[first + n]] + eps
            s = plus(s, sum_of_logs(p, rows))
        first += TILE
    return s


cdef inline Sum softmax_cross_entropy_targets(
    const real* x, const real* t, real eps, bint exact, real* y, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN x, t (N, C), OUT y (N, C) = softmax(x), in place allowed."""
    cdef Sum s = Sum(0, 0)
    cdef real largest
    cdef Sum total
    cdef double weight
    cdef Py_ssize_t n
    cdef const real* x_n
    cdef const real* t_n
    for n in range(N):  # scalar: whole rows
        x_n, t_n = x + n * C, t + n * C
        if exact:
            s = plus(s, weighted_sum(t_n, x_n, max_of(x_n, C), C))
        softmax_row(x_n, y + n * C, C, &largest, &total)
        if exact:
            weight = value(sum_of(t_n, C))
            if weight != 0:
                s = plus(s, -weight * log(value(total)))
        else:
            s = plus(s, value(weighted_logs(t_n, <const real*> y + n * C, eps, C)))
    return s


cdef inline void softmax_cross_entropy_labels_backward(
    const real* y, const Py_ssize_t* t, real factor, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN y (N, C), t (N,), factor = dout / N, OUT dx (N, C), in place allowed."""
    cdef real at_label[TILE]
    cdef Py_ssize_t first = 0, rows, n, i
    while first < N:
        rows = min(TILE, N - first)
        for n in range(rows):  # scalar: at labels
            at_label[n] = (y[(first + n) * C + t[first + n]] - <real> 1) * factor
        for i in range(first * C, (first + rows) * C):
            dx[i] = y[i] * factor
        for n in range(rows):  # scalar: at labels
            # Not an assignment: GCC would make scatter instructions of it, which are slow.
            memcpy(dx + (first + n) * C + t[first + n], at_label + n, sizeof(real))
        first += TILE


cdef inline void softmax_cross_entropy_targets_backward(
    const real* y, const real* t, real factor, real* dx, Py_ssize_t n
) noexcept nogil:
    """IN y, t (n,), factor = dout / N, OUT dx (n,), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = (y[i] - t[i]) * factor


# The loss and its gradient at once: the rows of a block of about CLOSE elements are still in the first cache when their
# probabilities become the gradient, in place.

cdef inline Py_ssize_t rows_of_a_block(Py_ssize_t C) noexcept nogil:
    cdef Py_ssize_t rows = CLOSE // C
    return max(rows - rows % LANES, LANES) if C <= SHORT else max(rows, 1)


cdef inline Sum softmax_cross_entropy_labels_and_grad(
    const real* x, const Py_ssize_t* t, real eps, bint exact, real factor, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN x (N, C), t (N,), factor = dout / N, OUT dx (N, C), in place allowed."""
    cdef Sum s = Sum(0, 0)
    cdef Py_ssize_t first = 0, block = rows_of_a_block(C), rows
    cdef real* y
    while first < N:
        rows = min(block, N - first)
        y = dx + first * C
        s = plus(s, value(softmax_cross_entropy_labels(x + first * C, t + first, eps, exact, y, rows, C)))
        softmax_cross_entropy_labels_backward(<const real*> y, t + first, factor, y, rows, C)
        first += block
    return s


cdef inline Sum softmax_cross_entropy_targets_and_grad(
    const real* x, const real* t, real eps, bint exact, real factor, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN x, t (N, C), factor = dout / N, OUT dx (N, C), in place allowed."""
    cdef Sum s = Sum(0, 0)
    cdef Py_ssize_t first = 0, block = rows_of_a_block(C), rows
    cdef real* y
    while first < N:
        rows = min(block, N - first)
        y = dx + first * C
        s = plus(s, value(softmax_cross_entropy_targets(x + first * C, t + first * C, eps, exact, y, rows, C)))
        softmax_cross_entropy_targets_backward(<const real*> y, t + first * C, factor, y, rows * C)
        first += block
    return s


cdef inline real softplus_rest(real x) noexcept nogil:
    """log(1 + exp(-|x|)): softplus(x) = max(x, 0) + this."""
    cdef real e = exp_of_nonpositive(-x if x > 0 else x)
    cdef real sum = <real> 1 + e
    # What 1 + e has lost of e is made up for by the ratio.
    cdef real ratio = e / (sum - <real> 1 if sum > 1 else <real> 1)
    return log(sum) * ratio if sum > 1 else e


cdef inline Sum sigmoid_cross_entropy(
    const real* x, const real* t, real eps, bint exact, real* y, Py_ssize_t n
) noexcept nogil:
    """IN x, t (n,), OUT y (n,) = sigmoid(x), in place allowed.  sum t log(y + eps) + (1 - t) log(1 - y + eps)."""
    cdef Sum s = Sum(0, 0)
    cdef real of_1[TILE]
    cdef real of_0[TILE]
    cdef real z, rest, one, zero
    cdef Py_ssize_t first = 0, i, width
    while first < n:
        width = min(TILE, n - first)
        if exact:
            for i in range(width):
                z = x[first + i]
                rest = softplus_rest(z)
                of_1[i] = (z if z < 0 else <real> 0) - rest
                of_0[i] = (-z if z > 0 else <real> 0) - rest
        else:
            # The probability of class 0; 1 - y would have lost the digits of a small one.
            for i in range(width):
                of_0[i] = sigmoid_of(-x[first + i])
        for i in range(width):
            y[first + i] = sigmoid_of(x[first + i])
        if not exact:
            for i in range(width):
                of_1[i] = log(y[first + i] + eps)
            for i in range(width):
                of_0[i] = log(of_0[i] + eps)
        for i in range(width):
            one = t[first + i] * of_1[i]
            zero = (<real> 1 - t[first + i]) * of_0[i]
            of_1[i] = (<real> 0 if t[first + i] == 0 else one) + (<real> 0 if t[first + i] == 1 else zero)
        s = plus(s, value(sum_of(<const real*> of_1, width)))
        first += TILE
    return s


cdef inline bint are_probabilities(const real* t, Py_ssize_t n) noexcept nogil:
    """IN t (n,).  Whether each is from 0 to 1; NaN is not."""
    cdef real good[LANES]
    cdef real above
    cdef double count = 0
    cdef Py_ssize_t first = 0, i, k, whole = n - n % LANES, stop
    while first < whole:
        stop = min(first + LANES * TILE, whole)
        for k in range(LANES):  # scalar: a memset
            good[k] = 0
        i = first
        while i < stop:
            for k in range(LANES):
                above = <real> 1 if t[i + k] >= 0 else <real> 0
                good[k] += above if t[i + k] <= 1 else <real> 0
            i += LANES
        for k in range(LANES):  # scalar: few
            count += good[k]
        first = stop
    for i in range(whole, n):  # scalar: few
        count += 0 <= t[i] <= 1
    return count == n


cdef inline Sum squared_error(const real* y, const real* t, Py_ssize_t n) noexcept nogil:
    """IN y, t (n,).  -1/2 sum (y - t)^2."""
    cdef Sum s = Sum(0, 0)
    cdef double squares[TILE]
    cdef real difference
    cdef Py_ssize_t first = 0, i, width
    while first < n:
        width = min(TILE, n - first)
        for i in range(width):
            difference = y[first + i] - t[first + i]
            squares[i] = -0.5 * <double> difference * <double> difference
        s = plus_sum(s, sum_of(<const double*> squares, width))
        first += TILE
    return s


# ---------------------------------------------------------------- the bias

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
    cdef double side_by_side[TILE]
    cdef double lost[TILE]
    cdef Py_ssize_t j, n, folded = TILE // M if M else 0
    if folded < 2 or rows < folded:
        sum_columns(dout, M, rows, M, depth_of(rows), totals, errors)
        return
    sum_columns(dout, folded * M, rows // folded, folded * M, depth_of(rows // folded), side_by_side, lost)
    for j in range(M):  # scalar: a copy
        totals[j], errors[j] = side_by_side[j], lost[j]
    for n in range(1, folded):  # scalar: of rows
        add_sums(totals, errors, side_by_side + n * M, lost + n * M, M)
    n = rows - rows % folded
    if n < rows:
        sum_columns(dout + n * M, M, rows - n, M, 1, side_by_side, lost)
        add_sums(totals, errors, side_by_side, lost, M)


cdef inline void sum_of_pieces(
    double* totals, double* errors, real* db, Py_ssize_t pieces, Py_ssize_t M
) noexcept nogil:
    """IN totals, errors (pieces, M), the first of which are overwritten; OUT db (M,)."""
    cdef Py_ssize_t j, k
    for k in range(1, pieces):  # scalar: of rows
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
        sum_of_pieces(totals, errors, db + first, 1, width)
        first += WIDE


cdef inline void add_bias(const real* x, const real* b, real* y, Py_ssize_t N, Py_ssize_t M) noexcept nogil:
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


# ---------------------------------------------------------------- a perceptron: what goes around its products

cdef inline void add_bias_relu(const real* b, real* y, Py_ssize_t N, Py_ssize_t M) noexcept nogil:
    """IN b (M,), OUT y (N, M) = relu(y + b)."""
    cdef Py_ssize_t n, j
    cdef real shifted
    for n in range(N):
        for j in range(M):
            shifted = y[n * M + j] + b[j]
            y[n * M + j] = <real> 0 if shifted <= 0 else shifted


cdef inline void relu_backward_from_output(const real* h, real* dx, Py_ssize_t n) noexcept nogil:
    """IN h (n,) = relu(x), OUT dx (n,) = 0 where x <= 0."""
    cdef Py_ssize_t i
    cdef real kept
    for i in range(n):
        kept = dx[i]
        dx[i] = <real> 0 if h[i] <= 0 else kept


# Products too small to be worth a call of BLAS: (N, K) matrices times (K, M) ones.

cdef inline void small_product(
    const real* x, const real* W, real* y, Py_ssize_t N, Py_ssize_t K, Py_ssize_t M
) noexcept nogil:
    """IN x (N, K), W (K, M), OUT y (N, M) = x W."""
    cdef Py_ssize_t n, k, j
    memset(y, 0, N * M * sizeof(real))
    for n in range(N):
        for k in range(K):
            for j in range(M):
                y[n * M + j] += x[n * K + k] * W[k * M + j]


cdef inline void small_product_xt(
    const real* x, const real* dout, real* dW, Py_ssize_t N, Py_ssize_t K, Py_ssize_t M
) noexcept nogil:
    """IN x (N, K), dout (N, M), OUT dW (K, M) = x^T dout."""
    cdef Py_ssize_t n, k, j
    memset(dW, 0, K * M * sizeof(real))
    for n in range(N):
        for k in range(K):
            for j in range(M):
                dW[k * M + j] += x[n * K + k] * dout[n * M + j]


cdef inline void small_product_wt(
    const real* dout, const real* W, real* dx, Py_ssize_t N, Py_ssize_t K, Py_ssize_t M
) noexcept nogil:
    """IN dout (N, M), W (K, M), OUT dx (N, K) = dout W^T."""
    cdef Py_ssize_t n, k
    for n in range(N):
        for k in range(K):  # scalar: short sums
            dx[n * K + k] = <real> dot_of(dout + n * M, W + k * M, M)


# ---------------------------------------------------------------- a step of an optimizer, in place

cdef inline void sgd(const real* dp, real lr, real* p, Py_ssize_t n) noexcept nogil:
    """IN dp (n,), IN OUT p (n,)."""
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - lr * dp[i]


cdef inline void momentum(const real* dp, real lr, real momentum, real* p, real* v, Py_ssize_t n) noexcept nogil:
    """IN dp (n,), IN OUT p, v (n,)."""
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = momentum * v[i] - lr * dp[i]
        p[i] = p[i] + v[i]


cdef inline void nesterov(
    const real* dp, real lr, real momentum, real squared, real ahead, bint by_old, real* p, real* v, Py_ssize_t n
) noexcept nogil:
    """IN dp (n,), squared = momentum^2, ahead = (1 + momentum) lr, IN OUT p, v (n,)."""
    cdef Py_ssize_t i
    cdef real old
    for i in range(n):
        old = v[i]
        v[i] = momentum * old - lr * dp[i]
        p[i] = (p[i] + squared * (old if by_old else v[i])) - ahead * dp[i]


cdef inline void adagrad(const real* dp, real lr, real* p, real* h, Py_ssize_t n) noexcept nogil:
    """IN dp (n,), IN OUT p, h (n,)."""
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = h[i] + dp[i] * dp[i]
        p[i] = p[i] - lr * dp[i] / (root(h[i]) + <real> 1e-7)


cdef inline void rmsprop(const real* dp, real lr, real kept, real rest, real* p, real* h, Py_ssize_t n) noexcept nogil:
    """IN dp (n,), rest = 1 - kept, IN OUT p, h (n,)."""
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = kept * h[i] + rest * dp[i] * dp[i]
        p[i] = p[i] - lr * dp[i] / (root(h[i]) + <real> 1e-7)


cdef inline void adam(
    const real* dp, real rate, real rest1, real rest2, real* p, real* m, real* v, Py_ssize_t n
) noexcept nogil:
    """IN dp (n,), rest = 1 - beta, IN OUT p, m, v (n,)."""
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = m[i] + rest1 * (dp[i] - m[i])
        v[i] = v[i] + rest2 * (dp[i] * dp[i] - v[i])
        p[i] = p[i] - rate * m[i] / (root(v[i]) + <real> 1e-7)
