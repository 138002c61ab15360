"""PyTorch, eager."""

import functools

import numpy as np
import torch

import fastnn
from bench.peers import taken, takes
from fastnn.arguments import EPS
from fastnn.optable import as_tuple
from fastnn.reference.steps import STEP_EPS

torch.set_num_threads(fastnn.get_num_threads())
_aten = torch.ops.aten


def _tensor(a):
    return torch.from_numpy(np.ascontiguousarray(a)) if isinstance(a, np.ndarray) else a


def call(version, args):
    return functools.partial(version, *taken(version, [_tensor(a) for a in args]))


def gradient(version, args, params, dout):
    (x, *rest), upstream = map(_tensor, args), _tensor(dout)
    wanted = [p.requires_grad_() for p in (x, *map(_tensor, params))]
    given = taken(version, [x, *rest, *wanted[1:]])
    return lambda: torch.autograd.grad(as_tuple(version(*given))[0], wanted, upstream)[0]


# ---------------------------------------------------------------- elementwise

relu = relu_with_mask = torch.relu
sigmoid = torch.sigmoid
sigmoid_backward = _aten.sigmoid_backward
tanh = torch.tanh
tanh_backward = _aten.tanh_backward


@takes(lambda dout, mask: (dout, 1 - mask.to(dout.dtype)))  # positive where the mask is False
def relu_backward(dout, y):
    return _aten.threshold_backward(dout, y, 0)


# ---------------------------------------------------------------- softmax


def softmax(x):
    return torch.softmax(x, -1)


def softmax_backward(dout, y):
    return _aten._softmax_backward_data(dout, y, -1, dout.dtype)


# ---------------------------------------------------------------- losses


def cross_entropy_error(y, t):
    return -(y.gather(1, t[:, None]) + EPS).log().mean()


def cross_entropy_error_backward(y, t):
    t = t[:, None]
    return torch.zeros_like(y).scatter_(1, t, -1 / (len(y) * (y.gather(1, t) + EPS)))


softmax_cross_entropy = torch.nn.functional.cross_entropy


def softmax_cross_entropy_backward(y, t):
    N = len(y)
    return (y / N).scatter_add_(1, t[:, None], torch.full((N, 1), -1 / N, dtype=y.dtype))


def softmax_cross_entropy_and_grad(x, t):
    logs = _aten._log_softmax(x, 1, False)
    loss, weight = _aten.nll_loss_forward(logs, t, None, 1, -100)
    dlogs = _aten.nll_loss_backward(torch.ones_like(loss), logs, t, None, 1, -100, weight)
    return loss, _aten._log_softmax_backward_data(dlogs, logs, 1, x.dtype)


_with_floats = takes(lambda x, t: (x, t.to(x.dtype)))


@_with_floats
def SigmoidWithLoss(x, t):
    return torch.nn.functional.binary_cross_entropy_with_logits(x, t)


@_with_floats
def sigmoid_cross_entropy(x, t):
    return SigmoidWithLoss(x, t), torch.sigmoid(x)


@_with_floats
def sigmoid_cross_entropy_backward(y, t):
    return (y - t) / y.numel()


def mean_squared_error(y, t):
    return 0.5 * torch.nn.functional.mse_loss(y, t)


def mean_squared_error_backward(y, t):
    return (y - t) / y.numel()


# ---------------------------------------------------------------- affine


def add_bias(x, b):
    return x + b


def bias_grad(dout):
    return dout.sum(0)


def affine(x, W, b):
    return torch.addmm(b, x, W)


# ---------------------------------------------------------------- steps, in place


def sgd(p, dp, lr):
    return p.sub_(dp, alpha=lr)


def momentum(p, v, dp, lr, momentum):
    return p.add_(v.mul_(momentum).sub_(dp, alpha=lr))


def nesterov(p, v, dp, lr, momentum):
    p.add_(v, alpha=momentum * momentum).sub_(dp, alpha=(1 + momentum) * lr)
    v.mul_(momentum).sub_(dp, alpha=lr)
    return p


def adagrad(p, h, dp, lr):
    h.addcmul_(dp, dp)
    return p.addcdiv_(dp, h.sqrt().add_(STEP_EPS), value=-lr)


def rmsprop(p, h, dp, lr, decay_rate):
    h.mul_(decay_rate).addcmul_(dp, dp, value=1 - decay_rate)
    return p.addcdiv_(dp, h.sqrt().add_(STEP_EPS), value=-lr)


def adam(p, m, v, dp, lr, beta1, beta2, iter):
    m.lerp_(dp, 1 - beta1)
    v.mul_(beta2).addcmul_(dp, dp, value=1 - beta2)
    rate = lr * (1 - beta2**iter) ** 0.5 / (1 - beta1**iter)
    return p.addcdiv_(m, v.sqrt().add_(STEP_EPS), value=-rate)
