"""A perceptron's loss and gradients in one call: the ops of other families around the products of its layers."""

cimport numpy as cnp

from fastnn._kernels.arrays cimport (
    COMPILED_FOR,
    PyArray_CheckExact,
    PyArray_ISCARRAY,
    PyArray_ISCARRAY_RO,
    PyArray_SAMESHAPE,
    apart,
    columns,
    data,
    native,
    same_type,
)
from fastnn._kernels.boundary cimport (
    CHUNKS, MOVES, Arrays, Chunk, ColumnsOp, Op, Task,
    by_columns, chunked_op, empty, fall_back, fresh, given, head, plain, run, run_arrays, widened
)
cimport fastnn._kernels.loops.perceptron as loops
from fastnn._kernels.products cimport as_matrix, is_row, product, transposed
from fastnn._kernels.targets cimport LossOp, epsilon, run_loss, targets_of
from fastnn._kernels.vmath cimport real

from fastnn import arguments
from fastnn.reference.perceptron import ACTIVATIONS, LOSSES

# Compiled for the same instruction set.
cdef Op ADD_BIAS, SIGMOID, SIGMOID_BACKWARD, TANH, TANH_BACKWARD
cdef ColumnsOp BIAS_GRAD
from .affine import ADD_BIAS, BIAS_GRAD
from .elementwise import SIGMOID, SIGMOID_BACKWARD, TANH, TANH_BACKWARD
from .losses import (
    MEAN_SQUARED_ERROR,
    MEAN_SQUARED_ERROR_BACKWARD,
    SIGMOID_CROSS_ENTROPY,
    SIGMOID_CROSS_ENTROPY_BACKWARD,
    SOFTMAX_CROSS_ENTROPY_AND_GRAD,
)

compiled_for = COMPILED_FOR.decode()

cdef enum:
    # Up to how many multiplications a loop of our own is faster than a call of BLAS.
    SMALL = 2048


# ---------------------------------------------------------------- products

# x, of the head, and b make y; N, K and M are as the loops have them.
cdef struct Product:
    Task head
    const void* b
    void* y
    Py_ssize_t N
    Py_ssize_t K
    Py_ssize_t M


cdef void x_W_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Product* k = <const Product*> task
    loops.small_product(x, <const real*> k.b, <real*> k.y, k.N, k.K, k.M)


cdef void xT_dout_chunk(
    const real* x, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Product* k = <const Product*> task
    loops.small_product_xt(x, <const real*> k.b, <real*> k.y, k.N, k.K, k.M)


cdef void dout_WT_chunk(
    const real* dout, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Product* k = <const Product*> task
    loops.small_product_wt(dout, <const real*> k.b, <real*> k.y, k.N, k.K, k.M)


cdef Op X_W = chunked_op("x W", <Chunk> x_W_chunk[float], <Chunk> x_W_chunk[double], MOVES, False)
cdef Op XT_DOUT = chunked_op("x^T dout", <Chunk> xT_dout_chunk[float], <Chunk> xT_dout_chunk[double], MOVES, False)
cdef Op DOUT_WT = chunked_op("dout W^T", <Chunk> dout_WT_chunk[float], <Chunk> dout_WT_chunk[double], MOVES, False)


cdef int multiply(Op op, cnp.ndarray a, cnp.ndarray b, cnp.ndarray y, Py_ssize_t N, cnp.ndarray W) except -1:
    """y = the product that `op` names, for N rows and an affine map of W's shape."""
    cdef Py_ssize_t K = cnp.PyArray_DIM(W, 0), M = cnp.PyArray_DIM(W, 1)
    cdef Product task
    if N * K * M <= SMALL:
        task = Product(head(op, a), data(b), data(y), N, K, M)
        run(op, a, &task.head, 1, 1, 1)
    elif op is X_W:
        product(as_matrix(a, N, K), b, y)
    elif op is XT_DOUT:
        product(transposed(as_matrix(a, N, K)), as_matrix(b, N, M), y)
    else:
        product(as_matrix(a, N, M), transposed(b), y)
    return 0


# ---------------------------------------------------------------- between the products, in place

cdef void add_bias_relu_chunk(
    const real* b, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    loops.add_bias_relu(b, <real*> k.y + first * k.head.C, last - first, k.head.C)


cdef void relu_backward_from_output_chunk(
    const real* h, const void* task, Py_ssize_t first, Py_ssize_t last, Py_ssize_t chunk
) noexcept nogil:
    cdef const Arrays* k = <const Arrays*> task
    loops.relu_backward_from_output(h + first, <real*> k.y + first, last - first)


cdef Op ADD_BIAS_RELU = chunked_op(
    "add_bias_relu", <Chunk> add_bias_relu_chunk[float], <Chunk> add_bias_relu_chunk[double], MOVES, True
)
cdef Op RELU_BACKWARD_FROM_OUTPUT = chunked_op(
    "relu_backward_from_output",
    <Chunk> relu_backward_from_output_chunk[float], <Chunk> relu_backward_from_output_chunk[double], MOVES, False
)


cdef class Activation:
    """What follows the bias, in place, and its gradient from its output; None for ReLU, which has loops of its own."""
    cdef Op forward
    cdef Op backward

    def __cinit__(self, Op forward, Op backward):
        self.forward, self.backward = forward, backward


KNOWN = {
    "relu": None,
    "sigmoid": Activation(SIGMOID, SIGMOID_BACKWARD),
    "tanh": Activation(TANH, TANH_BACKWARD),
}


cdef int activate(Activation activation, cnp.ndarray y, cnp.ndarray b) except -1:
    """y = activation(y + b)."""
    cdef Arrays task
    if activation is None:
        task = Arrays(head(ADD_BIAS_RELU, y), NULL, data(y))
        run(ADD_BIAS_RELU, b, &task.head, task.head.N, task.head.C, CHUNKS)
    else:
        run_arrays(ADD_BIAS, y, b, y)
        run_arrays(activation.forward, y, None, y)
    return 0


cdef int activate_backward(Activation activation, cnp.ndarray h, cnp.ndarray dh) except -1:
    """dh = the gradient with respect to what the activation made h from."""
    if activation is None:
        run_arrays(RELU_BACKWARD_FROM_OUTPUT, h, None, dh)
    else:
        run_arrays(activation.backward, dh, h, dh)
    return 0


# ---------------------------------------------------------------- the arguments

cdef bint plain_chain(cnp.ndarray x, tuple params):
    """Plain weights and biases of x's dtype, each layer as wide as the one before."""
    cdef Py_ssize_t i
    cdef object W, b
    if not params or len(params) % 2:
        return False
    for i in range(0, len(params), 2):
        W, b = params[i], params[i + 1]
        if not (
            PyArray_CheckExact(W)
            and same_type(<cnp.ndarray> W, x)
            and PyArray_ISCARRAY_RO(<cnp.ndarray> W)
            and cnp.PyArray_NDIM(<cnp.ndarray> W) == 2
            and is_row(b, <cnp.ndarray> W)
            and (i == 0 or columns(params[i - 2]) == cnp.PyArray_DIM(<cnp.ndarray> W, 0))
        ):
            return False
    return True


cdef tuple in_one_type(cnp.ndarray x, tuple params):
    """x and the parameters, plain and in the type that NumPy gives them together; () where they need not be widened."""
    cdef object p
    cdef bint differ = False
    for p in params:
        if not PyArray_CheckExact(p) or not native(cnp.PyArray_TYPE(<cnp.ndarray> p)):
            return ()
        differ |= not same_type(<cnp.ndarray> p, x)
    return tuple([widened(p, cnp.NPY_FLOAT64) for p in (x, *params)]) if differ else ()


cdef bint good_outputs(object out, tuple params, cnp.ndarray x, cnp.ndarray t):
    """As arguments.separate_outputs has it, seen without running any Python."""
    cdef Py_ssize_t i, k
    cdef cnp.ndarray array
    if type(out) is not tuple or len(<tuple> out) != len(params):
        return False
    for i in range(len(params)):
        if not PyArray_CheckExact((<tuple> out)[i]):
            return False
        array = (<tuple> out)[i]
        if not (same_type(array, x) and PyArray_ISCARRAY(array) and PyArray_SAMESHAPE(array, params[i])):
            return False
        if not (apart(array, x) and apart(array, t)):
            return False
        for k in range(len(params)):
            if not apart(array, params[k]) or k < i and not apart(array, (<tuple> out)[k]):
                return False
    return True


# ---------------------------------------------------------------- all of it

cdef list forward(Activation activation, cnp.ndarray x, tuple params, cnp.ndarray y, Py_ssize_t N):
    """The inputs of all layers; y = the output of the last."""
    cdef list inputs = [x]
    cdef cnp.npy_intp[2] shape
    cdef cnp.ndarray W, h
    cdef Py_ssize_t layer, last = len(params) // 2 - 1
    for layer in range(last):
        W = params[2 * layer]
        shape[0], shape[1] = N, columns(W)
        h = empty(2, shape, cnp.PyArray_TYPE(x))
        multiply(X_W, inputs[layer], W, h, N, W)
        activate(activation, h, params[2 * layer + 1])
        inputs.append(h)
    W = params[2 * last]
    multiply(X_W, inputs[last], W, y, N, W)
    run_arrays(ADD_BIAS, y, params[2 * last + 1], y)
    return inputs


cdef list backward(Activation activation, list inputs, tuple params, cnp.ndarray dout, Py_ssize_t N, tuple out):
    """The gradients, in `out` if it has an array for them; dout is that of the last layer."""
    cdef list grads = [None] * len(params) if out is None else list(out)
    cdef cnp.npy_intp[2] shape
    cdef cnp.ndarray W, b, dh
    cdef Py_ssize_t layer
    for layer in range(len(params) // 2 - 1, -1, -1):
        W, b = params[2 * layer], params[2 * layer + 1]
        if grads[2 * layer] is None:
            grads[2 * layer] = fresh(W, cnp.PyArray_TYPE(W))
        if grads[2 * layer + 1] is None:
            grads[2 * layer + 1] = fresh(b, cnp.PyArray_TYPE(b))
        multiply(XT_DOUT, inputs[layer], dout, grads[2 * layer], N, W)
        by_columns(BIAS_GRAD, dout, grads[2 * layer + 1])
        if layer:
            shape[0], shape[1] = N, cnp.PyArray_DIM(W, 0)
            dh = empty(2, shape, cnp.PyArray_TYPE(W))
            multiply(DOUT_WT, dout, W, dh, N, W)
            activate_backward(activation, inputs[layer], dh)
            dout = dh
    return grads


def mlp_gradient(x, t, *params, activation="relu", loss="softmax", eps=arguments.EPS, out=None):
    eps = epsilon(eps)
    if type(activation) is not str or activation != "relu":
        activation = arguments.one_of("activation", activation, ACTIVATIONS)
    if type(loss) is not str or loss != "softmax":
        loss = arguments.one_of("loss", loss, LOSSES)
    cdef str name = "x"
    cdef LossOp loss_op, gradient_op = None
    if loss == "softmax":
        loss_op = SOFTMAX_CROSS_ENTROPY_AND_GRAD
    elif loss == "sigmoid":
        loss_op, gradient_op = SIGMOID_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY_BACKWARD
    else:
        loss_op, gradient_op, name = MEAN_SQUARED_ERROR, MEAN_SQUARED_ERROR_BACKWARD, "y"

    x, t = given("x", x, 0), given("t", t, 0)
    cdef cnp.ndarray a = plain(x, 0), targets = None, y, outputs
    cdef cnp.npy_intp[2] shape
    cdef Py_ssize_t N = 0
    cdef tuple used = params
    if a is not None and not plain_chain(a, params):
        in_one = in_one_type(a, params)
        if in_one:
            a, used = in_one[0], in_one[1:]
    if a is not None and plain_chain(a, used):
        batch = None
        if cnp.PyArray_NDIM(a) == 0 or cnp.PyArray_NDIM(a) > 2 or columns(a) != cnp.PyArray_DIM(used[0], 0):
            a, batch = arguments.samples(a, used[0])
        N = cnp.PyArray_DIM(a, 0) if cnp.PyArray_NDIM(a) == 2 else 1
        # Made first, since t is checked beside it: y is its rows.
        shape[0], shape[1] = N, columns(used[len(used) - 2])
        y = empty(1, shape + 1, cnp.PyArray_TYPE(a)) if a.ndim == 1 else empty(2, shape, cnp.PyArray_TYPE(a))
        outputs = y if batch is None else y.reshape(*batch, columns(y))
        # Class indices are copied: products let other threads run, and any new object may run a finalizer.
        targets = targets_of(loss_op, name, outputs, t, False)
    if targets is None:
        return fall_back("mlp_gradient")(x, t, *params, activation=activation, loss=loss, eps=eps, out=out)
    if out is not None and not good_outputs(out, params, x, t):
        read = {"x": x, "t": t} | {f"params[{i}]": p for i, p in enumerate(params)}
        shapes = tuple([p.shape for p in params])
        out = arguments.separate_outputs(out, shapes, ((<object> a).dtype,) * len(params), read)

    cdef list inputs = forward(KNOWN[activation], a, used, y, N)
    if gradient_op is None:
        value = run_loss(loss_op, outputs, targets, outputs, eps, 1.0)
    else:
        targets = plain(targets, 0)
        value = run_loss(loss_op, outputs, targets, outputs, eps, 1.0)
        run_loss(gradient_op, outputs, targets, outputs, eps, 1.0)
    return value, *backward(KNOWN[activation], inputs, used, y, N, out)
