"""A step of an optimizer: IN dp (n,) and the constants, IN OUT p (n,) and what is kept beside it."""

from fastnn._kernels.vmath cimport real, sqrt


cdef inline real over_root(real step, real squares) noexcept nogil:
    return step / (sqrt(squares) + <real> 1e-7)


cdef inline void sgd(
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
        v[i] = momentum * v[i] - lr * dp[i]
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
        v[i] = momentum * old - lr * dp[i]
        p[i] = (p[i] + squared * (old if by_old else v[i])) - ahead * dp[i]


cdef inline void adagrad(
    const real* dp, const double* constants, real* p, real* h, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr."""
    cdef real lr = <real> constants[0]
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = h[i] + dp[i] * dp[i]
        p[i] = p[i] - over_root(lr * dp[i], h[i])


cdef inline void rmsprop(
    const real* dp, const double* constants, real* p, real* h, real* b, Py_ssize_t n
) noexcept nogil:
    """constants: lr, decay_rate."""
    cdef real lr = <real> constants[0], kept = <real> constants[1], rest = <real> (1 - constants[1])
    cdef Py_ssize_t i
    for i in range(n):
        h[i] = kept * h[i] + rest * dp[i] * dp[i]
        p[i] = p[i] - over_root(lr * dp[i], h[i])


cdef inline void adam(
    const real* dp, const double* constants, real* p, real* m, real* v, Py_ssize_t n
) noexcept nogil:
    """constants: lr corrected for the start at 0, beta1, beta2."""
    cdef real lr = <real> constants[0], rest1 = <real> (1 - constants[1]), rest2 = <real> (1 - constants[2])
    cdef Py_ssize_t i
    for i in range(n):
        m[i] = m[i] + rest1 * (dp[i] - m[i])
        v[i] = v[i] + rest2 * (dp[i] * dp[i] - v[i])
        p[i] = p[i] - over_root(lr * m[i], v[i])
