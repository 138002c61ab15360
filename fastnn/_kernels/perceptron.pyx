"""A perceptron's loss and gradients in one call, and whole descents: the ops of other families around the products of
its layers."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

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
    CHUNKS, MOVES, Arrays, Chunk, Columns, ColumnsOp, Loop, Op, Task,
    by_columns, chunked_op, common_type, empty, fall_back, fresh, given, head, plain, run, run_arrays,
    widened
)
cimport fastnn._kernels.loops.perceptron as loops
from fastnn._kernels.loops.reductions cimport Sum, value as value_of
from fastnn._kernels.products cimport as_matrix, is_row, product, transposed
from fastnn._kernels.targets cimport (
    CLASSES, LabelsOf, LossOp, WithTargets, bits_of_one, epsilon, labels_of, labels_of_rows, run_loss, targets_of,
    widen
)
from fastnn._kernels.updates cimport Update, UpdateOp, adam_rate, update
from fastnn._kernels.vmath cimport real

import numpy as np

from fastnn import arguments
from fastnn.reference.perceptron import ACTIVATIONS, LOSSES, STEPS
from fastnn.reference.perceptron import Descent as Asked
from fastnn.reference.perceptron import outputs_like as _outputs_like

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
from . import steps as step_ops
from .steps import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, SGD

compiled_for = COMPILED_FOR.decode()

cdef enum:
    # Up to how many multiplications a loop of our own is faster than a call of BLAS.
    SMALL = 2048


# ---------------------------------------------------------------- products

cdef inline int need_same(bint same) except -1:
    if not same:
        raise RuntimeError("an argument changed its shape while others were being read")
    return 0


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
    cdef Py_ssize_t of_a = M if op is DOUT_WT else K, of_y = M if op is X_W else K
    cdef Product task
    if N * K * M <= SMALL:
        # Python may have run since they were checked.
        need_same(
            cnp.PyArray_SIZE(a) == N * of_a
            and cnp.PyArray_SIZE(b) == (N * M if op is XT_DOUT else K * M)
            and cnp.PyArray_SIZE(y) == (K * M if op is XT_DOUT else N * of_y)
        )
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


cdef class Loss:
    """A loss, its gradient from what it has left in place of the outputs, None if that is it; the outputs' name."""
    cdef LossOp loss
    cdef LossOp gradient
    cdef str name

    def __cinit__(self, LossOp loss, LossOp gradient, str name):
        self.loss, self.gradient, self.name = loss, gradient, name


KNOWN_LOSSES = {
    "softmax": Loss(SOFTMAX_CROSS_ENTROPY_AND_GRAD, None, "x"),
    "sigmoid": Loss(SIGMOID_CROSS_ENTROPY, SIGMOID_CROSS_ENTROPY_BACKWARD, "x"),
    "identity": Loss(MEAN_SQUARED_ERROR, MEAN_SQUARED_ERROR_BACKWARD, "y"),
}
KNOWN_STEPS = {op.name: op for op in (SGD, MOMENTUM, NESTEROV, ADAGRAD, RMSPROP, ADAM)}


cdef object loss_and_gradient(Loss loss, cnp.ndarray y, cnp.ndarray t, double eps):
    """The loss of outputs y, which become their gradient."""
    value = run_loss(loss.loss, y, t, y, eps, 1.0)
    if loss.gradient is not None:
        run_loss(loss.gradient, y, t, y, eps, 1.0)
    return value


cdef int activate(Activation activation, cnp.ndarray y, cnp.ndarray b) except -1:
    """y = activation(y + b)."""
    cdef Arrays task
    need_same(cnp.PyArray_SIZE(b) == columns(y))
    if activation is None:
        task = Arrays(head(ADD_BIAS_RELU, y), NULL, data(y))
        run(ADD_BIAS_RELU, b, &task.head, task.head.N, task.head.C, CHUNKS)
    else:
        run_arrays(ADD_BIAS, y, b, y)
        run_arrays(activation.forward, y, None, y)
    return 0


cdef int activate_backward(Activation activation, cnp.ndarray h, cnp.ndarray dh) except -1:
    """dh = the gradient with respect to what the activation made h from."""
    need_same(cnp.PyArray_SIZE(h) == cnp.PyArray_SIZE(dh))
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


cdef bint good_outputs(object out, tuple params, cnp.ndarray x, cnp.ndarray t, int type_num):
    """As arguments.separate_outputs has it, for outputs of a type, seen without running any Python."""
    cdef Py_ssize_t i, k
    cdef cnp.ndarray array
    if type(out) is not tuple or len(<tuple> out) != len(params):
        return False
    for i in range(len(params)):
        if not PyArray_CheckExact((<tuple> out)[i]):
            return False
        array = (<tuple> out)[i]
        if cnp.PyArray_TYPE(array) != type_num or not (PyArray_ISCARRAY(array) and PyArray_SAMESHAPE(array, params[i])):
            return False
        if not (apart(array, x) and apart(array, t)):
            return False
        for k in range(len(params)):
            if not apart(array, params[k]) or k < i and not apart(array, (<tuple> out)[k]):
                return False
    return True


# ---------------------------------------------------------------- all of it

cdef list forward(
    Activation activation, cnp.ndarray x, tuple params, cnp.ndarray y, Py_ssize_t N, list hidden = None
):
    """The inputs of all layers, in `hidden` if it is given; y = the output of the last."""
    cdef list inputs = [x]
    cdef cnp.npy_intp[2] shape
    cdef cnp.ndarray W, h
    cdef Py_ssize_t layer, last = len(params) // 2 - 1
    for layer in range(last):
        W = params[2 * layer]
        shape[0], shape[1] = N, columns(W)
        h = empty(2, shape, cnp.PyArray_TYPE(x)) if hidden is None else hidden[layer]
        multiply(X_W, inputs[layer], W, h, N, W)
        activate(activation, h, params[2 * layer + 1])
        inputs.append(h)
    W = params[2 * last]
    multiply(X_W, inputs[last], W, y, N, W)
    need_same(cnp.PyArray_SIZE(params[2 * last + 1]) == columns(y))
    run_arrays(ADD_BIAS, y, params[2 * last + 1], y)
    return inputs


cdef list backward(
    Activation activation, list inputs, tuple params, cnp.ndarray dout, Py_ssize_t N, tuple out, list hidden = None
):
    """The gradients, in `out` if it has an array for them; dout is that of the last layer.

    Those of the inputs are made in `hidden` if it is given.
    """
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
            dh = empty(2, shape, cnp.PyArray_TYPE(W)) if hidden is None else hidden[layer - 1]
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
    cdef Loss known_loss = KNOWN_LOSSES[loss]

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
        if not widen(known_loss.loss, outputs, t):
            targets = targets_of(known_loss.loss, known_loss.name, outputs, t, False)
    if targets is None:
        return fall_back("mlp_gradient")(x, t, *params, activation=activation, loss=loss, eps=eps, out=out)
    if out is not None and not good_outputs(out, params, x, t, cnp.PyArray_TYPE(a)):
        read = {"x": x, "t": t} | {f"params[{i}]": p for i, p in enumerate(params)}
        shapes = tuple([p.shape for p in params])
        out = arguments.separate_outputs(out, shapes, ((<object> a).dtype,) * len(params), read)

    cdef list inputs = forward(KNOWN[activation], a, used, y, N)
    value = loss_and_gradient(known_loss, outputs, targets if known_loss.gradient is None else plain(targets, 0), eps)
    return value, *backward(KNOWN[activation], inputs, used, y, N, out)


# ---------------------------------------------------------------- many steps

# An op in one dtype, to be run without the GIL.
cdef struct Kernel:
    Chunk chunk
    Loop loop

# x (N, K) W + b is y (N, M), which becomes its own gradient in the last layer; dx is NULL in the first.
cdef struct Layer:
    Py_ssize_t K
    Py_ssize_t M
    const void* x
    void* W
    void* b
    void* y
    void* dx
    void* dW
    void* db


cdef Kernel kernel(Op op, bint is_double) noexcept:
    return Kernel(op.chunks[is_double], op.loops[is_double])


cdef inline void run_small(const Kernel* kernel, const void* x, Task* task, Py_ssize_t n) noexcept nogil:
    """As the boundary's `run` does little work."""
    task.chunk, task.loop, task.x = kernel.chunk, kernel.loop, x
    kernel.chunk(x, task, 0, n, 0)


cdef inline void take(
    const void* a, const Py_ssize_t* indices, void* out, Py_ssize_t n, Py_ssize_t nbytes
) noexcept nogil:
    """out = so many rows of a."""
    cdef Py_ssize_t i
    for i in range(n):
        memcpy(<char*> out + i * nbytes, <const char*> a + indices[i] * nbytes, nbytes)


cdef inline bint are_consecutive(const Py_ssize_t* indices, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(1, n):
        if indices[i] != indices[0] + i:
            return False
    return True


cdef class Descent:
    """The steps of a perceptron's descent, in memory that is allocated once.

    Where all products are small, they run without the GIL, each op in one chunk; otherwise as those of `mlp_gradient`
    and of the optimizers, but for the arrays, which are there already.
    """
    cdef Activation activation
    cdef Loss loss
    cdef UpdateOp step
    cdef tuple params, grads, outs
    cdef list a, b  # what the step keeps for each, or None
    cdef tuple batch  # x, t, y, and what is hidden, layer by layer, and its gradients: of a whole batch
    cdef tuple rest  # of one that is shorter, if there is one
    cdef cnp.ndarray x, t, order, losses, sums, found
    cdef bint is_double, has_labels, soft, loss_by_rows, counts
    cdef double eps
    cdef double[4] numbers
    cdef double[4] constants

    # The same for steps without the GIL.
    cdef Py_ssize_t depth, batch_size, left, in_pass, x_bytes, t_bytes
    cdef const void* x_rows
    cdef const void* t_rows
    cdef void* x_batch
    cdef void* t_batch
    cdef const void* t_now
    cdef const Py_ssize_t* indices
    cdef void* losses_to
    cdef double* totals
    cdef Layer* layers
    cdef Update* updates
    cdef Kernel x_W, xT_dout, dout_WT, add_bias, add_bias_relu, activate, activate_backward, columns, merge
    cdef Kernel of_loss, of_gradient, of_step
    cdef LabelsOf find_labels  # in a batch of soft targets, which may be one-hot
    cdef uint64_t one
    cdef Py_ssize_t* labels

    def __cinit__(self, asked, list rows, cnp.ndarray x, cnp.ndarray t, cnp.ndarray losses):
        cdef Py_ssize_t n, i
        self.params = tuple(rows[0])
        self.a, self.b = (*rows[1:], *2 * [[None] * len(self.params)])[:2]
        self.outs = self.params if len(rows) == 1 else tuple(zip(*rows, strict=True))
        self.depth = len(self.params) // 2
        self.layers = <Layer*> PyMem_Malloc(self.depth * sizeof(Layer))
        self.updates = <Update*> PyMem_Malloc(2 * self.depth * sizeof(Update))
        if self.layers == NULL or self.updates == NULL:
            raise MemoryError
        self.x, self.t, self.order, self.losses = x, t, asked.order, losses
        self.counts = "iter" in asked.numbers
        for i, number in enumerate(asked.numbers.values()):
            self.numbers[i] = self.constants[i] = number
        self.left, self.in_pass = self.order.size, columns(self.order)
        self.batch_size = n = min(asked.batch_size, self.in_pass)
        dtype, widths = (<object> x).dtype, [p.shape[1] for p in self.params[::2]]
        self.batch = (
            np.empty((n, columns(x)), dtype),
            np.empty((n, *(<object> t).shape[1:]), (<object> t).dtype),
            np.empty((n, widths[-1]), dtype),
            [np.empty((n, M), dtype) for M in widths[:-1]],
            [np.empty((n, M), dtype) for M in widths[:-1]],
        )
        n = self.in_pass % n
        *arrays, hidden, dhidden = self.batch
        self.rest = *[a[:n] for a in arrays], [h[:n] for h in hidden], [h[:n] for h in dhidden]
        self.grads = tuple([np.empty(p.shape, dtype) for p in self.params])
        self.sums, self.found = np.empty(2 * max(widths), np.float64), np.empty(self.batch_size, np.intp)

    def __dealloc__(self):
        PyMem_Free(self.layers)
        PyMem_Free(self.updates)

    cdef int choose(self, str activation, str loss, str step, double eps) except -1:
        cdef bint d = cnp.PyArray_TYPE(self.x) == cnp.NPY_FLOAT64
        self.activation, self.loss, self.step, self.eps = KNOWN[activation], KNOWN_LOSSES[loss], KNOWN_STEPS[step], eps
        self.is_double, self.has_labels = d, not same_type(self.t, self.x)
        self.loss_by_rows = self.loss.loss.by_rows
        self.soft = self.loss.loss.kind == CLASSES and not self.has_labels
        if self.soft:
            self.find_labels = labels_of_rows(self.loss.loss, self.t)
            self.one = bits_of_one(cnp.PyArray_TYPE(self.t))
        self.x_W, self.xT_dout, self.dout_WT = kernel(X_W, d), kernel(XT_DOUT, d), kernel(DOUT_WT, d)
        self.add_bias, self.add_bias_relu = kernel(ADD_BIAS, d), kernel(ADD_BIAS_RELU, d)
        if self.activation is None:
            self.activate_backward = kernel(RELU_BACKWARD_FROM_OUTPUT, d)
        else:
            self.activate = kernel(self.activation.forward, d)
            self.activate_backward = kernel(self.activation.backward, d)
        self.columns, self.merge = kernel(BIAS_GRAD, d), kernel(BIAS_GRAD.merge, d)
        self.of_loss, self.of_step = kernel(self.loss.loss, d), kernel(self.step, d)
        if self.loss.gradient is not None:
            self.of_gradient = kernel(self.loss.gradient, d)
        return 0

    cdef int point(self) except -1:
        """To the memory of all arrays."""
        cdef Py_ssize_t i
        cdef cnp.ndarray W, b, dW, db, x, t, y, dx, input, output, p, dp, kept, kept2, array
        x, t, y, hidden, dhidden = self.batch
        inputs, outputs, dinputs = [x, *hidden], [*hidden, y], [None, *dhidden]
        for i in range(self.depth):
            W, b, dW, db = self.params[2 * i], self.params[2 * i + 1], self.grads[2 * i], self.grads[2 * i + 1]
            input, output, dx = inputs[i], outputs[i], dinputs[i]
            need_same(cnp.PyArray_DIM(dW, 0) == columns(input) and cnp.PyArray_DIM(dW, 1) == columns(output))
            self.layers[i] = Layer(
                cnp.PyArray_DIM(dW, 0), cnp.PyArray_DIM(dW, 1),
                data(input), data(W), data(b), data(output), data(dx), data(dW), data(db)
            )
        for i in range(2 * self.depth):
            p, kept, kept2, dp = self.params[i], self.a[i], self.b[i], self.grads[i]
            for array in (p, kept, kept2):
                need_same(array is None or cnp.PyArray_NBYTES(array) == cnp.PyArray_NBYTES(dp))
            self.updates[i] = Update(
                Task(NULL, NULL, data(dp), cnp.PyArray_SIZE(dp), 1),
                &self.constants[0], data(p), data(kept), data(kept2)
            )
        self.x_rows, self.x_batch, self.x_bytes = data(self.x), data(x), cnp.PyArray_NBYTES(x) // self.batch_size
        self.t_rows, self.t_batch, self.t_bytes = data(self.t), data(t), cnp.PyArray_NBYTES(t) // self.batch_size
        need_same(cnp.PyArray_NBYTES(self.t) == cnp.PyArray_DIM(self.x, 0) * self.t_bytes)
        self.indices, self.losses_to = <const Py_ssize_t*> data(self.order), data(self.losses)
        self.totals, self.labels = <double*> data(self.sums), <Py_ssize_t*> data(self.found)
        return 0

    cdef bint is_small(self) noexcept:
        """Whether all products are, and with them all arrays."""
        cdef Py_ssize_t i
        for i in range(self.depth):
            if self.batch_size * max(self.layers[i].K, 1) * max(self.layers[i].M, 1) > SMALL:
                return False
        return True

    cdef int take_steps(self) except -1:
        if self.is_small():
            with nogil:
                self.descend(True)
        else:
            self.descend(False)
        return 0

    cdef int descend(self, bint small) except -1 nogil:
        cdef Py_ssize_t n, step = 0
        cdef double loss
        cdef bint in_one_piece
        while self.left:
            n = min(self.batch_size, (self.left - 1) % self.in_pass + 1)
            in_one_piece = are_consecutive(self.indices, n)
            if not in_one_piece:
                take(self.x_rows, self.indices, self.x_batch, n, self.x_bytes)
                take(self.t_rows, self.indices, self.t_batch, n, self.t_bytes)
            if small:
                self.layers[0].x, self.t_now = self.x_batch, self.t_batch
                if in_one_piece:
                    self.layers[0].x = <const char*> self.x_rows + self.indices[0] * self.x_bytes
                    self.t_now = <const char*> self.t_rows + self.indices[0] * self.t_bytes
                loss = self.small_gradient(n)
            else:
                with gil:
                    batch = self.batch if n == self.batch_size else self.rest
                    if in_one_piece:
                        first = self.indices[0]
                        batch = self.x[first:first + n], self.t[first:first + n], *batch[2:]
                    loss = self.gradient(batch, n)
            if self.is_double:
                (<double*> self.losses_to)[step] = loss
            else:
                (<float*> self.losses_to)[step] = <float> loss
            if loss != loss:
                break
            if self.counts:
                self.constants[0] = adam_rate(self.numbers[0], self.numbers[1], self.numbers[2], self.numbers[3] + step)
            if small:
                self.small_update()
            else:
                with gil:
                    self.update_all()
            self.indices += n
            self.left -= n
            step += 1
        return 0

    cdef double gradient(self, tuple batch, Py_ssize_t n) except? -1:
        x, t, y, hidden, dhidden = batch
        inputs = forward(self.activation, x, self.params, y, n, hidden)
        labels = labels_of(self.loss.loss, t) if self.soft else None
        value = loss_and_gradient(self.loss, y, t if labels is None else labels, self.eps)
        backward(self.activation, inputs, self.params, y, n, self.grads, dhidden)
        return value

    cdef int update_all(self) except -1:
        cdef Py_ssize_t i
        for i in range(2 * self.depth):
            update(self.step, self.params[i], self.a[i], self.b[i], self.grads[i], self.constants, self.outs[i])
        return 0

    cdef double small_gradient(self, Py_ssize_t n) noexcept nogil:
        cdef Py_ssize_t i, last = self.depth - 1
        cdef Layer* k
        cdef Product task
        cdef Arrays arrays
        cdef double loss
        cdef void* dout
        for i in range(self.depth):
            k = &self.layers[i]
            task = Product(Task(NULL, NULL, NULL, 1, 1), k.W, k.y, n, k.K, k.M)
            run_small(&self.x_W, k.x, &task.head, 1)
            if i < last and self.activate.chunk == NULL:
                arrays = Arrays(Task(NULL, NULL, NULL, n, k.M), NULL, k.y)
                run_small(&self.add_bias_relu, k.b, &arrays.head, n)
            else:
                arrays = Arrays(Task(NULL, NULL, NULL, n, k.M), k.b, k.y)
                run_small(&self.add_bias, k.y, &arrays.head, n)
            if i < last and self.activate.chunk != NULL:
                arrays = Arrays(Task(NULL, NULL, NULL, n * k.M, 1), NULL, k.y)
                run_small(&self.activate, k.y, &arrays.head, n * k.M)
        dout = self.layers[last].y
        loss = self.small_loss(dout, n, self.layers[last].M)
        for i in range(last, -1, -1):
            k = &self.layers[i]
            task = Product(Task(NULL, NULL, NULL, 1, 1), dout, k.dW, n, k.K, k.M)
            run_small(&self.xT_dout, k.x, &task.head, 1)
            self.small_bias_grad(dout, k.db, n, k.M)
            if i:
                task = Product(Task(NULL, NULL, NULL, 1, 1), k.W, k.dx, n, k.K, k.M)
                run_small(&self.dout_WT, dout, &task.head, 1)
                dout = k.dx
                if self.activate.chunk == NULL:
                    arrays = Arrays(Task(NULL, NULL, NULL, n * k.K, 1), NULL, dout)
                    run_small(&self.activate_backward, k.x, &arrays.head, n * k.K)
                else:
                    arrays = Arrays(Task(NULL, NULL, NULL, n * k.K, 1), k.x, dout)
                    run_small(&self.activate_backward, dout, &arrays.head, n * k.K)
        return loss

    cdef double small_loss(self, void* y, Py_ssize_t n, Py_ssize_t M) noexcept nogil:
        """As `run_loss` has it, of the outputs y, which become their gradient."""
        cdef Sum s
        cdef bint by_rows = self.loss_by_rows
        cdef Py_ssize_t N = n if by_rows else n * M
        cdef WithTargets task = WithTargets(
            Task(NULL, NULL, NULL, N, M if by_rows else 1),
            NULL,
            NULL,
            y,
            self.eps,
            1.0,
            &s,
        )
        if self.has_labels:
            task.labels = <const Py_ssize_t*> self.t_now
        elif self.soft and self.find_labels(self.t_now, self.one, self.labels, n, M):
            task.labels = self.labels
        else:
            task.targets = self.t_now
        run_small(&self.of_loss, y, &task.head, N)
        if self.of_gradient.chunk != NULL:
            run_small(&self.of_gradient, y, &task.head, N)
        return 0 - value_of(Sum(s.total / N, s.error / N))

    cdef void small_bias_grad(self, const void* dout, void* db, Py_ssize_t n, Py_ssize_t M) noexcept nogil:
        """As `by_columns` has it."""
        cdef Columns task = Columns(Task(NULL, NULL, NULL, n, M), db, self.totals, self.totals + M, 1)
        if n == 1:
            memcpy(db, dout, M * (sizeof(double) if self.is_double else sizeof(float)))
        else:
            run_small(&self.columns, dout, &task.head, n)
            run_small(&self.merge, dout, &task.head, 1)

    cdef void small_update(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(2 * self.depth):
            run_small(&self.of_step, self.updates[i].head.x, &self.updates[i].head, self.updates[i].head.N)


cdef bint steps_in_place(object out, tuple arrays, cnp.ndarray x, cnp.ndarray t, Py_ssize_t steps):
    """Whether all arrays are to be changed in place and can be, seen without running any Python."""
    cdef Py_ssize_t i, k
    cdef cnp.ndarray array
    if type(out) is not tuple or len(<tuple> out) != 1 + len(arrays):
        return False
    for i in range(len(<tuple> out)):
        if (<tuple> out)[i] is None and i == 0:
            continue
        if not PyArray_CheckExact((<tuple> out)[i]):
            return False
        array = (<tuple> out)[i]
        if not (same_type(array, x) and PyArray_ISCARRAY(array) and apart(array, x) and apart(array, t)):
            return False
        if i > 0 and array is not arrays[i - 1]:
            return False
        if i == 0 and not (cnp.PyArray_NDIM(array) == 1 and cnp.PyArray_DIM(array, 0) == steps):
            return False
        for k in range(i):
            if (<tuple> out)[k] is not None and not apart(array, (<tuple> out)[k]):
                return False
    return True


cdef cnp.ndarray in_place(cnp.ndarray array, object out):
    """The array to change, which holds the values of the given one."""
    cdef cnp.ndarray changed = fresh(array, cnp.PyArray_TYPE(array)) if out is None else out
    if changed is not array:
        cnp.PyArray_CopyInto(changed, array)
    return changed


def mlp_descent(
    x, t, order, batch_size, lr, *params, step="sgd", constants=(), activation="relu", loss="softmax",
    eps=arguments.EPS, out=None
):
    eps = epsilon(eps)
    step = arguments.one_of("step", step, STEPS)
    activation = arguments.one_of("activation", activation, ACTIVATIONS)
    loss = arguments.one_of("loss", loss, LOSSES)
    x, t, order = given("x", x, 1), given("t", t, 0), given("order", order, 0)
    cdef tuple arrays = tuple([given(f"params[{i}]", p, 0) for i, p in enumerate(params)])
    asked = Asked.checked(x, t, order, batch_size, lr, arrays, getattr(step_ops, step), constants, loss)
    cdef cnp.ndarray samples = None, targets = None, losses
    cdef Loss known_loss = KNOWN_LOSSES[loss]
    cdef int type_num = cnp.PyArray_TYPE(arrays[0])
    if native(type_num) and common_type(asked.x, arrays[0]) == type_num:
        samples = widened(asked.x, type_num)
    if samples is not None and all([same_type(array, samples) for array in arrays]):
        y = _outputs_like(samples, samples.dtype, asked.rows[0][-2])
        if not widen(known_loss.loss, y, asked.t):
            targets = targets_of(known_loss.loss, known_loss.name, y, asked.t, True)
    if targets is None:
        return fall_back("mlp_descent")(
            x, t, order, batch_size, lr, *arrays, step=step, constants=constants, activation=activation, loss=loss,
            eps=eps, out=out
        )
    outs = out if steps_in_place(out, arrays, samples, targets, asked.steps) else asked.outputs(out, samples.dtype)
    losses = np.empty(asked.steps, samples.dtype) if outs[0] is None else outs[0]
    losses.fill(np.nan)
    changed = [in_place(array, given_out) for array, given_out in zip(arrays, outs[1:], strict=True)]
    count = len(asked.rows[0])
    rows = [changed[first:first + count] for first in range(0, len(changed), count)]
    if known_loss.loss.kind != CLASSES:
        targets = plain(targets, 0)
    cdef Descent descent = Descent(asked, rows, samples, targets, losses)
    descent.choose(activation, loss, step, eps)
    descent.point()
    descent.take_steps()
    return losses, *changed
