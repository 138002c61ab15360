"""The layers by what they declare of themselves, so that a new one is in every test that reads this."""

import inspect

import numpy as np

from fastnn import layers, reference
from fastnn.optable import OPS

LAYERS = [getattr(layers, name) for name in layers.__all__]
LOSSES = [layer for layer in LAYERS if layer.is_loss]
INNER = [layer for layer in LAYERS if not layer.is_loss]


def name_of(layer_class):
    return layer_class.__name__


def arguments(layer_class, rng, shape=(5, 4), dtype=np.float64):
    """By name, what the op table has for the layer's op: for its constructor and its forward."""
    names = inspect.signature(getattr(reference, layer_class.op)).parameters
    return dict(zip(names, OPS[layer_class.op].example(rng, shape, dtype), strict=False))


def made(layer_class, rng, shape=(5, 4), dtype=np.float64, **options):
    """A layer, and arguments of its forward."""
    given = arguments(layer_class, rng, shape, dtype)
    params = [given.pop(name) for name in layer_class.parameters]
    return layer_class(*params, **options), tuple(given.values())


def exact(layer_class):
    """Options with which the gradient is that of the very loss: the books' leaves the eps of theirs out."""
    return {"eps": 0} if "eps" in inspect.signature(layer_class).parameters else {}


def dout_for(layer_class, rng, y):
    """What backward is given after forward has given y."""
    return () if layer_class.is_loss else (rng.standard_normal(np.shape(y)).astype(np.asarray(y).dtype),)
