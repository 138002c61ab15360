"""The layers as the books write them."""

import functools
import math

import numpy as np

from bench import numpy_layers
from bench.numpy_layers import *  # noqa: F403
from fastnn.reference.steps import STEP_EPS


def call(version, args):
    return functools.partial(version, *args)


# ---------------------------------------------------------------- elementwise

_relu, _sigmoid, _tanh = numpy_layers.Relu(), numpy_layers.Sigmoid(), numpy_layers.Tanh()


def relu(x):
    return np.maximum(0, x)


def relu_with_mask(x):
    return _relu.forward(x), _relu.mask


def relu_backward(dout, mask):
    _relu.mask = mask
    return _relu.backward(dout)


def step_product(a, x):
    return a * (x > 0)


def sigmoid_backward(dout, y):
    _sigmoid.out = y
    return _sigmoid.backward(dout)


tanh = np.tanh


def tanh_backward(dout, y):
    _tanh.out = y
    return _tanh.backward(dout)


# ---------------------------------------------------------------- softmax

_softmax = numpy_layers.Softmax()


def softmax_backward(dout, y):
    _softmax.out = y
    return _softmax.backward(dout)


# ---------------------------------------------------------------- losses

_cross_entropy = numpy_layers.CrossEntropyError()
_softmax_loss, _sigmoid_loss = numpy_layers.SoftmaxWithLoss(), numpy_layers.SigmoidWithLoss()


def cross_entropy_error_backward(y, t):
    _cross_entropy.y, _cross_entropy.t = y, t
    return _cross_entropy.backward()


def softmax_cross_entropy(x, t):
    return _softmax_loss.forward(x, t), _softmax_loss.y


def softmax_cross_entropy_backward(y, t):
    _softmax_loss.y, _softmax_loss.t = y, t
    return _softmax_loss.backward()


def softmax_cross_entropy_and_grad(x, t):
    return _softmax_loss.forward(x, t), _softmax_loss.backward()


def sigmoid_cross_entropy(x, t):
    return _sigmoid_loss.forward(x, t), _sigmoid_loss.y


def mean_squared_error(y, t):
    return 0.5 * np.mean((y - t) ** 2)


def mean_squared_error_backward(y, t):
    return (y - t) / y.size


sigmoid_cross_entropy_backward = mean_squared_error_backward


# ---------------------------------------------------------------- affine, perceptron


def add_bias(x, b):
    return x + b


def bias_grad(dout):
    return np.sum(dout, axis=0)


def affine(x, W, b):
    return np.dot(x, W) + b


def affine_backward(dout, x, W):
    return np.dot(dout, W.T), np.dot(x.T, dout), np.sum(dout, axis=0)


def mlp_gradient(x, t, W1, b1, W2, b2):
    first, second = numpy_layers.Affine(W1, b1), numpy_layers.Affine(W2, b2)
    loss = numpy_layers.forward_backward([first, _relu, second], _softmax_loss, x, t)
    return loss, first.dW, first.db, second.dW, second.db


def mlp_descent(x, t, order, batch_size, lr, *params):
    params, losses = [p.copy() for p in params], []
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        loss, *grads = mlp_gradient(x[batch], t[batch], *params)
        losses.append(loss)
        for p, dp in zip(params, grads, strict=True):
            p -= lr * dp
    return np.array(losses), *params


# ---------------------------------------------------------------- steps, in place


def sgd(p, dp, lr):
    p -= lr * dp
    return p


def momentum(p, v, dp, lr, momentum):
    v *= momentum
    v -= lr * dp
    p += v
    return p, v


def nesterov(p, v, dp, lr, momentum):
    p += momentum * momentum * v
    p -= (1 + momentum) * lr * dp
    v *= momentum
    v -= lr * dp
    return p, v


def adagrad(p, h, dp, lr):
    h += dp * dp
    p -= lr * dp / (np.sqrt(h) + STEP_EPS)
    return p, h


def rmsprop(p, h, dp, lr, decay_rate):
    h *= decay_rate
    h += (1 - decay_rate) * dp * dp
    p -= lr * dp / (np.sqrt(h) + STEP_EPS)
    return p, h


def adam(p, m, v, dp, lr, beta1, beta2, iter):
    rate = lr * math.sqrt(1 - beta2**iter) / (1 - beta1**iter)
    m += (1 - beta1) * (dp - m)
    v += (1 - beta2) * (dp**2 - v)
    p -= rate * m / (np.sqrt(v) + STEP_EPS)
    return p, m, v
