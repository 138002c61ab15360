"""Networks, their gradients, and training on every backend."""

import numpy as np
import pytest

import fastnn
from fastnn import MLP, SGD, Affine, Relu, Sequential, Trainer, data
from fastnn.optable import LOSS_CURVE, LOSS_CURVE_STEPS


@pytest.mark.usefixtures("backend")
def test_analytic_and_numerical_gradients_agree(rng):
    # eps = 0: the books' gradient leaves the eps of their loss out
    network = Sequential(MLP([6, 5, 4], seed=1).layers, fastnn.SoftmaxWithLoss(eps=0))
    x, t = rng.standard_normal((7, 6)), rng.integers(0, 4, 7)
    numerical = network.numerical_gradient(x, t, h=1e-5)
    for analytic, g in zip(network.gradient(x, t), numerical, strict=True):
        assert np.max(np.abs(analytic - g)) < 1e-7 * np.max(np.abs(g))


def test_shapes_and_identity():
    network = MLP([784, 50, 10], seed=0, dtype=np.float32)
    assert [p.shape for p in network.params] == [(784, 50), (50,), (50, 10), (10,)]
    assert sum(p.size for p in network.params) == 39760
    assert {p.dtype for p in network.params} == {np.dtype(np.float32)}
    assert network.params[0] is network.layers[0].W
    assert all(a is b for a, b in zip(network.grads, network.grads, strict=True))
    assert network.predict(np.zeros((3, 784), np.float32)).shape == (3, 10)


@pytest.mark.parametrize("sizes", [[], [3], [3, 0], [-1, 2]])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match="sizes must be"):
        MLP(sizes)


def test_accuracy_takes_labels_and_one_hot():
    network = Sequential([Affine(np.eye(3), np.zeros(3))])
    x, t = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 2, 0])
    assert network.accuracy(x, t) == network.accuracy(x, t[:, np.newaxis]) == network.accuracy(x, np.eye(3)[t]) == 0.75


def test_numerical_gradient_leaves_x_as_it_was():
    x = np.array([1.0, -2.0, 3.0])
    np.testing.assert_allclose(fastnn.numerical_gradient(lambda x: np.sum(x**2), x), 2 * x, rtol=1e-9)

    def fails(x):
        raise KeyError

    before = x.copy()
    with pytest.raises(KeyError):
        fastnn.numerical_gradient(fails, x)
    np.testing.assert_array_equal(x, before)
    with pytest.raises(TypeError, match="x must be an ndarray of floats, not int64"):
        fastnn.numerical_gradient(lambda x: 0, np.arange(3))


def test_sgd_speaks_both_dialects():
    W, b = np.ones((2, 2)), np.ones(2)
    grads = [np.full((2, 2), 2.0), np.full(2, 3.0)]
    SGD(0.5).update([W, b], grads)
    np.testing.assert_array_equal(W, np.zeros((2, 2)))
    np.testing.assert_array_equal(b, [-0.5, -0.5])
    SGD(0.5).update({"W1": W, "b1": b}, {"b1": grads[1], "W1": grads[0]})
    np.testing.assert_array_equal(W, -np.ones((2, 2)))
    with pytest.raises(ValueError, match="params has 2 arrays, but grads .* have 1"):
        SGD().update([W, b], grads[:1])
    with pytest.raises(ValueError, match="keys"):
        SGD().update({"W1": W}, {"W2": W})
    assert SGD().lr == 0.01


def loss_curve(backend, dtype, steps):
    digits = data.digits()
    with fastnn.use_backend(backend):
        trainer = Trainer(MLP([64, 50, 10], seed=0, dtype=dtype), SGD(0.5), seed=0)
        trainer.fit(digits.x_train.astype(dtype), digits.t_train, batch_size=50, epochs=1 + steps // 29)
        return np.array(trainer.losses[:steps])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_follows_the_reference(kernels, dtype):
    expected = loss_curve("reference", dtype, LOSS_CURVE_STEPS)
    losses = loss_curve(kernels.compiled_for, dtype, LOSS_CURVE_STEPS)
    assert expected[-1] < 0.2 < 1.5 < expected[0]
    assert np.max(np.abs(losses - expected) / expected) <= LOSS_CURVE[dtype]


class NumpyRelu:
    """As a reader of the books writes it."""

    def forward(self, x):
        self.mask = x <= 0
        y = x.copy()
        y[self.mask] = 0
        return y

    def backward(self, dout):
        dout[self.mask] = 0
        return dout


class NumpyAffine:
    def __init__(self, W, b):
        self.W, self.b = W, b

    def forward(self, x):
        self.x = x
        return np.dot(x, self.W) + self.b

    def backward(self, dout):
        self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)
        return np.dot(dout, self.W.T)


class NumpySoftmaxWithLoss:
    def forward(self, x, t):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        self.y, self.t = e / e.sum(axis=-1, keepdims=True), t
        return -np.sum(np.log(self.y[np.arange(len(t)), t] + 1e-7)) / len(t)

    def backward(self):
        dx = self.y.copy()
        dx[np.arange(len(self.t)), self.t] -= 1
        return dx / len(self.t)


def by_hand(affine, relu, loss, x, t, orders):
    rng = np.random.default_rng(0)
    first = affine(rng.standard_normal((64, 50)) * 0.18, np.zeros(50))
    second = affine(rng.standard_normal((50, 10)) * 0.2, np.zeros(10))
    activation, last = relu(), loss()
    losses = []
    for batch in orders:
        losses.append(last.forward(second.forward(activation.forward(first.forward(x[batch]))), t[batch]))
        first.backward(activation.backward(second.backward(last.backward())))
        for layer in (first, second):
            layer.W -= 0.5 * layer.dW
            layer.b -= 0.5 * layer.db
    return np.array(losses)


def test_training_follows_hand_written_layers(backend):
    digits = data.digits()
    orders = np.random.default_rng(1).integers(0, len(digits.x_train), (1000, 50))
    arguments = digits.x_train, digits.t_train, orders
    expected = by_hand(NumpyAffine, NumpyRelu, NumpySoftmaxWithLoss, *arguments)
    losses = by_hand(Affine, Relu, fastnn.SoftmaxWithLoss, *arguments)
    assert np.max(np.abs(losses - expected) / expected) < 1e-9
