"""Classes with names of their own, results kept in attributes, and an optimizer that is given the layers."""

import numpy as np


class Activation_ReLU:
    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.maximum(0, inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues.copy()
        self.dinputs[self.inputs <= 0] = 0


class Activation_Softmax:
    def forward(self, inputs):
        self.inputs = inputs
        exp_values = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        probabilities = exp_values / np.sum(exp_values, axis=1, keepdims=True)
        self.output = probabilities


class Layer_Dense:
    def __init__(self, n_inputs, n_neurons, rng):
        self.weights = 0.01 * rng.randn(n_inputs, n_neurons)
        self.biases = np.zeros((1, n_neurons))

    def forward(self, inputs):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)


class Loss_CategoricalCrossentropy:
    def forward(self, y_pred, y_true):
        samples = len(y_pred)
        y_pred_clipped = np.clip(y_pred, 1e-7, 1 - 1e-7)
        if len(y_true.shape) == 1:
            correct_confidences = y_pred_clipped[range(samples), y_true]
        elif len(y_true.shape) == 2:
            correct_confidences = np.sum(y_pred_clipped * y_true, axis=1)
        return -np.log(correct_confidences)


class Activation_Softmax_Loss_CategoricalCrossentropy:
    def backward(self, dvalues, y_true):
        samples = len(dvalues)
        if len(y_true.shape) == 2:
            y_true = np.argmax(y_true, axis=1)
        self.dinputs = dvalues.copy()
        self.dinputs[range(samples), y_true] -= 1
        self.dinputs = self.dinputs / samples


class Optimizer_SGD:
    def __init__(self, learning_rate=1.0, momentum=0.0):
        self.learning_rate = learning_rate
        self.current_learning_rate = learning_rate
        self.momentum = momentum
        self.iterations = 0

    def update_params(self, layer):
        layer.weights += -self.current_learning_rate * layer.dweights
        layer.biases += -self.current_learning_rate * layer.dbiases


class Linear:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, grad):
        self.grad_W = self.x.T @ grad
        self.grad_b = grad.sum(axis=0)
        return grad @ self.W.T


class Sigmoid:
    def __call__(self, x):
        return self.forward(x)

    def forward(self, x):
        self.y = 1 / (1 + np.exp(-x))
        return self.y

    def backward(self, grad):
        return grad * self.y * (1 - self.y)


def main():
    rng = np.random.RandomState(0)
    X, y = rng.randn(300, 20), rng.randint(0, 3, 300)
    dense1, relu, dense2 = Layer_Dense(20, 64, rng), Activation_ReLU(), Layer_Dense(64, 3, rng)
    softmax, loss = Activation_Softmax(), Loss_CategoricalCrossentropy()
    both, optimizer = Activation_Softmax_Loss_CategoricalCrossentropy(), Optimizer_SGD()
    for step in range(100):
        dense1.forward(X)
        relu.forward(dense1.output)
        dense2.forward(relu.output)
        softmax.forward(dense2.output)
        if step % 20 == 19:
            print(f"loss {np.mean(loss.forward(softmax.output, y)):.6f}")
        both.backward(softmax.output, y)
        dense2.backward(both.dinputs)
        relu.backward(dense2.dinputs)
        dense1.backward(relu.dinputs)
        optimizer.update_params(dense1)
        optimizer.update_params(dense2)
    linear, sigmoid = Linear(0.1 * rng.randn(20, 5), np.zeros(5)), Sigmoid()
    for step in range(100):
        out = sigmoid(linear.forward(X))
        linear.backward(sigmoid.backward(out - 0.5))
        linear.W -= 0.01 * linear.grad_W
        linear.b -= 0.01 * linear.grad_b
        if step % 20 == 19:
            print(f"mean {out.mean():.6f}")


if __name__ == "__main__":
    main()
