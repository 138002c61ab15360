"""A step of an optimizer: IN dp (n,) and the constants, IN OUT p (n,) and what is kept beside it.

What is kept decays where gradients are 0, and must not end as a subnormal, which costs a processor a hundred times as
much.  So it is 0 from where itself, or the share of it by which it decays, would be one.
"""

from fastnn._kernels.loops cimport moves
from fastnn._kernels.vmath cimport fabs, real, sqrt


cdef inline real over_root(real step, real squares, real eps) noexcept nogil:
    return step / (sqrt(squares) + eps)


cdef inline real kept(real moment, double share) noexcept nogil:
    """0 where a `share` of it, from 0 to 1, would be subnormal."""
    cdef double smallest
    if real is float:
        smallest = 1.1754943508222875e-38
    else:
        smallest = 2.2250738585072014e-308
    return <real> 0 if fabs(moment) < <real> (smallest / share) else moment


cdef inline moves sgd(
    const real* dp, const double* constants, real* p, real* a, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr."""
    cdef real lr = <real> constants[0]
    cdef Py_ssize_t i
    for i in range(n):
        p[i] = p[i] - lr * dp[i]


cdef inline void momentum(
    const real* dp, const double* constants, real* p, real* v, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr, momentum."""
    cdef real lr = <real> constants[0], momentum = <real> constants[1]
    cdef Py_ssize_t i
    for i in range(n):
        v[i] = kept(momentum * v[i] - lr * dp[i], 1)
        p[i] = p[i] + v[i]


cdef inline void nesterov(
    const real* dp, const double* constants, real* p, real* v, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr, momentum, form."""
    cdef real lr = <real> constants[0], momentum = <real> constants[1]
    cdef real squared = <real> (constants[1] * constants[1]), ahead = <real> ((1 + constants[1]) * constants[0])
    cdef bint by_old = constants[2] == 1
    cdef real old
    cdef Py_ssize_t i
    for i in range(n):
        old = v[i]
        v[i] = kept(momentum * old - lr * dp[i], 1)
        p[i] = (p[i] + squared * (old if by_old else v[i])) - ahead * dp[i]


cdef inline void adagrad(
    const real* dp, const double* constants, real* p, real* h, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr, eps."""
    cdef real lr = <real> constants[0], eps = <real> constants[1]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = h[i] + dp[i] * dp[i]
        p[i] = p[i] - over_root(lr * dp[i], h[i], eps)


cdef inline void rmsprop(
    const real* dp, const double* constants, real* p, real* h, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr, decay_rate, eps."""
    cdef real lr = <real> constants[0], decay = <real> constants[1], rest = <real> (1 - constants[1])
    cdef real eps = <real> constants[2]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = kept(decay * h[i] + rest * dp[i] * dp[i], 1)
        p[i] = p[i] - over_root(lr * dp[i], h[i], eps)


cdef inline void adam(
    const real* dp, const double* constants, real* p, real* m, real* v, Py_ssize_t n
) noexcept nogil:
    """constants: lr corrected for the start at 0, beta1, beta2, the number of the step, eps."""
    cdef real lr = <real> constants[0], rest1 = <real> (1 - constants[1]), rest2 = <real> (1 - constants[2])
    cdef real eps = <real> constants[4]
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = kept(m[i] + rest1 * (dp[i] - m[i]), 1 - constants[1])
        v[i] = kept(v[i] + rest2 * (dp[i] * dp[i] - v[i]), 1 - constants[2])
        p[i] = p[i] - over_root(lr * m[i], v[i], eps)
