"""The layers by what they declare of themselves, so that a new one is in every test that reads this."""

import inspect
import math

import numpy as np

from fastnn import layers
from fastnn.optable import OPS, as_tuple

LAYERS = [getattr(layers, name) for name in layers.__all__]
LOSSES = [layer for layer in LAYERS if layer.is_loss]
INNER = [layer for layer in LAYERS if not layer.is_loss]


def name_of(layer_class):
    return layer_class.__name__


def op_of(layer_class):
    """The row of its op, whose arguments are the layer's."""
    return OPS[layer_class.op]


def shapes(layer_class):
    """Of its op's, the first of some numbers for each number of dimensions."""
    return [*{len(shape): shape for shape in reversed(op_of(layer_class).shapes) if math.prod(shape) > 4}.values()]


def made(layer_class, rng, shape=None, dtype=np.float64, **options):
    """A layer, and arguments of its forward, of a shape of its op's or of the first."""
    op = op_of(layer_class)
    given = dict(zip(op.names, op.example(rng, op.shapes[0] if shape is None else shape, dtype), strict=True))
    params = [given.pop(name) for name in layer_class.parameters]
    return layer_class(*params, **options), tuple(given.values())


def exact(layer_class):
    """Options with which the gradient is that of the very loss: the books' leaves the eps of theirs out."""
    return {"eps": 0} if "eps" in inspect.signature(layer_class).parameters else {}


def dout_for(layer_class, rng, y):
    """What backward is given after forward has given y."""
    return () if layer_class.is_loss else (rng.standard_normal(np.shape(y)).astype(np.asarray(y).dtype),)


# ---------------------------------------------------------------- a layer as a function


def whole(layer_class):
    """A function that gives all results of a layer's forward and backward, and its parameters' gradients.

    It takes what the op takes and dout, which is optional for a loss; and by name the constructor's options, and for a
    layer with parameters whether its gradients are written into the buffers of volume 2.
    """
    names = op_of(layer_class).names

    def forward_and_backward(*args, into_buffers=False, **options):
        if layer_class.is_loss:
            dout = options.pop("dout", 1.0)
        else:
            *args, dout = args
        given = dict(zip(names, args, strict=True))
        layer = layer_class(*(given.pop(name) for name in layer_class.parameters), **options)
        y = layer.forward(*given.values())
        if into_buffers is True:
            layer.grads  # noqa: B018, which makes the buffers
        dx = layer.backward(dout)
        return *as_tuple(y), *as_tuple(dx), *(getattr(layer, f"d{name}") for name in layer_class.parameters)

    options = {
        p.name: p.default for p in inspect.signature(layer_class).parameters.values() if p.default is not p.empty
    }
    if layer_class.parameters:
        options["into_buffers"] = False
    required = names if layer_class.is_loss else (*names, "dout")
    optional = {"dout": 1.0, **options} if layer_class.is_loss else options
    forward_and_backward.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in required]
        + [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value) for name, value in optional.items()]
    )
    return forward_and_backward


def with_dout(layer_class):
    """An op table's `example`, for that function."""
    op = op_of(layer_class)

    def example(rng, shape, dtype):
        args = op.example(rng, shape, dtype)
        if layer_class.is_loss:
            return args
        y = args[0] if shape in op.bad_shapes else as_tuple(op.reference(*args))[0]
        return *args, np.asarray(rng.standard_normal(np.shape(y))).astype(dtype)

    return example
