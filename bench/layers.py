"""Whole layers, forward and backward, each beside what the peers have under its name or its op's."""

import numpy as np

from bench import ours
from fastnn import layers
from fastnn.optable import OPS

LAYERS = layers.__all__
WIDTH = 50  # what an Affine layer gives here; the op table's samples give fewer


def op_of(name):
    return OPS[getattr(layers, name).op]


def case(name, dtype, shape):
    """Arguments of a layer's forward, its parameters, and the argument of its backward, which for a loss is None."""
    layer, op, rng = getattr(layers, name), op_of(name), np.random.default_rng(shape)
    given = dict(zip(op.names, op.example(rng, shape, dtype), strict=True))
    if name == "Affine":
        given["W"] = (0.1 * rng.standard_normal((shape[1], WIDTH))).astype(dtype)
        given["b"] = np.zeros(WIDTH, dtype)
    params = [given.pop(parameter) for parameter in layer.parameters]
    args = [*given.values()]
    y = layer(*params).forward(*args)
    return args, params, None if layer.is_loss else rng.standard_normal(y.shape).astype(dtype)


def calls(name, dtype, shape, peers):
    """For each contender that has the layer, fastnn first, a function that returns the gradient of its input."""
    layer = getattr(layers, name)
    args, params, dout = case(name, dtype, shape)
    found = {"fastnn": ours.layer(layer, args, params, dout)}
    for peer, module in peers.items():
        version = getattr(module, name, None)
        if isinstance(version, type):
            found[peer] = ours.layer(version, args, params, dout)
        elif hasattr(module, "gradient") and (version := version or getattr(module, layer.op, None)):
            *own, own_dout = ours.placed([*args, dout])
            found[peer] = module.gradient(version, own, ours.placed(params), own_dout)
    return found
