"""Loops as one writes them for Numba."""

import functools
import math

import numba
import numpy as np
from numba import prange

from fastnn.arguments import EPS
from fastnn.reference.steps import STEP_EPS

_compiled = numba.njit(error_model="numpy", parallel=numba.config.NUMBA_NUM_THREADS > 1)


def call(version, args):
    return functools.partial(version, *args)


# ---------------------------------------------------------------- elementwise


@_compiled
def relu(x):
    y = np.empty_like(x)
    for n in prange(x.shape[0]):
        for i in range(x.shape[1]):
            y[n, i] = 0 if x[n, i] <= 0 else x[n, i]
    return y


@_compiled
def relu_with_mask(x):
    y, mask = np.empty_like(x), np.empty(x.shape, np.bool_)
    for n in prange(x.shape[0]):
        for i in range(x.shape[1]):
            mask[n, i] = x[n, i] <= 0
            y[n, i] = 0 if x[n, i] <= 0 else x[n, i]
    return y, mask


@_compiled
def relu_backward(dout, mask):
    dx = np.empty_like(dout)
    for n in prange(dout.shape[0]):
        for i in range(dout.shape[1]):
            dx[n, i] = 0 if mask[n, i] else dout[n, i]
    return dx


@_compiled
def sigmoid(x):
    y = np.empty_like(x)
    for n in prange(x.shape[0]):
        for i in range(x.shape[1]):
            y[n, i] = 1 / (1 + math.exp(-x[n, i]))
    return y


@_compiled
def sigmoid_backward(dout, y):
    dx = np.empty_like(dout)
    one = dout.dtype.type(1)
    for n in prange(dout.shape[0]):
        for i in range(dout.shape[1]):
            dx[n, i] = dout[n, i] * (one - y[n, i]) * y[n, i]
    return dx


@_compiled
def tanh(x):
    y = np.empty_like(x)
    for n in prange(x.shape[0]):
        for i in range(x.shape[1]):
            y[n, i] = math.tanh(x[n, i])
    return y


@_compiled
def tanh_backward(dout, y):
    dx = np.empty_like(dout)
    one = dout.dtype.type(1)
    for n in prange(dout.shape[0]):
        for i in range(dout.shape[1]):
            dx[n, i] = dout[n, i] * (one - y[n, i] * y[n, i])
    return dx


# ---------------------------------------------------------------- softmax


@_compiled
def softmax(x):
    y = np.empty_like(x)
    for n in prange(x.shape[0]):
        largest, total = x[n].max(), x.dtype.type(0)
        for i in range(x.shape[1]):
            y[n, i] = math.exp(x[n, i] - largest)
            total += y[n, i]
        for i in range(x.shape[1]):
            y[n, i] /= total
    return y


@_compiled
def softmax_backward(dout, y):
    dx = np.empty_like(dout)
    for n in prange(dout.shape[0]):
        total = dout.dtype.type(0)
        for i in range(dout.shape[1]):
            total += dout[n, i] * y[n, i]
        for i in range(dout.shape[1]):
            dx[n, i] = y[n, i] * (dout[n, i] - total)
    return dx


# ---------------------------------------------------------------- losses


@_compiled
def cross_entropy_error(y, t):
    total = y.dtype.type(0)
    for n in prange(len(t)):
        total += math.log(y[n, t[n]] + EPS)
    return -total / len(t)


@_compiled
def softmax_cross_entropy(x, t):
    y = softmax(x)
    return cross_entropy_error(y, t), y


@_compiled
def softmax_cross_entropy_backward(y, t):
    dx = np.empty_like(y)
    factor = y.dtype.type(1 / len(t))
    for n in prange(len(t)):
        for i in range(y.shape[1]):
            dx[n, i] = y[n, i] * factor
        dx[n, t[n]] = (y[n, t[n]] - y.dtype.type(1)) * factor
    return dx


@_compiled
def softmax_cross_entropy_and_grad(x, t):
    loss, y = softmax_cross_entropy(x, t)
    return loss, softmax_cross_entropy_backward(y, t)


@_compiled
def sigmoid_cross_entropy(x, t):
    y = sigmoid(x)
    total = 0.0
    one = x.dtype.type(1)
    for n in prange(x.shape[0]):
        for i in range(x.shape[1]):
            total += math.log((y[n, i] if t[n, i] == 1 else one - y[n, i]) + EPS)
    return -total / x.size, y


@_compiled
def mean_squared_error(y, t):
    total = 0.0
    for n in prange(y.shape[0]):
        for i in range(y.shape[1]):
            total += (y[n, i] - t[n, i]) ** 2
    return total / (2 * y.size)


@_compiled
def mean_squared_error_backward(y, t):
    dx = np.empty_like(y)
    factor = y.dtype.type(1 / y.size)
    for n in prange(y.shape[0]):
        for i in range(y.shape[1]):
            dx[n, i] = (y[n, i] - t[n, i]) * factor
    return dx


# ---------------------------------------------------------------- affine


@_compiled
def bias_grad(dout):
    db = np.zeros(dout.shape[1], dout.dtype)
    for n in range(dout.shape[0]):
        for j in range(dout.shape[1]):
            db[j] += dout[n, j]
    return db


@_compiled
def add_bias(x, b):
    y = np.empty_like(x)
    for n in prange(x.shape[0]):
        for j in range(x.shape[1]):
            y[n, j] = x[n, j] + b[j]
    return y


# ---------------------------------------------------------------- steps, in place


@_compiled
def sgd(p, dp, lr):
    ps, dps, lr = p.reshape(-1), dp.reshape(-1), p.dtype.type(lr)
    for i in prange(p.size):
        ps[i] -= lr * dps[i]
    return p


@_compiled
def momentum(p, v, dp, lr, momentum):
    ps, vs, dps = p.reshape(-1), v.reshape(-1), dp.reshape(-1)
    lr, mu = p.dtype.type(lr), p.dtype.type(momentum)
    for i in prange(p.size):
        vs[i] = mu * vs[i] - lr * dps[i]
        ps[i] += vs[i]
    return p, v


@_compiled
def nesterov(p, v, dp, lr, momentum):
    ps, vs, dps = p.reshape(-1), v.reshape(-1), dp.reshape(-1)
    lr, mu = p.dtype.type(lr), p.dtype.type(momentum)
    for i in prange(p.size):
        old = vs[i]
        vs[i] = mu * old - lr * dps[i]
        ps[i] = ps[i] + mu * mu * old - (mu * lr + lr) * dps[i]
    return p, v


@_compiled
def adagrad(p, h, dp, lr):
    ps, hs, dps = p.reshape(-1), h.reshape(-1), dp.reshape(-1)
    lr, eps = p.dtype.type(lr), p.dtype.type(STEP_EPS)
    for i in prange(p.size):
        hs[i] += dps[i] * dps[i]
        ps[i] -= lr * dps[i] / (math.sqrt(hs[i]) + eps)
    return p, h


@_compiled
def rmsprop(p, h, dp, lr, decay_rate):
    ps, hs, dps = p.reshape(-1), h.reshape(-1), dp.reshape(-1)
    lr, eps = p.dtype.type(lr), p.dtype.type(STEP_EPS)
    kept, rest = p.dtype.type(decay_rate), p.dtype.type(1 - decay_rate)
    for i in prange(p.size):
        hs[i] = kept * hs[i] + rest * dps[i] * dps[i]
        ps[i] -= lr * dps[i] / (math.sqrt(hs[i]) + eps)
    return p, h


@_compiled
def adam(p, m, v, dp, lr, beta1, beta2, iter):
    ps, dps = p.reshape(-1), dp.reshape(-1)
    ms, vs = m.reshape(-1), v.reshape(-1)  # all four at once are mixed up with several threads (Numba 0.68)
    rate = p.dtype.type(lr * math.sqrt(1 - beta2**iter) / (1 - beta1**iter))
    rest1, rest2, eps = p.dtype.type(1 - beta1), p.dtype.type(1 - beta2), p.dtype.type(STEP_EPS)
    for i in prange(p.size):
        ms[i] += rest1 * (dps[i] - ms[i])
        vs[i] += rest2 * (dps[i] * dps[i] - vs[i])
        ps[i] -= rate * ms[i] / (math.sqrt(vs[i]) + eps)
    return p, m, v
