"""Whole layers, forward and backward: fastnn's against the same work of every peer that has such a layer.

``calls(layer, dtype, shape)`` gives, for each peer installed, a function without arguments that returns the gradient
with respect to the input.
"""

import numpy as np

import fastnn
from bench import numpy_layers

LAYERS = ["Relu", "Sigmoid", "Affine", "Softmax", "SoftmaxWithLoss"]
WIDTH = 50  # what an Affine layer gives


def _forward_backward(layer, x, dout):
    def call():
        layer.forward(x)
        return layer.backward(dout)

    return call


def _with_loss(layer, x, t):
    def call():
        layer.forward(x, t)
        return layer.backward()

    return call


def _ours(module, name, x, dout, t, params):
    layer = getattr(module, name)(*params)
    if name == "SoftmaxWithLoss":
        return _with_loss(layer, x, t)
    if name == "Relu" and module is numpy_layers:
        dout = dout.copy()  # the books' backward writes into it
    return _forward_backward(layer, x, dout)


def _torch(name, x, dout, t, params):
    import torch
    from torch.nn import functional

    x, dout, t = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dout), torch.from_numpy(t)
    wanted = [x]
    if name == "Affine":
        W, b = (torch.from_numpy(p).requires_grad_() for p in params)
        wanted += [W, b]
    forward = {
        "Relu": lambda: torch.relu(x),
        "Sigmoid": lambda: torch.sigmoid(x),
        "Affine": lambda: torch.addmm(b, x, W),
        "Softmax": lambda: torch.softmax(x, -1),
        "SoftmaxWithLoss": lambda: functional.cross_entropy(x, t),
    }[name]
    upstream = None if name == "SoftmaxWithLoss" else dout
    return lambda: torch.autograd.grad(forward(), wanted, upstream)[0]


def _jax(name, x, dout, t, params):
    import jax
    import jax.numpy as jnp

    x, dout, t = jnp.asarray(x), jnp.asarray(dout), jnp.asarray(t)
    params = [jnp.asarray(p) for p in params]

    def with_loss(x):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1))

    forward = {
        "Relu": jax.nn.relu,
        "Sigmoid": jax.nn.sigmoid,
        "Affine": lambda x, W, b: x @ W + b,
        "Softmax": jax.nn.softmax,
        "SoftmaxWithLoss": with_loss,
    }[name]

    @jax.jit
    def both(x, dout, *params):
        y, backward = jax.vjp(forward, x, *params)
        return y, backward(dout)

    upstream = jnp.ones((), x.dtype) if name == "SoftmaxWithLoss" else dout
    return lambda: jax.block_until_ready(both(x, upstream, *params))[1][0]


def arguments(name, dtype, shape):
    """x, dout, t and the parameters."""
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape).astype(dtype)
    params = ()
    if name == "Affine":
        params = (0.1 * rng.standard_normal((shape[1], WIDTH))).astype(dtype), np.zeros(WIDTH, dtype)
    dout = rng.standard_normal((shape[0], WIDTH) if name == "Affine" else shape).astype(dtype)
    return x, dout, rng.integers(0, shape[1], shape[0]), params


def calls(name, dtype, shape, peers):
    args = arguments(name, dtype, shape)
    made = {"fastnn": _ours(fastnn, name, *args), "NumPy layers": _ours(numpy_layers, name, *args)}
    for peer, make in (("PyTorch", _torch), ("JAX", _jax)):
        if peer in peers:
            made[peer] = make(name, *args)
    return made
