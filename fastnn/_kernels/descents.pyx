"""Many steps of a chain's descent in one call."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.math cimport isfinite
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cimport numpy as cnp

from fastnn._kernels.arrays cimport PyArray_CheckExact, PyArray_ISCARRAY, apart, columns, data, native, same_type
from fastnn._kernels.boundary cimport (
    Arrays, Chunk, Columns, Loop, Op, Task, common_type, fall_back, fresh, given, plain, widened
)
from fastnn._kernels.chains cimport (
    SMALL, Activation, ChainOps, Loss, Product, backward, forward, loss_and_gradient, need_same
)
from fastnn._kernels.loops.reductions cimport Sum
from fastnn._kernels.targets cimport (
    CLASSES, LabelsOf, WithTargets, bits_of_one, epsilon, labels_of, labels_of_rows, mean_of, targets_of, widen
)
from fastnn._kernels.updates cimport Update, UpdateOp, adam_rate, update

import numpy as np

from fastnn import arguments
from fastnn.reference.perceptron import ACTIVATIONS, LOSSES, STEPS
from fastnn.reference.perceptron import Descent as Asked
from fastnn.reference.perceptron import outputs_like

cnp.import_array()


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
    """Of an op; of NULL where there is none."""
    return Kernel(NULL, NULL) if op is None else Kernel(op.chunks[is_double], op.loops[is_double])


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

    Where all products are small, they run without the GIL, each op in one chunk; otherwise as those of a gradient and
    of the optimizers, but for the arrays, which are there already.
    """
    cdef ChainOps ops
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
    cdef double[5] numbers
    cdef double[5] constants

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
    cdef Kernel x_W, xT_dout, dout_WT, add_bias, add_last_bias, activate, activate_backward, columns, merge
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

    cdef int choose(self, ChainOps ops, Activation activation, Loss loss, UpdateOp step, double eps) except -1:
        cdef bint d = cnp.PyArray_TYPE(self.x) == cnp.NPY_FLOAT64
        self.ops, self.activation, self.loss, self.step, self.eps = ops, activation, loss, step, eps
        self.is_double, self.has_labels = d, not same_type(self.t, self.x)
        self.loss_by_rows = self.loss.loss.by_rows
        self.soft = self.loss.loss.kind == CLASSES and not self.has_labels
        if self.soft:
            self.find_labels = labels_of_rows(self.loss.loss, self.t)
            self.one = bits_of_one(cnp.PyArray_TYPE(self.t))
        self.x_W, self.xT_dout, self.dout_WT = kernel(ops.x_W, d), kernel(ops.xT_dout, d), kernel(ops.dout_WT, d)
        self.add_bias, self.add_last_bias = kernel(activation.add_bias, d), kernel(ops.add_bias, d)
        self.activate, self.activate_backward = kernel(activation.forward, d), kernel(activation.backward, d)
        self.columns, self.merge = kernel(ops.bias_grad, d), kernel(ops.bias_grad.merge, d)
        self.of_loss, self.of_gradient = kernel(loss.loss, d), kernel(loss.gradient, d)
        self.of_step = kernel(step, d)
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

    cdef int take_all(self) except -1:
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
                loss = <float> loss
                (<float*> self.losses_to)[step] = <float> loss
            if not isfinite(loss):
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
        inputs = forward(self.ops, self.activation, x, self.params, y, n, hidden)
        labels = labels_of(self.loss.loss, t) if self.soft else None
        value = loss_and_gradient(self.loss, y, t if labels is None else labels, self.eps)
        backward(self.ops, self.activation, inputs, self.params, y, n, self.grads, dhidden)
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
            arrays = Arrays(Task(NULL, NULL, NULL, n, k.M), k.b, k.y)
            run_small(&self.add_bias if i < last else &self.add_last_bias, k.y, &arrays.head, n)
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
        return mean_of(s, N)

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


# ---------------------------------------------------------------- the sequence

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


cdef tuple descent(
    ChainOps ops, object x, object t, object order, object batch_size, object lr, tuple params, object step,
    object constants, object activation, object loss, object eps, object out
):
    """The loss of each step and the parameters after all of them."""
    eps = epsilon(eps)
    step = arguments.one_of("step", step, STEPS)
    activation = arguments.one_of("activation", activation, ACTIVATIONS)
    loss = arguments.one_of("loss", loss, LOSSES)
    x, t, order = given("x", x, 1), given("t", t, 0), given("order", order, 0)
    cdef tuple arrays = tuple([given(f"params[{i}]", p, 0) for i, p in enumerate(params)])
    step_op, function = ops.steps[step]
    asked = Asked.checked(x, t, order, batch_size, lr, arrays, function, constants, loss)
    cdef cnp.ndarray samples = None, targets = None, losses
    cdef Loss known_loss = ops.losses[loss]
    cdef int type_num = cnp.PyArray_TYPE(arrays[0])
    if native(type_num) and common_type(asked.x, arrays[0]) == type_num:
        samples = widened(asked.x, type_num)
    if samples is not None and all([same_type(array, samples) for array in arrays]):
        y = outputs_like(samples, samples.dtype, asked.rows[0][-2])
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
    cdef Descent steps = Descent(asked, rows, samples, targets, losses)
    steps.choose(ops, ops.activations[activation], known_loss, step_op, eps)
    steps.point()
    steps.take_all()
    return losses, *changed
