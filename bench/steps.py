"""A step of each optimizer, in place: fastnn's op beside NumPy as the books write it, PyTorch and Numba."""

import numpy as np

from fastnn import ops
from fastnn.optable import OPS
from fastnn.reference.steps import STEP_EPS as EPS

STEPS = [name for name, op in OPS.items() if op.family == "steps"]


def numpy_step(op, state, dp, numbers):
    p, *kept = state

    def sgd():
        lr = numbers[0]
        p[...] -= lr * dp

    def momentum():
        lr, kept_of_v = numbers
        v = kept[0]
        v *= kept_of_v
        v -= lr * dp
        p[...] += v

    def nesterov():
        lr, mu = numbers
        v = kept[0]
        p[...] += mu * mu * v
        p[...] -= (1 + mu) * lr * dp
        v *= mu
        v -= lr * dp

    def adagrad():
        lr, h = numbers[0], kept[0]
        h += dp * dp
        p[...] -= lr * dp / (np.sqrt(h) + EPS)

    def rmsprop():
        (lr, decay_rate), h = numbers, kept[0]
        h *= decay_rate
        h += (1 - decay_rate) * dp * dp
        p[...] -= lr * dp / (np.sqrt(h) + EPS)

    def adam():
        (lr, beta1, beta2, iter), (m, v) = numbers, kept
        rate = lr * np.sqrt(1.0 - beta2**iter) / (1.0 - beta1**iter)
        m += (1 - beta1) * (dp - m)
        v += (1 - beta2) * (dp**2 - v)
        p[...] -= float(rate) * m / (np.sqrt(v) + EPS)

    step = locals()[op]
    return lambda: (step(), p)[1]


def torch_step(op, state, dp, numbers):
    import torch

    p, *kept = (torch.from_numpy(a) for a in state)
    dp = torch.from_numpy(dp)

    def sgd():
        p.sub_(dp, alpha=numbers[0])

    def momentum():
        lr, mu = numbers
        p.add_(kept[0].mul_(mu).sub_(dp, alpha=lr))

    def nesterov():
        lr, mu = numbers
        p.add_(kept[0], alpha=mu * mu).sub_(dp, alpha=(1 + mu) * lr)
        kept[0].mul_(mu).sub_(dp, alpha=lr)

    def adagrad():
        kept[0].addcmul_(dp, dp)
        p.addcdiv_(dp, kept[0].sqrt().add_(EPS), value=-numbers[0])

    def rmsprop():
        lr, decay_rate = numbers
        kept[0].mul_(decay_rate).addcmul_(dp, dp, value=1 - decay_rate)
        p.addcdiv_(dp, kept[0].sqrt().add_(EPS), value=-lr)

    def adam():
        (lr, beta1, beta2, iter), (m, v) = numbers, kept
        m.lerp_(dp, 1 - beta1)
        v.mul_(beta2).addcmul_(dp, dp, value=1 - beta2)
        rate = lr * (1 - beta2**iter) ** 0.5 / (1 - beta1**iter)
        p.addcdiv_(m, v.sqrt().add_(EPS), value=-rate)

    step = torch.inference_mode()(locals()[op])
    return lambda: (step(), p)[1]


def numba_step(op, state, dp, numbers):
    function = _numba_steps()[op]
    p = state[0]
    arrays, constants = [a.reshape(-1) for a in (*state, dp)], [dp.dtype.type(n) for n in numbers]
    return lambda: (function(*arrays, *constants), p)[1]


def _numba_steps():
    from math import sqrt

    from numba import njit

    @njit(error_model="numpy")
    def sgd(p, dp, lr):
        for i in range(p.size):
            p[i] -= lr * dp[i]

    @njit(error_model="numpy")
    def momentum(p, v, dp, lr, mu):
        for i in range(p.size):
            v[i] = mu * v[i] - lr * dp[i]
            p[i] += v[i]

    @njit(error_model="numpy")
    def nesterov(p, v, dp, lr, mu):
        for i in range(p.size):
            old = v[i]
            v[i] = mu * old - lr * dp[i]
            p[i] = p[i] + mu * mu * old - (mu * lr + lr) * dp[i]

    @njit(error_model="numpy")
    def adagrad(p, h, dp, lr):
        eps = p.dtype.type(EPS)
        for i in range(p.size):
            h[i] += dp[i] * dp[i]
            p[i] -= lr * dp[i] / (sqrt(h[i]) + eps)

    @njit(error_model="numpy")
    def rmsprop(p, h, dp, lr, decay_rate):
        eps, rest = p.dtype.type(EPS), p.dtype.type(1) - decay_rate
        for i in range(p.size):
            h[i] = decay_rate * h[i] + rest * dp[i] * dp[i]
            p[i] -= lr * dp[i] / (sqrt(h[i]) + eps)

    @njit(error_model="numpy")
    def adam(p, m, v, dp, lr, beta1, beta2, iter):
        one, eps = p.dtype.type(1), p.dtype.type(EPS)
        rate, rest1, rest2 = lr * sqrt(one - beta2**iter) / (one - beta1**iter), one - beta1, one - beta2
        for i in range(p.size):
            m[i] += rest1 * (dp[i] - m[i])
            v[i] += rest2 * (dp[i] * dp[i] - v[i])
            p[i] -= rate * m[i] / (sqrt(v[i]) + eps)

    return locals()


PEERS = {"NumPy layers": numpy_step, "PyTorch": torch_step, "Numba": numba_step}


def calls(op, dtype, shape, peers):
    """Each contender on arrays of its own."""
    args = OPS[op].example(np.random.default_rng(shape), shape, dtype)
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    numbers = args[len(arrays) :]

    def fresh():
        *state, dp = (a.copy() for a in arrays)
        return state, dp

    state, dp = fresh()
    function, out = getattr(ops, op), state[0] if len(state) == 1 else tuple(state)
    made = {"fastnn": lambda: (function(*state, dp, *numbers, out=out), state[0])[1]}
    for name, make in PEERS.items():
        if name in peers:
            made[name] = make(op, *fresh(), numbers)
    return made
