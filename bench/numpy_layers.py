"""The layers as readers of the books write them in NumPy, in our own words: what fastnn is measured against."""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    e = np.exp(x)
    return e / e.sum(axis=-1, keepdims=True)


def cross_entropy_error(y, t):
    if y.ndim == 1:
        y, t = y.reshape(1, -1), t.reshape(1, -1)
    if t.size == y.size:
        t = t.argmax(axis=1)
    batch_size = y.shape[0]
    return -np.sum(np.log(y[np.arange(batch_size), t] + 1e-7)) / batch_size


class Relu:
    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class Sigmoid:
    def forward(self, x):
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout):
        return dout * (1.0 - self.out) * self.out


class Tanh:
    def forward(self, x):
        self.out = np.tanh(x)
        return self.out

    def backward(self, dout):
        return dout * (1 - self.out**2)


class Affine:
    def __init__(self, W, b):
        self.W, self.b = W, b
        self.dW = self.db = None

    def forward(self, x):
        self.shape = x.shape
        self.x = x.reshape(x.shape[0], -1)
        return np.dot(self.x, self.W) + self.b

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx.reshape(self.shape)


class Softmax:
    def forward(self, x):
        self.out = softmax(x)
        return self.out

    def backward(self, dout):
        dx = self.out * dout
        dx -= self.out * np.sum(dx, axis=-1, keepdims=True)
        return dx


class CrossEntropyError:
    def forward(self, y, t):
        self.y, self.t = y, t
        return cross_entropy_error(y, t)

    def backward(self, dout=1):
        rows = np.arange(self.t.shape[0])
        dy = np.zeros_like(self.y)
        dy[rows, self.t] = -dout / (rows.size * (self.y[rows, self.t] + 1e-7))
        return dy


class SoftmaxWithLoss:
    def forward(self, x, t):
        self.t = t
        self.y = softmax(x)
        return cross_entropy_error(self.y, t)

    def backward(self, dout=1):
        batch_size = self.t.shape[0]
        if self.t.size == self.y.size:
            return (self.y - self.t) / batch_size
        dx = self.y.copy()
        dx[np.arange(batch_size), self.t] -= 1
        return dx / batch_size  # dout is 1, as in volume 1


class SigmoidWithLoss:
    def forward(self, x, t):
        self.t = t
        self.y = sigmoid(x)
        return -np.mean(np.log(np.where(t == 1, self.y, 1 - self.y) + 1e-7))

    def backward(self, dout=1):
        return (self.y - self.t) * (dout / self.y.size)


class IdentityWithLoss:
    def forward(self, x, t):
        self.difference = x - t
        return 0.5 * np.mean(self.difference**2)

    def backward(self, dout=1):
        return self.difference * (dout / self.difference.size)


def forward_backward(layers, loss, x, t):
    """The loss of a network, whose layers have their gradients afterwards."""
    for layer in layers:
        x = layer.forward(x)
    value, dout = loss.forward(x, t), loss.backward()
    for layer in reversed(layers):
        dout = layer.backward(dout)
    return value
