"""Losses and their gradients.  Each loss gives the sum over its rows, of which it is minus the mean."""

from libc.float cimport DBL_EPSILON, FLT_EPSILON
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastnn._kernels.loops cimport moves
from fastnn._kernels.loops.reductions cimport (
    LANES, SHORT, Sum, TILE, add_tile, add_to, dot_of, max_of, plus, sum_of, sum_of_lanes, value
)
from fastnn._kernels.loops.softmax cimport softmax_row, softmax_rows
from fastnn._kernels.vmath cimport log, real, sigmoids

cdef enum:
    CLOSE = 4096
    FEW = 16


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


ctypedef fused bits:
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused places:
    uint32_t
    uint64_t


cdef inline places place_of_one(const bits* t, Py_ssize_t C, places count) noexcept nogil:
    """IN t (C,).  The place of what is not 0, if that is one element; else `count` or more, above all places."""
    cdef places found = 0, j
    for j in range(<places> C):
        found += count + j if t[j] != 0 else 0
    return found - count


cdef inline void places_of_one(const bits* t, Py_ssize_t* found, Py_ssize_t rows, Py_ssize_t C) noexcept nogil:
    """`place_of_one` of short rows: IN t (rows, C), OUT found (rows,), rows <= TILE, C <= FEW."""
    cdef uint8_t filled[FEW * (TILE + 1)]
    cdef uint16_t weights[FEW]
    cdef uint16_t total
    cdef Py_ssize_t n, j, k
    for j in range(FEW):  # scalar: few
        weights[j] = <uint16_t> (256 + j) if j < C else 0
        filled[rows * C + j] = 0
    for k in range(rows * C):
        filled[k] = t[k] != 0
    for n in range(rows):  # scalar: a row at once
        total = 0
        for j in range(FEW):
            total += filled[n * C + j] * weights[j]
        found[n] = <Py_ssize_t> total - 256


cdef inline bint labels_of_rows(
    const bits* t, uint64_t one, Py_ssize_t* labels, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN t (N, C), OUT labels (N,).  Whether each row has the bits `one` at its label and 0 elsewhere, if C <= 2^23."""
    cdef Py_ssize_t first = 0, rows, n
    if C > 1 << 23:  # a sum of many places might look like one
        return False
    while first < N:
        rows = min(TILE, N - first) if C <= FEW else 1
        if C <= FEW:
            places_of_one(t + first * C, labels + first, rows, C)
        elif C < 1 << 15:
            labels[first] = place_of_one(t + first * C, C, <uint32_t> 1 << 16)
        else:
            labels[first] = place_of_one(t + first * C, C, <uint64_t> 1 << 48)
        for n in range(first, first + rows):  # scalar: stops at the first
            if <size_t> labels[n] >= <size_t> C or t[n * C + labels[n]] != <bits> one:
                return False
        first += rows
    return True


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


cdef inline void gradient_at_labels(
    const real* y, const Py_ssize_t* t, real factor, real* gradient, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN y (N, C), t (N,), OUT gradient (N,)."""
    cdef Py_ssize_t n
    for n in range(N):  # scalar: at labels
        gradient[n] = (y[n * C + t[n]] - <real> 1) * factor


cdef inline moves softmax_cross_entropy_labels_backward(
    const real* y, const Py_ssize_t* t, real factor, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN y (N, C), t (N,), factor = dout / N, OUT dx (N, C), in place allowed."""
    cdef real at_label[TILE]
    # As many rows as the first cache holds beside what they become.
    cdef Py_ssize_t block = min(TILE, max(8, 2 * CLOSE // (C * <Py_ssize_t> sizeof(real))))
    # In the first cache if read after the rows; ahead of long ones, numbers here and there cost a third of these.
    cdef bint ahead = dx == y or C <= SHORT
    cdef Py_ssize_t first = 0, rows, n, i
    cdef const real* y_first
    while first < N:
        rows, y_first = min(block, N - first), y + first * C
        if ahead:
            gradient_at_labels(y_first, t + first, factor, at_label, rows, C)
        for i in range(first * C, (first + rows) * C):
            dx[i] = y[i] * factor
        if not ahead:
            gradient_at_labels(y_first, t + first, factor, at_label, rows, C)
        for n in range(rows):  # scalar: at labels
            # Not an assignment: GCC would make scatter instructions of it, which are slow.
            memcpy(dx + (first + n) * C + t[first + n], at_label + n, sizeof(real))
        first += block


cdef inline moves scaled_difference(
    const real* y, const real* t, real weight, real factor, real* dx, Py_ssize_t n
) noexcept nogil:
    """IN y, t (n,), factor = dout / N, OUT dx (n,) = factor (weight y - t), in place allowed."""
    cdef Py_ssize_t i
    for i in range(n):
        dx[i] = (weight * y[i] - t[i]) * factor


cdef inline real weight_of(const real* t, Py_ssize_t C) noexcept nogil:
    """IN t (C,).  Its sum; 1 where it is that but for rounding."""
    cdef double sum_ = value(sum_of(t, C))
    cdef double rounding = 64 * (FLT_EPSILON if real is float else DBL_EPSILON)
    return <real> 1 if 1 - rounding <= sum_ <= 1 + rounding else <real> sum_


cdef inline void softmax_cross_entropy_targets_backward(
    const real* y, const real* t, real factor, real* dx, Py_ssize_t N, Py_ssize_t C
) noexcept nogil:
    """IN y, t (N, C), factor = dout / N, OUT dx (N, C), in place allowed."""
    cdef Py_ssize_t n
    for n in range(N):  # scalar: whole rows
        scaled_difference(y + n * C, t + n * C, weight_of(t + n * C, C), factor, dx + n * C, C)


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
        softmax_cross_entropy_targets_backward(<const real*> y, t + first * C, factor, y, rows, C)
        first += block
    return s


cdef inline real log_of_1_plus(real e) noexcept nogil:
    """log(1 + e) for 0 <= e <= 1."""
    cdef real sum = <real> 1 + e
    # What 1 + e has lost of e is made up for by the ratio.
    cdef real ratio = e / (sum - <real> 1 if sum > 1 else <real> 1)
    return log(sum) * ratio if sum > 1 else e


cdef inline Sum sigmoid_cross_entropy(
    const real* x, const real* t, real eps, bint exact, real* y, Py_ssize_t n
) noexcept nogil:
    """IN x, t (n,), OUT y (n,) = sigmoid(x), in place allowed.  sum t log(y + eps) + (1 - t) log(1 - y + eps)."""
    cdef double totals[LANES]
    cdef double errors[LANES]
    cdef real of_1[TILE]
    cdef real of_0[TILE]
    cdef real z, e, rest, larger, smaller, one, zero
    cdef int soft
    cdef Py_ssize_t first = 0, i, width
    for i in range(LANES):  # scalar: a memset
        totals[i] = 0
        errors[i] = 0
    while first < n:
        width = min(TILE, n - first)
        soft = exact
        if exact:
            for i in range(width):
                z = x[first + i]
                larger = sigmoids(z, &smaller, of_1 + i)
                y[first + i] = larger if z >= 0 else smaller
                of_0[i] = z
            for i in range(width):
                z, rest = of_0[i], log_of_1_plus(of_1[i])
                of_1[i] = (z if z < 0 else <real> 0) - rest
                of_0[i] = (-z if z > 0 else <real> 0) - rest
        else:
            # The probability of class 0 by itself; 1 - y would have lost the digits of a small one.
            for i in range(width):
                z = x[first + i]
                larger = sigmoids(z, &smaller, &e)
                y[first + i] = larger if z >= 0 else smaller
                of_0[i] = smaller if z >= 0 else larger
            for i in range(width):
                soft |= (t[first + i] != 0) & (t[first + i] != 1)
            if soft:
                for i in range(width):
                    of_1[i] = log(y[first + i] + eps)
                    of_0[i] = log(of_0[i] + eps)
            else:  # one of the logarithms counts
                for i in range(width):
                    one, zero = y[first + i], of_0[i]  # both read in any case, as in relu_backward
                    of_1[i] = log((zero if t[first + i] == 0 else one) + eps)
        if soft:
            for i in range(width):
                one = t[first + i] * of_1[i]
                zero = (<real> 1 - t[first + i]) * of_0[i]
                of_1[i] = (<real> 0 if t[first + i] == 0 else one) + (<real> 0 if t[first + i] == 1 else zero)
        for i in range(width, TILE):  # scalar: a memset
            of_1[i] = 0
        add_tile(<const real*> of_1, totals, errors)
        first += TILE
    return sum_of_lanes(totals, errors)


cdef inline bint classes_as_numbers(const bits* t, real* y, Py_ssize_t n) noexcept nogil:
    """IN t (n,), OUT y (n,), 1 where t is not 0.  Whether each is class 0 or class 1."""
    cdef bits worst = 0
    cdef Py_ssize_t i
    for i in range(n):
        worst |= t[i]
        y[i] = <real> 1 if t[i] != 0 else <real> 0
    return worst <= 1


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
    cdef double totals[LANES]
    cdef double errors[LANES]
    cdef double difference
    cdef Sum s = Sum(0, 0)
    cdef Py_ssize_t i = 0, k, whole = n - n % LANES
    if whole:
        for k in range(LANES):  # scalar: a memset
            totals[k] = 0
            errors[k] = 0
        while i < whole:
            for k in range(LANES):
                difference = y[i + k] - t[i + k]
                if real is double:
                    add_to(totals + k, errors + k, -0.5 * difference * difference)
                else:
                    totals[k] += -0.5 * difference * difference
            i += LANES
        s = sum_of_lanes(totals, errors)
    for i in range(whole, n):  # scalar: few
        difference = y[i] - t[i]
        s = plus(s, -0.5 * difference * difference)
    return s
