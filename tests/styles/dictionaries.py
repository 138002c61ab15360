"""Dicts of parameters and samples in columns, as courses write them."""

import numpy as np


def sigmoid(Z):
    A = 1 / (1 + np.exp(-Z))
    cache = Z
    return A, cache


def relu(Z):
    A = np.maximum(0, Z)
    assert A.shape == Z.shape
    cache = Z
    return A, cache


def relu_backward(dA, cache):
    Z = cache
    dZ = np.array(dA, copy=True)
    dZ[Z <= 0] = 0
    assert dZ.shape == Z.shape
    return dZ


def sigmoid_backward(dA, cache):
    Z = cache
    s = 1 / (1 + np.exp(-Z))
    dZ = dA * s * (1 - s)
    assert dZ.shape == Z.shape
    return dZ


def linear_forward(A, W, b):
    Z = W.dot(A) + b
    cache = (A, W, b)
    return Z, cache


def linear_activation_forward(A_prev, W, b, activation):
    if activation == "sigmoid":
        Z, linear_cache = linear_forward(A_prev, W, b)
        A, activation_cache = sigmoid(Z)
    elif activation == "relu":
        Z, linear_cache = linear_forward(A_prev, W, b)
        A, activation_cache = relu(Z)
    cache = (linear_cache, activation_cache)
    return A, cache


def compute_cost(AL, Y):
    m = Y.shape[1]
    cost = (1.0 / m) * (-np.dot(Y, np.log(AL).T) - np.dot(1 - Y, np.log(1 - AL).T))
    cost = np.squeeze(cost)
    return cost


def linear_backward(dZ, cache):
    A_prev, W, b = cache
    m = A_prev.shape[1]
    dW = 1.0 / m * np.dot(dZ, A_prev.T)
    db = 1.0 / m * np.sum(dZ, axis=1, keepdims=True)
    dA_prev = np.dot(W.T, dZ)
    return dA_prev, dW, db


def linear_activation_backward(dA, cache, activation):
    linear_cache, activation_cache = cache
    if activation == "relu":
        dZ = relu_backward(dA, activation_cache)
        dA_prev, dW, db = linear_backward(dZ, linear_cache)
    elif activation == "sigmoid":
        dZ = sigmoid_backward(dA, activation_cache)
        dA_prev, dW, db = linear_backward(dZ, linear_cache)
    return dA_prev, dW, db


def update_parameters(parameters, grads, learning_rate):
    L = len(parameters) // 2
    for k in range(L):
        parameters["W" + str(k + 1)] = parameters["W" + str(k + 1)] - learning_rate * grads["dW" + str(k + 1)]
        parameters["b" + str(k + 1)] = parameters["b" + str(k + 1)] - learning_rate * grads["db" + str(k + 1)]
    return parameters


def update_parameters_with_adam(parameters, grads, v, s, t, learning_rate=0.01, beta1=0.9, beta2=0.999, epsilon=1e-8):
    L = len(parameters) // 2
    v_corrected = {}
    s_corrected = {}
    for k in range(L):
        v["dW" + str(k + 1)] = beta1 * v["dW" + str(k + 1)] + (1 - beta1) * grads["dW" + str(k + 1)]
        v["db" + str(k + 1)] = beta1 * v["db" + str(k + 1)] + (1 - beta1) * grads["db" + str(k + 1)]
        v_corrected["dW" + str(k + 1)] = v["dW" + str(k + 1)] / (1 - np.power(beta1, t))
        v_corrected["db" + str(k + 1)] = v["db" + str(k + 1)] / (1 - np.power(beta1, t))
        s["dW" + str(k + 1)] = beta2 * s["dW" + str(k + 1)] + (1 - beta2) * np.power(grads["dW" + str(k + 1)], 2)
        s["db" + str(k + 1)] = beta2 * s["db" + str(k + 1)] + (1 - beta2) * np.power(grads["db" + str(k + 1)], 2)
        s_corrected["dW" + str(k + 1)] = s["dW" + str(k + 1)] / (1 - np.power(beta2, t))
        s_corrected["db" + str(k + 1)] = s["db" + str(k + 1)] / (1 - np.power(beta2, t))
        parameters["W" + str(k + 1)] = parameters["W" + str(k + 1)] - learning_rate * v_corrected["dW" + str(k + 1)] / (
            np.sqrt(s_corrected["dW" + str(k + 1)]) + epsilon
        )
        parameters["b" + str(k + 1)] = parameters["b" + str(k + 1)] - learning_rate * v_corrected["db" + str(k + 1)] / (
            np.sqrt(s_corrected["db" + str(k + 1)]) + epsilon
        )
    return parameters, v, s


def main():
    rng = np.random.RandomState(1)
    X = rng.randn(64, 400)
    Y = (X[:1] * X[1:2] > 0) * 1
    P = {"W1": 0.2 * rng.randn(50, 64), "b1": np.zeros((50, 1)), "W2": 0.2 * rng.randn(1, 50), "b2": np.zeros((1, 1))}
    v, s = ({"d" + key: np.zeros_like(p) for key, p in P.items()} for _ in range(2))
    for step in range(120):
        A1, cache1 = linear_activation_forward(X, P["W1"], P["b1"], "relu")
        A2, cache2 = linear_activation_forward(A1, P["W2"], P["b2"], "sigmoid")
        if step % 20 == 19:
            print(f"cost {float(compute_cost(A2, Y)):.6f}")
        dA2 = -(np.divide(Y, A2) - np.divide(1 - Y, 1 - A2))
        dA1, dW2, db2 = linear_activation_backward(dA2, cache2, "sigmoid")
        _, dW1, db1 = linear_activation_backward(dA1, cache1, "relu")
        grads = {"dW1": dW1, "db1": db1, "dW2": dW2, "db2": db2}
        if step < 60:
            P = update_parameters(P, grads, 0.1)
        else:
            P, v, s = update_parameters_with_adam(P, grads, v, s, step - 59)


if __name__ == "__main__":
    main()
