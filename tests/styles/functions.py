"""A network without classes: activations and their derivatives as plain functions, held in dicts."""

import numpy as np


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def sigmoid_prime(z):
    return sigmoid(z) * (1 - sigmoid(z))


def relu(z):
    return np.maximum(z, 0)


def relu_prime(z):
    return (z > 0).astype(float)


def tanh(z):
    return np.tanh(z)


def d_tanh(z):
    return 1 - np.tanh(z) ** 2


def softmax(z):
    e = np.exp(z - np.max(z, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


def cross_entropy(p, t):
    return -np.mean(np.log(p[np.arange(len(t)), t] + 1e-12))


def mse(y, t):
    return np.mean((y - t) ** 2)


ACTIVATIONS = {"sigmoid": (sigmoid, sigmoid_prime), "relu": (relu, relu_prime), "tanh": (tanh, d_tanh)}


def main():
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((400, 30)), rng.integers(0, 5, 400)
    for name, (activation, derivative) in ACTIVATIONS.items():
        W1, b1 = 0.3 * rng.standard_normal((30, 80)), np.zeros(80)
        W2, b2 = 0.3 * rng.standard_normal((80, 5)), np.zeros(5)
        for step in range(60):
            z = x @ W1 + b1
            h = activation(z)
            p = softmax(h @ W2 + b2)
            if step % 20 == 19:
                print(f"{name} {cross_entropy(p, t):.6f} {mse(p, np.eye(5)[t]):.6f}")
            d = p.copy()
            d[np.arange(len(t)), t] -= 1
            d /= len(t)
            dz = d @ W2.T * derivative(z)
            W2 -= 0.5 * (h.T @ d)
            b2 -= 0.5 * d.sum(axis=0)
            W1 -= 0.5 * (x.T @ dz)
            b1 -= 0.5 * dz.sum(axis=0)


if __name__ == "__main__":
    main()
