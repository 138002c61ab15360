"""What goes around the products of a perceptron, and products too small to be worth a call of BLAS."""

from libc.string cimport memset

from fastnn._kernels.loops.reductions cimport dot_of
from fastnn._kernels.vmath cimport real


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
