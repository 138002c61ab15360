"""A chain of affine layers: its loss and gradients in one call, by the ops of other families around its products."""

cimport numpy as cnp

from fastnn._kernels.arrays cimport (
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
    by_columns, empty, fall_back, fresh, given, head, plain, run, run_arrays, widened
)
from fastnn._kernels.products cimport as_matrix, is_row, product, transposed
from fastnn._kernels.targets cimport epsilon, run_loss, targets_of, widen

from fastnn import arguments
from fastnn.reference.perceptron import ACTIVATIONS, LOSSES

cnp.import_array()


cdef class Activation:
    def __cinit__(self, Op add_bias, Op forward, Op backward):
        self.add_bias, self.forward, self.backward = add_bias, forward, backward


cdef class Loss:
    def __cinit__(self, LossOp loss, LossOp gradient, str name):
        self.loss, self.gradient, self.name = loss, gradient, name


cdef class ChainOps:
    def __cinit__(
        self, *, Op x_W, Op xT_dout, Op dout_WT, Op add_bias, ColumnsOp bias_grad,
        dict activations, dict losses, dict steps
    ):
        self.x_W, self.xT_dout, self.dout_WT = x_W, xT_dout, dout_WT
        self.add_bias, self.bias_grad = add_bias, bias_grad
        self.activations, self.losses, self.steps = activations, losses, steps


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


# ---------------------------------------------------------------- a layer

cdef int multiply(
    ChainOps ops, Op op, cnp.ndarray a, cnp.ndarray b, cnp.ndarray y, Py_ssize_t N, cnp.ndarray W
) except -1:
    """y = the product that `op` names, for N rows and an affine map of W's shape."""
    cdef Py_ssize_t K = cnp.PyArray_DIM(W, 0), M = cnp.PyArray_DIM(W, 1)
    cdef Py_ssize_t of_a = M if op is ops.dout_WT else K, of_y = M if op is ops.x_W else K
    cdef Product task
    if N * K * M <= SMALL:
        # Python may have run since they were checked.
        need_same(
            cnp.PyArray_SIZE(a) == N * of_a
            and cnp.PyArray_SIZE(b) == (N * M if op is ops.xT_dout else K * M)
            and cnp.PyArray_SIZE(y) == (K * M if op is ops.xT_dout else N * of_y)
        )
        task = Product(head(op, a), data(b), data(y), N, K, M)
        run(op, a, &task.head, 1, 1, 1)
    elif op is ops.x_W:
        product(as_matrix(a, N, K), b, y)
    elif op is ops.xT_dout:
        product(transposed(as_matrix(a, N, K)), as_matrix(b, N, M), y)
    else:
        product(as_matrix(a, N, M), transposed(b), y)
    return 0


cdef int add(Op add_bias, cnp.ndarray y, cnp.ndarray b) except -1:
    """y = y + b, and what else `add_bias` does."""
    need_same(cnp.PyArray_SIZE(b) == columns(y))
    run_arrays(add_bias, y, b, y)
    return 0


# ---------------------------------------------------------------- all of them

cdef list forward(
    ChainOps ops, Activation activation, cnp.ndarray x, tuple params, cnp.ndarray y, Py_ssize_t N, list hidden=None
):
    """The inputs of all layers, in `hidden` if it is given; y = the output of the last."""
    cdef list inputs = [x]
    cdef cnp.npy_intp[2] shape
    cdef cnp.ndarray W, h
    cdef Py_ssize_t layer, last = len(params) // 2 - 1
    for layer in range(last):
        W = <cnp.ndarray> params[2 * layer]
        shape[0], shape[1] = N, columns(W)
        h = empty(2, shape, cnp.PyArray_TYPE(x)) if hidden is None else hidden[layer]
        multiply(ops, ops.x_W, x, W, h, N, W)
        add(activation.add_bias, h, <cnp.ndarray> params[2 * layer + 1])
        if activation.forward is not None:
            run_arrays(activation.forward, h, None, h)
        inputs.append(h)
        x = h
    W = <cnp.ndarray> params[2 * last]
    multiply(ops, ops.x_W, x, W, y, N, W)
    add(ops.add_bias, y, <cnp.ndarray> params[2 * last + 1])
    return inputs


cdef object loss_and_gradient(Loss loss, cnp.ndarray y, cnp.ndarray t, double eps):
    """The loss of outputs y, which become their gradient."""
    value = run_loss(loss.loss, y, t, y, eps, 1.0)
    if loss.gradient is not None:
        run_loss(loss.gradient, y, t, y, eps, 1.0)
    return value


cdef list backward(
    ChainOps ops, Activation activation, list inputs, tuple params, cnp.ndarray dout, Py_ssize_t N, tuple out,
    list hidden=None
):
    """The gradients, in `out` if it has an array for them; dout is that of the last layer.

    Those of the inputs are made in `hidden` if it is given.
    """
    cdef list grads = [None] * len(params) if out is None else list(out)
    cdef cnp.npy_intp[2] shape
    cdef cnp.ndarray W, h, dh
    cdef Py_ssize_t layer, i
    for layer in range(len(params) // 2 - 1, -1, -1):
        W, h = <cnp.ndarray> params[2 * layer], <cnp.ndarray> inputs[layer]
        for i in range(2 * layer, 2 * layer + 2):
            if grads[i] is None:
                grads[i] = fresh(<cnp.ndarray> params[i], cnp.PyArray_TYPE(dout))
        multiply(ops, ops.xT_dout, h, dout, <cnp.ndarray> grads[2 * layer], N, W)
        by_columns(ops.bias_grad, dout, <cnp.ndarray> grads[2 * layer + 1])
        if layer:
            shape[0], shape[1] = N, cnp.PyArray_DIM(W, 0)
            dh = empty(2, shape, cnp.PyArray_TYPE(W)) if hidden is None else hidden[layer - 1]
            multiply(ops, ops.dout_WT, dout, W, dh, N, W)
            need_same(cnp.PyArray_SIZE(h) == cnp.PyArray_SIZE(dh))
            run_arrays(activation.backward, dh, h, dh)
            dout = dh
    return grads


# ---------------------------------------------------------------- the sequence

cdef tuple gradient(
    ChainOps ops, object x, object t, tuple params, object activation, object loss, object eps, object out
):
    """The loss of a chain and its gradients."""
    eps = epsilon(eps)
    if type(activation) is not str or activation != "relu":
        activation = arguments.one_of("activation", activation, ACTIVATIONS)
    if type(loss) is not str or loss != "softmax":
        loss = arguments.one_of("loss", loss, LOSSES)
    cdef Activation known_activation = ops.activations[activation]
    cdef Loss known_loss = ops.losses[loss]

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

    cdef list inputs = forward(ops, known_activation, a, used, y, N)
    value = loss_and_gradient(known_loss, outputs, targets if known_loss.gradient is None else plain(targets, 0), eps)
    return value, *backward(ops, known_activation, inputs, used, y, N, out)
