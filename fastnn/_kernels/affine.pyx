"""The affine map, its bias, and their gradients."""

cimport numpy as cnp

from fastnn._kernels.arrays cimport COMPILED_FOR, columns, native, same_type
from fastnn._kernels.boundary cimport (
    MOVES, Arrays, Chunk, Columns,
    by_columns, chunked_op, columns_op, common_type, empty, fall_back, given, given_back, plain, result, run_arrays,
    widened
)
cimport fastnn._kernels.loops.affine as loops
from fastnn._kernels.products cimport behaved, can_be_multiplied, is_matrix, is_row, matrix_of, product, transposed
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


cdef int add(cnp.ndarray x, cnp.ndarray b, cnp.ndarray y) except -1:
    """y = x + b, all plain."""
    # Python may have run since they were checked.
    if cnp.PyArray_SIZE(b) != columns(x) or cnp.PyArray_SIZE(y) != cnp.PyArray_SIZE(x):
        raise RuntimeError("an argument changed its shape while others were being read")
    run_arrays(ADD_BIAS, x, b, y)
    return 0


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


def add_bias(x, b, *, out=None):
    x, b = given("x", x, 1), given("b", b, 0)
    cdef int type_num = common_type(x, b)
    if type_num < 0:
        return fall_back("add_bias")(x, b, out=out)
    cdef cnp.ndarray a = plain(widened(x, type_num), 1), bias = widened(b, type_num)
    if cnp.PyArray_NDIM(bias) != 1 or cnp.PyArray_DIM(bias, 0) != columns(a):
        bias = arguments.bias(bias, "x", a)
    cdef cnp.ndarray y = result(out, a, x, b)
    add(a, bias, y)
    return y


# ---------------------------------------------------------------- with the product

def affine(x, W, b, *, out=None):
    cdef cnp.ndarray a, w, bias, y
    cdef int type_num
    cdef bint is_plain = can_be_multiplied(x, W) and is_row(b, <cnp.ndarray> W)
    if is_plain:
        a, w, bias = x, W, b
    else:
        x, W, b = given("x", x, 0), given("W", W, 0), given("b", b, 0)
        arguments.weights(W)
        w = W
        a, batch = arguments.samples(x, w)
        bias = arguments.bias(b, "W", w)
        type_num = common_type(a, w)
        if type_num < 0 or common_type(bias, behaved(w, type_num)) < 0:
            return fall_back("affine")(x, W, b, out=out)
        # A wider bias widens the product, not what it is made of.
        a, w = behaved(a, type_num), behaved(w, type_num)
        bias = widened(bias, common_type(bias, w))
    if out is not None:
        if is_plain:
            batch = (a.shape[0],)
        arguments.separate_output(out, (*batch, w.shape[1]), (<object> bias).dtype, {"x": x, "W": W, "b": b})
    if same_type(w, bias):
        y = product(a, w, out)
        add(y, bias, y)
    else:
        y = widened(product(a, w, None), cnp.PyArray_TYPE(bias))
        add(y, bias, y)
        if out is not None:
            cnp.PyArray_CopyInto(matrix_of(out, cnp.PyArray_DIM(y, 0), columns(y)), y)
    return y if is_plain and out is None else out if out is not None else y.reshape(*batch, w.shape[1])


def affine_backward(dout, x, W, *, out=None):
    cdef cnp.ndarray a, d, w, db, d_of_dx, d_of_dW
    cdef cnp.npy_intp M
    cdef int of_dx, of_dW
    cdef bint is_plain = (
        can_be_multiplied(x, W)
        and is_matrix(dout)
        and same_type(<cnp.ndarray> dout, <cnp.ndarray> x)
        and cnp.PyArray_DIM(<cnp.ndarray> dout, 0) == cnp.PyArray_DIM(<cnp.ndarray> x, 0)
        and cnp.PyArray_DIM(<cnp.ndarray> dout, 1) == cnp.PyArray_DIM(<cnp.ndarray> W, 1)
    )
    if is_plain:
        a, d, w = x, dout, W
        d_of_dx = d_of_dW = d
    else:
        dout, x, W = given("dout", dout, 0), given("x", x, 0), given("W", W, 0)
        arguments.weights(W)
        w = W
        a, batch = arguments.samples(x, w)
        d = arguments.samples_gradient(dout, batch, w)
        of_dx, of_dW = common_type(d, w), common_type(a, d)
        if of_dx < 0 or of_dW < 0 or not native(cnp.PyArray_TYPE(d)):
            return fall_back("affine_backward")(dout, x, W, out=out)
        a, d, w = behaved(a, of_dW), behaved(d, cnp.PyArray_TYPE(d)), behaved(w, of_dx)
        d_of_dx = behaved(d, of_dx)
        d_of_dW = d_of_dx if of_dW == of_dx else behaved(d, of_dW)
    dx = dW = db_out = None
    if out is not None:
        shapes = x.shape, W.shape, (w.shape[1],)
        dtypes = (<object> w).dtype, (<object> a).dtype, (<object> d).dtype
        dx, dW, db_out = arguments.separate_outputs(out, shapes, dtypes, {"dout": dout, "x": x, "W": W})
    M = cnp.PyArray_DIM(w, 1)
    db = db_out if db_out is not None else empty(1, &M, cnp.PyArray_TYPE(d))
    # The products take dout as it is, like the reference's: BLAS sums in an order that depends on the layout.
    by_columns(BIAS_GRAD, cnp.PyArray_FROM_OTF(d, cnp.PyArray_TYPE(d), cnp.NPY_ARRAY_CARRAY_RO), db)
    gradient = product(d_of_dx, transposed(w), dx)
    if dx is None:
        dx = gradient if is_plain else given_back(gradient.reshape(x.shape), None)
    weights_gradient = product(transposed(a), d_of_dW, dW)
    return dx, weights_gradient if dW is None else dW, db
