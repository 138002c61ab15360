"""The other ways to get the same results: for each peer the ops it has, each by its fastest public call.

``peer(op, args)`` gives a function without arguments that computes the op on those arguments, already converted to the
peer's own arrays, or None where the peer has no such op.
"""

import importlib
import os

import numpy as np

from bench import numpy_layers
from fastnn.arguments import EPS


def numpy_peer(op, args):
    """The layers as the books write them."""
    x, last_arg = args[0], args[-1]
    relu, sigmoid, softmax = numpy_layers.Relu(), numpy_layers.Sigmoid(), numpy_layers.Softmax()
    last = numpy_layers.SoftmaxWithLoss()
    relu.mask = sigmoid.out = softmax.out = last.t = last_arg
    last.y = x
    # the books' backward writes into dout: it gets the same array again, so that no copy is charged to it
    dout = x.copy() if op == "relu_backward" else x
    calls = {
        "relu": lambda: np.maximum(0, x),
        "relu_with_mask": lambda: relu.forward(x),
        "relu_backward": lambda: relu.backward(dout),
        "sigmoid": lambda: sigmoid.forward(x),
        "sigmoid_backward": lambda: sigmoid.backward(x),
        "softmax": lambda: softmax.forward(x),
        "softmax_backward": lambda: softmax.backward(x),
        "cross_entropy_error": lambda: numpy_layers.cross_entropy_error(x, args[1]),
        "softmax_cross_entropy": lambda: last.forward(x, last_arg),
        "softmax_cross_entropy_backward": lambda: last.backward(),
        "softmax_cross_entropy_and_grad": lambda: (last.forward(x, last_arg), last.backward()),
        "sigmoid_cross_entropy": lambda: binary_loss(x, last_arg),
        "sigmoid_cross_entropy_backward": lambda: (x - last_arg) / x.size,
        "mean_squared_error": lambda: 0.5 * np.mean((x - last_arg) ** 2),
        "mean_squared_error_backward": lambda: (x - last_arg) / x.size,
        "bias_grad": lambda: np.sum(x, axis=0),
        "add_bias": lambda: x + last_arg,
    }
    return calls.get(op)


def binary_loss(x, t):
    y = 1 / (1 + np.exp(-x))
    return -np.mean(np.log(np.where(t == 1, y, 1 - y) + EPS)), y


def torch_peer():
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    aten = torch.ops.aten

    def loss_and_grad(x, t):
        logs = aten._log_softmax(x, 1, False)
        loss, weight = aten.nll_loss_forward(logs, t, None, 1, -100)
        dlogs = aten.nll_loss_backward(torch.ones_like(loss), logs, t, None, 1, -100, weight)
        return loss, aten._log_softmax_backward_data(dlogs, logs, 1, x.dtype)

    def peer(op, args):
        x, *rest = (torch.from_numpy(np.ascontiguousarray(a)) for a in args)
        N = len(args[0])
        if op == "relu_backward":
            y = 1 - rest[0].to(x.dtype)  # positive where the mask is False
        if op.startswith(("sigmoid_cross", "mean_squared")):
            t = rest[0].to(x.dtype)
        calls = {
            "relu": lambda: torch.relu(x),
            "relu_with_mask": lambda: torch.relu(x),
            "relu_backward": lambda: aten.threshold_backward(x, y, 0),
            "sigmoid": lambda: torch.sigmoid(x),
            "sigmoid_backward": lambda: aten.sigmoid_backward(x, rest[0]),
            "softmax": lambda: torch.softmax(x, -1),
            "softmax_backward": lambda: aten._softmax_backward_data(x, rest[0], -1, x.dtype),
            "cross_entropy_error": lambda: -(x.gather(1, rest[0][:, None]) + EPS).log().mean(),
            "cross_entropy_error_backward": lambda: torch.zeros_like(x).scatter_(
                1, rest[0][:, None], -1 / (N * (x.gather(1, rest[0][:, None]) + EPS))
            ),
            "softmax_cross_entropy": lambda: cross_entropy(x, rest[0]),
            "softmax_cross_entropy_backward": lambda: (x / N).scatter_add_(
                1, rest[0][:, None], torch.full((N, 1), -1 / N, dtype=x.dtype)
            ),
            "softmax_cross_entropy_and_grad": lambda: loss_and_grad(x, rest[0]),
            "sigmoid_cross_entropy": lambda: (binary_cross_entropy_with_logits(x, t), torch.sigmoid(x)),
            "sigmoid_cross_entropy_backward": lambda: (x - t) / x.numel(),
            "mean_squared_error": lambda: 0.5 * mse_loss(x, t),
            "mean_squared_error_backward": lambda: (x - t) / x.numel(),
            "bias_grad": lambda: x.sum(0),
            "add_bias": lambda: x + rest[0],
        }
        call = calls.get(op)
        return call and torch.inference_mode()(call)

    return peer


def jax_peer():
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def softmax_cross_entropy(x, t):
        y = jax.nn.softmax(x)
        return -jnp.mean(jnp.log(jnp.take_along_axis(y, t[:, None], 1) + EPS)), y

    def softmax_cross_entropy_and_grad(x, t):
        loss, y = softmax_cross_entropy(x, t)
        return loss, (y - jax.nn.one_hot(t, y.shape[1], dtype=y.dtype)) / len(t)

    def sigmoid_cross_entropy(x, t):
        y = jax.nn.sigmoid(x)
        return -jnp.mean(jnp.log(jnp.where(t == 1, y, 1 - y) + EPS)), y

    def softmax_backward(dout, y):
        return y * (dout - jnp.sum(dout * y, -1, keepdims=True))

    def at_labels(y, t):
        return jnp.take_along_axis(y, t[:, None], 1)[:, 0]

    def cross_entropy_error_backward(y, t):
        return jnp.zeros_like(y).at[jnp.arange(len(t)), t].set(-1 / (len(t) * (at_labels(y, t) + EPS)))

    functions = {
        "relu": lambda x: jnp.where(x <= 0, 0, x),
        "relu_with_mask": lambda x: (jnp.where(x <= 0, 0, x), x <= 0),
        "relu_backward": lambda dout, mask: jnp.where(mask, 0, dout),
        "sigmoid": jax.nn.sigmoid,
        "sigmoid_backward": lambda dout, y: dout * (1 - y) * y,
        "softmax": jax.nn.softmax,
        "softmax_backward": softmax_backward,
        "cross_entropy_error": lambda y, t: -jnp.mean(jnp.log(at_labels(y, t) + EPS)),
        "cross_entropy_error_backward": cross_entropy_error_backward,
        "softmax_cross_entropy": softmax_cross_entropy,
        "softmax_cross_entropy_backward": lambda y, t: (y - jax.nn.one_hot(t, y.shape[1], dtype=y.dtype)) / len(t),
        "softmax_cross_entropy_and_grad": softmax_cross_entropy_and_grad,
        "sigmoid_cross_entropy": sigmoid_cross_entropy,
        "sigmoid_cross_entropy_backward": lambda y, t: (y - t) / y.size,
        "mean_squared_error": lambda y, t: 0.5 * jnp.mean((y - t) ** 2),
        "mean_squared_error_backward": lambda y, t: (y - t) / y.size,
        "bias_grad": lambda dout: jnp.sum(dout, 0),
        "add_bias": lambda x, b: x + b,
    }
    compiled = {name: jax.jit(function) for name, function in functions.items()}

    def peer(op, args):
        if op not in compiled:
            return None
        given = [jnp.asarray(a) for a in args]
        return lambda: jax.block_until_ready(compiled[op](*given))

    return peer


def numba_peer():
    from math import exp, log

    from numba import njit

    @njit
    def relu(x):
        y = np.empty_like(x)
        for n in range(x.shape[0]):
            for i in range(x.shape[1]):
                y[n, i] = 0 if x[n, i] <= 0 else x[n, i]
        return y

    @njit
    def relu_with_mask(x):
        y, mask = np.empty_like(x), np.empty(x.shape, np.bool_)
        for n in range(x.shape[0]):
            for i in range(x.shape[1]):
                mask[n, i] = x[n, i] <= 0
                y[n, i] = 0 if x[n, i] <= 0 else x[n, i]
        return y, mask

    @njit
    def relu_backward(dout, mask):
        dx = np.empty_like(dout)
        for n in range(dout.shape[0]):
            for i in range(dout.shape[1]):
                dx[n, i] = 0 if mask[n, i] else dout[n, i]
        return dx

    @njit(error_model="numpy")
    def sigmoid(x):
        y = np.empty_like(x)
        for n in range(x.shape[0]):
            for i in range(x.shape[1]):
                y[n, i] = 1 / (1 + exp(-x[n, i]))
        return y

    @njit
    def sigmoid_backward(dout, y):
        dx = np.empty_like(dout)
        one = dout.dtype.type(1)
        for n in range(dout.shape[0]):
            for i in range(dout.shape[1]):
                dx[n, i] = dout[n, i] * (one - y[n, i]) * y[n, i]
        return dx

    @njit(error_model="numpy")
    def softmax(x):
        y = np.empty_like(x)
        for n in range(x.shape[0]):
            largest, total = x[n].max(), x.dtype.type(0)
            for i in range(x.shape[1]):
                y[n, i] = exp(x[n, i] - largest)
                total += y[n, i]
            for i in range(x.shape[1]):
                y[n, i] /= total
        return y

    @njit
    def softmax_backward(dout, y):
        dx = np.empty_like(dout)
        for n in range(dout.shape[0]):
            total = dout.dtype.type(0)
            for i in range(dout.shape[1]):
                total += dout[n, i] * y[n, i]
            for i in range(dout.shape[1]):
                dx[n, i] = y[n, i] * (dout[n, i] - total)
        return dx

    @njit
    def cross_entropy_error(y, t):
        total = y.dtype.type(0)
        for n in range(len(t)):
            total += log(y[n, t[n]] + EPS)
        return -total / len(t)

    @njit(error_model="numpy")
    def softmax_cross_entropy(x, t):
        y = softmax(x)
        return cross_entropy_error(y, t), y

    @njit(error_model="numpy")
    def softmax_cross_entropy_backward(y, t):
        dx = np.empty_like(y)
        factor = y.dtype.type(1 / len(t))
        for n in range(len(t)):
            for i in range(y.shape[1]):
                dx[n, i] = y[n, i] * factor
            dx[n, t[n]] = (y[n, t[n]] - y.dtype.type(1)) * factor
        return dx

    @njit(error_model="numpy")
    def softmax_cross_entropy_and_grad(x, t):
        loss, y = softmax_cross_entropy(x, t)
        return loss, softmax_cross_entropy_backward(y, t)

    @njit(error_model="numpy")
    def sigmoid_cross_entropy(x, t):
        y = sigmoid(x)
        total = 0.0
        one = x.dtype.type(1)
        for n in range(x.shape[0]):
            for i in range(x.shape[1]):
                total += log((y[n, i] if t[n, i] == 1 else one - y[n, i]) + EPS)
        return -total / x.size, y

    @njit
    def mean_squared_error(y, t):
        total = 0.0
        for n in range(y.shape[0]):
            for i in range(y.shape[1]):
                total += (y[n, i] - t[n, i]) ** 2
        return total / (2 * y.size)

    @njit(error_model="numpy")
    def mean_squared_error_backward(y, t):
        dx = np.empty_like(y)
        factor = y.dtype.type(1 / y.size)
        for n in range(y.shape[0]):
            for i in range(y.shape[1]):
                dx[n, i] = (y[n, i] - t[n, i]) * factor
        return dx

    @njit
    def bias_grad(dout):
        db = np.zeros(dout.shape[1], dout.dtype)
        for n in range(dout.shape[0]):
            for j in range(dout.shape[1]):
                db[j] += dout[n, j]
        return db

    @njit
    def add_bias(x, b):
        y = np.empty_like(x)
        for n in range(x.shape[0]):
            for j in range(x.shape[1]):
                y[n, j] = x[n, j] + b[j]
        return y

    functions = locals()

    def peer(op, args):
        function = functions.get(op)
        return function and (lambda: function(*args))

    return peer


def thinc_peer():
    from thinc.api import NumpyOps

    numpy_ops = NumpyOps()

    def peer(op, args):
        x = args[0]
        if op == "relu_backward":
            y = 1 - args[1].astype(x.dtype)  # positive where the mask is False
        calls = {
            "relu": lambda: numpy_ops.relu(x),
            "relu_with_mask": lambda: numpy_ops.relu(x),
            "relu_backward": lambda: numpy_ops.backprop_relu(x, y),
            "sigmoid": lambda: numpy_ops.sigmoid(x),
            "softmax": lambda: numpy_ops.softmax(x),
            "softmax_backward": lambda: numpy_ops.backprop_softmax(args[1], x, axis=-1),
        }
        return calls.get(op)

    return peer


MAKERS = {"PyTorch": torch_peer, "JAX": jax_peer, "Numba": numba_peer, "Thinc": thinc_peer}
MODULES = {"PyTorch": "torch", "JAX": "jax", "Numba": "numba", "Thinc": "thinc"}


def available():
    """The peers installed here, and their versions; those that are not."""
    peers, versions, missing = {"NumPy layers": numpy_peer}, {"NumPy layers": np.__version__}, []
    for name, make in MAKERS.items():
        try:
            peers[name] = make()
            module = importlib.import_module(MODULES[name])
        except ImportError:
            missing.append(name)
        else:
            versions[name] = getattr(module, "__version__", None) or importlib.metadata.version(MODULES[name])
    return peers, versions, missing
