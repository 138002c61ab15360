"""The affine map, its bias, and their gradients."""

cimport numpy as cnp

from fastnn._kernels.arrays cimport COMPILED_FOR, columns, native, same_type
from fastnn._kernels.boundary cimport (
    MOVES, Arrays, Chunk, Columns,
    by_columns, chunked_op, columns_op, empty, fall_back, given, given_back, plain, result, run_arrays
)
cimport fastnn._kernels.loops.affine as loops
from fastnn._kernels.products cimport behaved, can_be_multiplied, is_matrix, is_row, product, transposed
from fastnn._kernels.vmath cimport real

from fastnn import arguments

compiled_for = COMPILED_FOR.decode()


# ---------------------------------------------------------------- the bias

cdef void bias_grad_chunk(
    const real* dout, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Columns* k = <const Columns*> task
    cdef Py_ssize_t M = k.head.C
    loops.sums_of_columns(dout + first * M, last - first, M, k.totals + chunk * M, k.errors + chunk * M)


cdef void merge_chunk(
    const real* dout, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Columns* k = <const Columns*> task
    loops.sum_of_chunks(k.totals, k.errors, <real*> k.y, k.chunks, k.head.C)


cdef void wide_bias_grad_chunk(
    const real* dout, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Columns* k = <const Columns*> task
    loops.wide_bias_grad(dout + first, <real*> k.y + first, k.head.N, k.head.C, last - first)


cdef void add_bias_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    cdef Py_ssize_t M = k.head.C, at = first * M
    loops.add_bias(x + at, <const real*> k.x2, <real*> k.y + at, last - first, M)


BIAS_GRAD = columns_op(
    "bias_grad",
    <Chunk> bias_grad_chunk[float],
    <Chunk> bias_grad_chunk[double],
    chunked_op("merge", <Chunk> merge_chunk[float], <Chunk> merge_chunk[double], MOVES, False),
    chunked_op("wide", <Chunk> wide_bias_grad_chunk[float], <Chunk> wide_bias_grad_chunk[double], 2 * MOVES, False),
)
ADD_BIAS = chunked_op("add_bias", <Chunk> add_bias_chunk[float], <Chunk> add_bias_chunk[double], MOVES, True)


def bias_grad(dout, *, out=None):
    dout = given("dout", dout, 1)
    cdef cnp.ndarray a = plain(dout, 0)
    if a is None:
        return fall_back("bias_grad")(dout, out=out)
    cdef cnp.npy_intp M = columns(a)
    cdef cnp.ndarray db
    if out is None:
        db = empty(1, &M, cnp.PyArray_TYPE(a))
    else:
        db = arguments.output(out, (M,), (<object> a).dtype, dout)
    by_columns(BIAS_GRAD, a, db)
    return db


cdef cnp.ndarray plain_bias(cnp.ndarray b, cnp.ndarray x):
    """b in the plain case with one number per column of x, or None if the reference has to do it."""
    if cnp.PyArray_NDIM(b) != 1 or cnp.PyArray_DIM(b, 0) != columns(x):
        b = arguments.bias(b, "x", x)
    return plain(b, 0) if same_type(b, x) else None


def add_bias(x, b, *, out=None):
    x, b = given("x", x, 1), given("b", b, 0)
    cdef cnp.ndarray a = plain(x, 1)
    cdef cnp.ndarray bias = None if a is None else plain_bias(b, a)
    if a is None or bias is None:
        return fall_back("add_bias")(x, b, out=out)
    cdef cnp.ndarray y = result(out, a, x, b)
    run_arrays(ADD_BIAS, a, bias, y)
    return y


# ---------------------------------------------------------------- with the product

cdef bint native_together(cnp.ndarray a, cnp.ndarray b, cnp.ndarray c):
    return native(cnp.PyArray_TYPE(a)) and same_type(a, b) and same_type(a, c)


def affine(x, W, b, *, out=None):
    cdef cnp.ndarray a, w, bias, y
    cdef bint is_plain = can_be_multiplied(x, W) and is_row(b, <cnp.ndarray> W)
    if is_plain:
        a, w, bias = x, W, b
    else:
        x, W, b = given("x", x, 0), given("W", W, 0), given("b", b, 0)
        arguments.weights(W)
        w = W
        a, batch = arguments.samples(x, w)
        bias = arguments.bias(b, "W", w)
        if not native_together(a, w, bias):
            return fall_back("affine")(x, W, b, out=out)
        a, w = behaved(a), behaved(w)
        bias = cnp.PyArray_FROM_OTF(bias, cnp.PyArray_TYPE(bias), cnp.NPY_ARRAY_CARRAY_RO)
    if out is not None:
        if is_plain:
            batch = (a.shape[0],)
        arguments.separate_output(out, (*batch, w.shape[1]), (<object> w).dtype, {"x": x, "W": W, "b": b})
    y = product(a, w, out)
    run_arrays(ADD_BIAS, y, bias, y)
    return y if is_plain and out is None else out if out is not None else y.reshape(*batch, w.shape[1])


def affine_backward(dout, x, W, *, out=None):
    cdef cnp.ndarray a, d, w, db
    cdef cnp.npy_intp M
    cdef bint is_plain = (
        can_be_multiplied(x, W)
        and is_matrix(dout)
        and same_type(<cnp.ndarray> dout, <cnp.ndarray> x)
        and cnp.PyArray_DIM(<cnp.ndarray> dout, 0) == cnp.PyArray_DIM(<cnp.ndarray> x, 0)
        and cnp.PyArray_DIM(<cnp.ndarray> dout, 1) == cnp.PyArray_DIM(<cnp.ndarray> W, 1)
    )
    if is_plain:
        a, d, w = x, dout, W
    else:
        dout, x, W = given("dout", dout, 0), given("x", x, 0), given("W", W, 0)
        arguments.weights(W)
        w = W
        a, batch = arguments.samples(x, w)
        d = arguments.samples_gradient(dout, batch, w)
        if not native_together(a, d, w):
            return fall_back("affine_backward")(dout, x, W, out=out)
        a, d, w = behaved(a), behaved(d), behaved(w)
    dx = dW = db_out = None
    if out is not None:
        shapes, dtypes = (x.shape, W.shape, (w.shape[1],)), ((<object> w).dtype,) * 3
        dx, dW, db_out = arguments.separate_outputs(out, shapes, dtypes, {"dout": dout, "x": x, "W": W})
    M = cnp.PyArray_DIM(w, 1)
    db = db_out if db_out is not None else empty(1, &M, cnp.PyArray_TYPE(d))
    # The products take dout as it is, like the reference's: BLAS sums in an order that depends on the layout.
    by_columns(BIAS_GRAD, cnp.PyArray_FROM_OTF(d, cnp.PyArray_TYPE(d), cnp.NPY_ARRAY_CARRAY_RO), db)
    gradient = product(d, transposed(w), dx)
    if dx is None:
        dx = gradient if is_plain else given_back(gradient.reshape(x.shape), None)
    weights_gradient = product(transposed(a), d, dW)
    return dx, weights_gradient if dW is None else dW, db
