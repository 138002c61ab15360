"""The books' functions and layers as the text of somebody's modules, in both volumes' styles."""

from inspect import getsource

from bench import numpy_layers


def _text(*names):
    return "\n\n".join(["import numpy as np\n", *(getsource(getattr(numpy_layers, name)) for name in names)])


FUNCTIONS = _text("sigmoid", "softmax", "cross_entropy_error")
VOLUME_1 = _text("Relu", "Affine", "SoftmaxWithLoss")
VOLUME_2 = """
import numpy as np


class Relu:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x):
        self.mask = x <= 0
        y = x.copy()
        y[self.mask] = 0
        return y

    def backward(self, dout):
        dx = dout.copy()
        dx[self.mask] = 0
        return dx


class Affine:
    def __init__(self, W, b):
        self.params = [W, b]
        self.grads = [np.zeros_like(W), np.zeros_like(b)]

    def forward(self, x):
        W, b = self.params
        self.x = x
        return np.dot(x, W) + b

    def backward(self, dout):
        W, b = self.params
        rows, drows = self.x.reshape(-1, W.shape[0]), dout.reshape(-1, W.shape[1])
        self.grads[0][...] = np.dot(rows.T, drows)
        self.grads[1][...] = np.sum(drows, axis=0)
        return np.dot(dout, W.T)


class Sigmoid:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x):
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class SoftmaxWithLoss:
    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x, t):
        self.t, self.y = t, softmax(x)
        if self.t.size == self.y.size:
            self.t = self.t.argmax(axis=1)
        return cross_entropy_error(self.y, self.t)

    def backward(self, dout=1):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx * dout / len(self.t)
"""
