"""Functions with caches, and optimizers as functions with a dict of their own, as courses write them."""

import numpy as np


def affine_forward(x, w, b):
    out = None
    N = x.shape[0]
    out = x.reshape(N, -1).dot(w) + b
    cache = (x, w, b)
    return out, cache


def affine_backward(dout, cache):
    x, w, b = cache
    N = x.shape[0]
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(N, -1).T.dot(dout)
    db = np.sum(dout, axis=0)
    return dx, dw, db


def relu_forward(x):
    out = np.maximum(0, x)
    cache = x
    return out, cache


def relu_backward_by_product(dout, cache):
    x = cache
    dx = dout * (x > 0)
    return dx


def relu_backward(dout, cache):
    dx, x = None, cache
    dx = np.array(dout, copy=True)
    dx[x <= 0] = 0
    return dx


def affine_relu_forward(x, w, b):
    a, fc_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(a)
    cache = (fc_cache, relu_cache)
    return out, cache


def softmax_loss(x, y):
    shifted_logits = x - np.max(x, axis=1, keepdims=True)
    Z = np.sum(np.exp(shifted_logits), axis=1, keepdims=True)
    log_probs = shifted_logits - np.log(Z)
    probs = np.exp(log_probs)
    N = x.shape[0]
    loss = -np.sum(log_probs[np.arange(N), y]) / N
    dx = probs.copy()
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx


def sgd(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-2)
    w -= config["learning_rate"] * dw
    return w, config


def sgd_momentum(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("momentum", 0.9)
    v = config.get("velocity", np.zeros_like(w))
    v = config["momentum"] * v - config["learning_rate"] * dw
    next_w = w + v
    config["velocity"] = v
    return next_w, config


def rmsprop(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-2)
    config.setdefault("decay_rate", 0.99)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("cache", np.zeros_like(w))
    cache = config["decay_rate"] * config["cache"] + (1 - config["decay_rate"]) * dw**2
    next_w = w - config["learning_rate"] * dw / (np.sqrt(cache) + config["epsilon"])
    config["cache"] = cache
    return next_w, config


def adam(w, dw, config=None):
    if config is None:
        config = {}
    config.setdefault("learning_rate", 1e-3)
    config.setdefault("beta1", 0.9)
    config.setdefault("beta2", 0.999)
    config.setdefault("epsilon", 1e-8)
    config.setdefault("m", np.zeros_like(w))
    config.setdefault("v", np.zeros_like(w))
    config.setdefault("t", 0)
    t = config["t"] + 1
    m = config["beta1"] * config["m"] + (1 - config["beta1"]) * dw
    mt = m / (1 - config["beta1"] ** t)
    v = config["beta2"] * config["v"] + (1 - config["beta2"]) * (dw**2)
    vt = v / (1 - config["beta2"] ** t)
    next_w = w - config["learning_rate"] * mt / (np.sqrt(vt) + config["epsilon"])
    config["t"], config["m"], config["v"] = t, m, v
    return next_w, config


def main():
    rng = np.random.RandomState(0)
    x, y = rng.randn(200, 64), rng.randint(0, 4, 200)
    for update in (sgd, sgd_momentum, rmsprop, adam):
        params = [0.1 * rng.randn(64, 100), np.zeros(100), 0.1 * rng.randn(100, 4), np.zeros(4)]
        configs = [{} for _ in params]
        for step in range(60):
            W1, b1, W2, b2 = params
            h, (fc_cache, relu_cache) = affine_relu_forward(x, W1, b1)
            scores, cache = affine_forward(h, W2, b2)
            loss, dscores = softmax_loss(scores, y)
            dh, dW2, db2 = affine_backward(dscores, cache)
            da = relu_backward(dh, relu_cache) if step % 2 else relu_backward_by_product(dh, relu_cache)
            _, dW1, db1 = affine_backward(da, fc_cache)
            for i, dp in enumerate((dW1, db1, dW2, db2)):
                params[i], configs[i] = update(params[i], dp, configs[i])
            if step % 20 == 19:
                print(f"{update.__name__} {loss:.6f}")


if __name__ == "__main__":
    main()
