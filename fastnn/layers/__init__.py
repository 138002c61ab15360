"""The books' layer classes, written once over the ops.

Volume 1 of "Deep Learning from Scratch" reads ``layer.W``, ``layer.dW`` and gets fresh gradient arrays; volume 2 keeps
``layer.params`` and ``layer.grads``, lists whose arrays every backward writes in place.  Each class speaks both.

In training mode a layer remembers its last forward for its backward, so layers are not to be shared between threads:
each needs its own.  In evaluation mode it remembers nothing, and may be shared.

`__all__` are the books' classes, and `Layer` is what they are made from; what it documents they declare of themselves.
"""

from fastnn.layers.affine import Affine
from fastnn.layers.base import Layer as Layer
from fastnn.layers.elementwise import Relu, Sigmoid, Tanh
from fastnn.layers.losses import CrossEntropyError, IdentityWithLoss, SigmoidWithLoss, SoftmaxWithLoss
from fastnn.layers.softmax import Softmax

__all__ = [
    "Affine",
    "CrossEntropyError",
    "IdentityWithLoss",
    "Relu",
    "Sigmoid",
    "SigmoidWithLoss",
    "Softmax",
    "SoftmaxWithLoss",
    "Tanh",
]
