"""Networks, their gradients, and training on every backend."""

import gc
import os
import re
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from layer_cases import LAYERS, exact, made, name_of

import fastnn
from bench import numpy_layers
from fastnn import (
    MLP,
    SGD,
    Affine,
    CrossEntropyError,
    IdentityWithLoss,
    Relu,
    Sequential,
    Sigmoid,
    Softmax,
    SoftmaxWithLoss,
    Trainer,
    data,
    layers,
    networks,
)
from fastnn.layers import Layer
from fastnn.optable import LOSS_CURVE, LOSS_CURVE_STEPS
from fastnn.reference import perceptron


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


def test_a_class_in_place_of_a_layer():
    affine = Affine(np.ones((2, 2)), np.zeros(2))
    for chain, loss in (([affine, Relu], None), ([affine], SoftmaxWithLoss)):
        with pytest.raises(
            TypeError, match=r"^(Relu|SoftmaxWithLoss) is a class of layers, not a layer: \1\(\.\.\.\)$"
        ):
            Sequential(chain, loss)
    with pytest.raises(TypeError, match="^SoftmaxWithLoss is a class of layers"):
        MLP([2, 2], loss=SoftmaxWithLoss)


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


@pytest.mark.demo
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_training_follows_the_reference(kernels, dtype):
    expected = loss_curve("reference", dtype, LOSS_CURVE_STEPS)
    losses = loss_curve(kernels.compiled_for, dtype, LOSS_CURVE_STEPS)
    assert expected[-1] < 0.2 < 1.5 < expected[0]
    assert np.max(np.abs(losses - expected) / expected) <= LOSS_CURVE[dtype]


def by_hand(module, x, t, orders):
    rng = np.random.default_rng(0)
    first = module.Affine(rng.standard_normal((64, 50)) * 0.18, np.zeros(50))
    second = module.Affine(rng.standard_normal((50, 10)) * 0.2, np.zeros(10))
    activation, last = module.Relu(), module.SoftmaxWithLoss()
    losses = []
    for batch in orders:
        losses.append(last.forward(second.forward(activation.forward(first.forward(x[batch]))), t[batch]))
        first.backward(activation.backward(second.backward(last.backward())))
        for layer in (first, second):
            layer.W -= 0.5 * layer.dW
            layer.b -= 0.5 * layer.db
    return np.array(losses)


@pytest.mark.demo
def test_training_follows_hand_written_layers(backend):
    digits = data.digits()
    orders = np.random.default_rng(1).integers(0, len(digits.x_train), (1000, 50))
    arguments = digits.x_train, digits.t_train, orders
    expected, losses = by_hand(numpy_layers, *arguments), by_hand(layers, *arguments)
    assert np.max(np.abs(losses - expected) / expected) < 1e-9


# ---------------------------------------------------------------- the gradients in one call


def walked(network, x, t):
    """The loss and the gradients, layer by layer."""
    y = x
    for layer in network.layers:
        y = layer.forward(y)
    loss = network.loss_layer.forward(y, t)
    dout = network.loss_layer.backward()
    for layer in reversed(network.layers):
        dout = layer.backward(dout)
    return loss, [g.copy() for layer in network.layers for g in layer.grads]


def copied(network):
    """The same network with arrays of its own."""
    layers = [
        Affine(layer.W.copy("K"), layer.b.copy()) if type(layer) is Affine else type(layer)()
        for layer in network.layers
    ]
    return Sequential(layers, type(network.loss_layer)())


def at_once(network):
    """Whether the last gradients were computed in one call, in which the layers see nothing."""
    return network.layers[0].x is None


def assert_as_walked(network, x, t, *, fused=True):
    expected, gradients = walked(copied(network), x, t)
    for _ in range(2):
        loss, grads = network.loss_and_gradient(x, t)
        tolerance = 1e-12 if network.params[0].dtype == np.float64 else 2e-5
        assert type(loss) is type(expected) and loss == pytest.approx(expected, rel=tolerance)
        assert at_once(network) == fused
        for g, buffer, value in zip(grads, network.grads, gradients, strict=True):
            assert g is buffer and g.dtype == value.dtype
            np.testing.assert_allclose(g, value, rtol=0, atol=tolerance * max(1, np.max(np.abs(value))))
        for layer in network.layers[::2]:
            np.testing.assert_array_equal(layer.dW, layer.grads[0])
            np.testing.assert_array_equal(layer.db, layer.grads[1])
            assert layer.dW is not layer.grads[0]


def targets_for(loss, rng, N, C, dtype):
    labels = rng.integers(0, C, N)
    return {
        "softmax": [labels, labels.astype(np.uint8), np.eye(C, dtype=dtype)[labels]],
        "sigmoid": [(rng.random((N, C)) < 0.5).astype(dtype)],
        "identity": [rng.standard_normal((N, C)).astype(dtype)],
    }[loss]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("loss", perceptron.LOSSES)
@pytest.mark.parametrize("activation", perceptron.ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(4, 3), (4, 6, 3), (30, 20, 10, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_at_once_are_those_of_the_layers(rng, loss, activation, sizes, dtype):
    network = MLP(sizes, activation=activation, loss=loss, seed=1, dtype=dtype)
    x = rng.standard_normal((7, sizes[0])).astype(dtype)
    for t in targets_for(loss, rng, 7, 3, dtype):
        assert_as_walked(network, x, t)
    assert_as_walked(network, x[0], t[0])
    assert_as_walked(network, np.asfortranarray(x), t)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_other_targets_and_samples(rng, dtype):
    network, x = MLP([4, 5, 3], seed=1, dtype=dtype), rng.standard_normal((6, 4)).astype(dtype)
    labels = rng.integers(0, 3, 6)
    one_hot, other = np.eye(3)[labels], np.float64 if dtype is np.float32 else np.float32
    wide = dtype is np.float64  # what is narrower is widened
    for t in (labels.tolist(), one_hot.tolist(), one_hot > 0):
        assert_as_walked(copied(network), x, t, fused=False)
    for t in (one_hot.astype(int), one_hot.astype(np.uint8), one_hot.astype(other), labels[:, np.newaxis]):
        assert_as_walked(copied(network), x, t, fused=wide)
        assert_as_walked(copied(network), x.astype(other), t, fused=wide)
    assert_as_walked(copied(network), x.tolist(), labels, fused=False)
    assert_as_walked(copied(network), x.astype(other), labels, fused=wide)
    assert_as_walked(copied(network), (8 * x).astype(int), labels, fused=False)
    assert_as_walked(copied(network), x.astype(x.dtype.newbyteorder()), labels, fused=False)
    assert_as_walked(copied(network), x[0], int(labels[0]), fused=False)
    assert_as_walked(copied(network), x[0], labels[0])
    assert_as_walked(copied(network), x.reshape(6, 2, 2), labels)
    assert_as_walked(copied(network), x.reshape(2, 3, 4), labels.reshape(2, 3))
    binary = MLP([4, 5, 1], loss="sigmoid", seed=1, dtype=dtype)
    for t in (labels > 0, (labels > 0).tolist()):
        assert_as_walked(copied(binary), x, t, fused=False)
    for t in ((labels > 0).astype(int)[:, np.newaxis], (labels > 0).astype(other)):
        assert_as_walked(copied(binary), x, t, fused=wide)
    assert_as_walked(copied(binary), x, (labels > 0).astype(int))
    assert_as_walked(copied(MLP([4, 5, 1], loss="identity", seed=1, dtype=dtype)), x, labels, fused=wide)


class Tensor:
    """An array of another library."""

    dtype = "int64"

    def __init__(self, array):
        self.array, self.ndim = array, array.ndim

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_labels_of_another_library(rng):
    assert_as_walked(MLP([4, 3], seed=0), rng.standard_normal((2, 4)), Tensor(np.array([0, 2])), fused=False)


def test_a_replaced_weight(rng):
    network, x, t = MLP([4, 5, 3], seed=1), rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    assert_as_walked(network, x, t)
    network.layers[0].W = rng.standard_normal((4, 5))
    network.layers[2].params[1] = rng.standard_normal(3)
    assert_as_walked(network, x, t)
    network.layers[0].W += 1  # in place
    assert_as_walked(network, x, t)
    network.layers[0].W = np.asfortranarray(rng.standard_normal((4, 5)))
    expected, gradients = walked(copied(network), x, t)
    loss, grads = network.loss_and_gradient(x, t)
    assert loss == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(grads[0], gradients[0], rtol=1e-10, atol=1e-14)
    network.layers[0].W, network.layers[0].b = np.ones((4, 7)), np.ones(7)
    network.layers[2].W = np.ones((7, 3))
    with pytest.raises(ValueError, match=r"shape \(4, 7\).* \(4, 5\)|shape \(4, 5\).* \(4, 7\)"):
        network.gradient(x, t)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "kind", ["fortran", "strided", "swapped", "integers", "list", "bias row", "mixed", "read-only"]
)
def test_weights_of_any_kind(rng, kind):
    W, b = rng.standard_normal((4, 3)), rng.standard_normal(3)
    W, b = {
        "fortran": (np.asfortranarray(W), b),
        "strided": (np.repeat(W, 2, axis=1)[:, ::2], b),
        "swapped": (W.astype(">f8"), b),
        "integers": (np.array([[1, 0, 2], [0, 1, 0], [3, 0, 1], [1, 1, 1]]), b),
        "list": (W.tolist(), b.tolist()),
        "bias row": (W, b[np.newaxis]),
        "mixed": (W.astype(np.float32), b),
        "read-only": (np.broadcast_to(W[0, 0], (4, 3)), b),
    }[kind]
    network, x, t = Sequential([Affine(W, b)]), rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    plain = Sequential([Affine(np.array(W, float), np.array(b, float).reshape(-1))])
    expected, gradients = walked(plain, x, t)
    loss, grads = network.loss_and_gradient(x, t)
    assert loss == pytest.approx(expected, rel=1e-6)
    if kind != "integers":
        np.testing.assert_allclose(grads[0], gradients[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(grads[1].reshape(-1), gradients[1], rtol=1e-5, atol=1e-6)


def test_tied_weights(rng):
    W, x, t = rng.standard_normal((4, 3)), rng.standard_normal((5, 4)), rng.standard_normal((5, 4))
    tied = Sequential([Affine(W, np.zeros(3)), Sigmoid(), Affine(W.T, np.zeros(4))], IdentityWithLoss())
    assert_as_walked(tied, x, t, fused=False)
    square = rng.standard_normal((4, 4))
    shared = Sequential([Affine(square, np.zeros(4)), Relu(), Affine(square, np.zeros(4))], IdentityWithLoss())
    assert_as_walked(shared, x, t)
    for network, back in ((tied, np.transpose), (shared, np.array)):
        W = network.layers[0].W
        grads = network.gradient(x, t)
        whole = fastnn.numerical_gradient(lambda _, network=network: network.loss(x, t), W, h=1e-6)
        np.testing.assert_allclose(grads[0] + back(grads[2]), whole, rtol=1e-6, atol=1e-9)


def test_one_layer_in_two_places(rng):
    layer, x, t = Affine(rng.standard_normal((4, 4)), np.zeros(4)), rng.standard_normal((5, 4)), np.zeros((5, 4))
    network = Sequential([layer, Relu(), layer], IdentityWithLoss())
    expected, gradients = walked(network, x, t)
    loss, grads = network.loss_and_gradient(x, t)
    assert loss == expected and len(grads) == 4
    np.testing.assert_array_equal(grads[0], gradients[0])


def test_a_refused_gradient_changes_nothing(rng):
    network, x, t = MLP([4, 5, 3], seed=1), rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    kept = [g.copy() for g in network.gradient(x, t)]
    for bad_x, bad_t, error in (
        (x, t + 3, IndexError),
        (x, t[:3], ValueError),
        (x[:, :3].copy(), t, ValueError),
        (x, np.zeros(6), TypeError),
        (x[:0], t[:0], ValueError),
    ):
        with pytest.raises(error):
            network.gradient(bad_x, bad_t)
    for g, value in zip(network.grads, kept, strict=True):
        np.testing.assert_array_equal(g, value)
    np.testing.assert_array_equal(network.layers[0].dW, kept[0])


def test_gradients_that_were_set_to_none_are_readable_again(rng):
    network, x, t = MLP([4, 3], seed=1), rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    network.gradient(x, t)
    network.layers[0].dW = None
    network.gradient(x, t)
    np.testing.assert_array_equal(network.layers[0].dW, network.grads[0])


def test_no_gradient_before_the_first_good_one(rng):
    network = MLP([4, 3], seed=1)
    with pytest.raises(IndexError):
        network.gradient(rng.standard_normal((2, 4)), np.array([0, 7]))
    assert network.layers[0].dW is None and network.layers[0].db is None


def test_a_loss_of_probabilities_is_refused():
    for value in (False, 0, np.False_):
        with pytest.raises(ValueError, match="loss takes probabilities"):
            Sequential([Affine(np.eye(2), np.zeros(2))], SoftmaxWithLoss(from_logits=value))


def test_softmax_and_cross_entropy_as_layers(rng):
    x, t = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    combined = MLP([4, 6, 3], seed=2)
    layers = [*copied(combined).layers, Softmax()]
    apart = Sequential(layers, CrossEntropyError())
    assert apart.loss(x, t) == pytest.approx(combined.loss(x, t), rel=1e-14)
    for a, b in zip(apart.gradient(x, t), combined.gradient(x, t), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8)  # the combined gradient leaves the eps out
    with pytest.raises(TypeError, match="CrossEntropyError has no classes, so no accuracy"):
        apart.accuracy(x, t)


# ---------------------------------------------------------------- numerical gradients of a network


class Scaled:
    """A layer of the reader's own."""

    def __init__(self, factor):
        self.params, self.grads = [factor], [np.zeros_like(factor)]

    def forward(self, x):
        self.x = x
        return x * self.params[0]

    def backward(self, dout):
        self.grads[0][...] = np.sum(dout * self.x, axis=0)
        return dout * self.params[0]


class Centred:
    """A layer of the reader's own in which a row depends on the others."""

    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x):
        return x - x.mean(axis=0)


def assert_numerical_gradients(network, x, t, h=1e-4):
    """As element by element; the parameters are the same bits afterwards."""
    before = [p.tobytes() for p in network.params]
    fast = network.numerical_gradient(x, t, h=h)
    assert [p.tobytes() for p in network.params] == before
    assert len(fast) == len(network.params)
    for p, g in zip(network.params, fast, strict=True):
        slow = fastnn.numerical_gradient(lambda _: network.loss(x, t), p, h=h)
        assert g.shape == p.shape and g.dtype == p.dtype
        assert np.max(np.abs(g - slow)) <= 1e-9 * max(np.max(np.abs(slow)), 1e-3)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("loss", networks.LOSSES)
@pytest.mark.parametrize("activation", networks.ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(4, 3), (4, 6, 3), (4, 6, 5, 3)])
def test_numerical_gradients_of_perceptrons(rng, loss, activation, sizes):
    network, x = MLP(sizes, activation=activation, loss=loss, seed=1), rng.standard_normal((5, 4))
    for p in network.params[1::2]:
        p += rng.standard_normal(p.shape)
    for t in targets_for(loss, rng, 5, 3, np.float64):
        assert_numerical_gradients(network, x, t)


def test_numerical_gradients_of_other_networks(rng):
    x, t = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)

    def affine(D, M):
        return Affine(rng.standard_normal((D, M)), rng.standard_normal(M))

    networks = {
        "softmax apart": Sequential([affine(4, 6), Relu(), affine(6, 3), Softmax()], CrossEntropyError()),
        "no activation": Sequential([affine(4, 6), affine(6, 3)]),
        "two activations": Sequential([affine(4, 6), Relu(), Sigmoid(), affine(6, 3)]),
        "an activation last": Sequential([affine(4, 6), Relu(), affine(6, 3), Sigmoid()]),
        "softmax inside": Sequential([affine(4, 6), Softmax(), affine(6, 3)]),
        "an activation first": Sequential([Sigmoid(), affine(4, 3)]),
        "one's own": Sequential([affine(4, 6), Scaled(rng.standard_normal(6)), Relu(), affine(6, 3)]),
        "one's own, last": Sequential([affine(4, 3), Relu(), affine(3, 3), Scaled(np.ones(3))]),
        "rows together": Sequential([affine(4, 6), Relu(), Centred(), affine(6, 3)]),
        "rows together, last": Sequential([affine(4, 6), Relu(), affine(6, 3), Sigmoid(), Centred()]),
        "a bias row": Sequential([Affine(rng.standard_normal((4, 3)), np.ones((1, 3)))]),
        "fortran": Sequential(
            [Affine(np.asfortranarray(rng.standard_normal((4, 3))), np.ones(3)), Relu(), affine(3, 3)]
        ),
    }
    for network in networks.values():
        assert_numerical_gradients(network, x, t)
        assert_numerical_gradients(network, x, np.eye(3)[t])
    square = rng.standard_normal((4, 4))
    shared = Affine(square, np.zeros(4))
    for chain in (
        [Affine(square, np.zeros(4)), Relu(), Affine(square, np.ones(4)), affine(4, 3)],
        [Affine(square, np.zeros(4)), Sigmoid(), Affine(square.T, np.ones(4)), affine(4, 3)],
        [shared, Sigmoid(), shared, affine(4, 3)],
    ):
        assert_numerical_gradients(Sequential(chain), x, t)


def test_numerical_gradients_of_other_samples(rng):
    network, x, t = MLP([4, 5, 3], seed=1), rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    for other, labels in (
        (x[0], t[0]),
        (x.tolist(), t),
        (x.reshape(6, 2, 2), t),
        (x.reshape(2, 3, 4), t.reshape(2, 3)),
        ((4 * x).astype(int), t),
        ((9 + x).astype(np.uint8), t),
        (x.astype(np.float32), t),
        (x[:1], t[:1]),
        (x, t[:, np.newaxis]),
        (x, t.tolist()),
    ):
        assert_numerical_gradients(network, other, labels)


def test_numerical_gradients_in_float32(rng):
    network, x, t = MLP([4, 5, 3], seed=1, dtype=np.float32), rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    for n, a in zip(network.numerical_gradient(x, t, h=1e-2), network.gradient(x, t), strict=True):
        assert n.dtype == np.float32
        np.testing.assert_allclose(n, a, atol=2e-3)


def test_numerical_gradients_of_integers_are_refused(rng):
    for layer in (Affine(np.ones((4, 3), int), np.zeros(3)), Affine(np.ones((4, 3)), np.zeros(3, int))):
        with pytest.raises(TypeError, match="an ndarray of floats, not int64"):
            Sequential([layer]).numerical_gradient(rng.standard_normal((5, 4)), np.zeros(5, int))


def test_a_numerical_gradient_that_fails_leaves_the_parameters(rng):
    for network in (MLP([4, 5, 3], seed=1), Sequential([Scaled(np.ones(4)), Affine(np.ones((4, 3)), np.zeros(3))])):
        before = [p.copy() for p in network.params]
        for x, t, error in (
            (rng.standard_normal((5, 4)), np.full(5, 3), IndexError),
            (rng.standard_normal((5, 3)), np.zeros(5, int), ValueError),
        ):
            with pytest.raises(error):
                network.numerical_gradient(x, t)
        for p, value in zip(network.params, before, strict=True):
            np.testing.assert_array_equal(p, value)


# ---------------------------------------------------------------- check_gradient


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("loss", networks.LOSSES.values(), ids=name_of)
def test_check_gradient(rng, capsys, loss):
    loss, (_, t) = made(loss, rng, (7, 3), **exact(loss))
    network, x = MLP([6, 5, 3], activation="sigmoid", loss=loss, seed=1), rng.standard_normal((7, 6))
    checks = fastnn.check_gradient(network, x, t)
    assert [check.name for check in checks] == ["W1", "b1", "W2", "b2"]
    assert [check.shape for check in checks] == [(6, 5), (5,), (5, 3), (3,)]
    assert all(0 < check.error < 1e-6 for check in checks)
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["parameter", "shape", "relative", "error"] and len(lines) == 6 and not err
    assert re.fullmatch(r"W1 +\(6, 5\) +\d\.\de-\d\d", lines[1])
    assert lines[-1] == f"{2 * (35 + 18)} values of the loss"
    assert fastnn.check_gradient(network, x, t, show=False)[0].error == checks[0].error
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)
def test_check_gradient_of_every_layer(rng, layer_class):
    """Behind another, so that its own gradient reaches a parameter."""
    layer, (x, *t) = made(layer_class, rng, **exact(layer_class))
    before = Scaled(rng.uniform(0.5, 1.5, x.shape[1:]))
    if layer.is_loss:
        network = Sequential([before], layer)
    else:
        network, t = Sequential([before, layer], IdentityWithLoss()), [rng.standard_normal(layer.forward(x).shape)]
    checks = fastnn.check_gradient(network, x, *t, show=False)
    assert len(checks) == 1 + len(layer.parameters)
    assert all(0 < check.error < 1e-6 for check in checks), checks


def test_check_gradient_finds_an_error(rng):
    class Wrong(Relu):
        def backward(self, dout):
            return 1.1 * super().backward(dout)

    layers = MLP([6, 5, 3], seed=1).layers
    network = Sequential([layers[0], Wrong(), layers[2]], SoftmaxWithLoss(eps=0))
    checks = fastnn.check_gradient(network, rng.standard_normal((7, 6)), rng.integers(0, 3, 7), show=False)
    assert checks[0].error > 0.01 and checks[1].error > 0.01
    assert checks[2].error < 1e-6 and checks[3].error < 1e-6


def test_check_gradient_of_a_gradient_of_0():
    network = Sequential([Affine(np.zeros((2, 1)), np.zeros(1))], IdentityWithLoss())
    checks = fastnn.check_gradient(network, np.zeros((3, 2)), np.zeros((3, 1)), show=False)
    assert checks[0].error == 0


# ---------------------------------------------------------------- saved parameters


def test_saved_and_loaded(tmp_path, rng):
    path = tmp_path / "net.npz"
    network, other = MLP([4, 5, 3], seed=1, dtype=np.float32), MLP([4, 5, 3], seed=2, dtype=np.float32)
    network.save(path)
    assert os.listdir(tmp_path) == ["net.npz"]
    with np.load(path) as file:
        assert sorted(file.files) == ["W1", "W2", "architecture.json", "b1", "b2"]
    params = other.params
    other.load(str(path))
    for p, same, saved in zip(other.params, params, network.params, strict=True):
        assert p is same
        np.testing.assert_array_equal(p, saved, strict=True)
    wide = MLP([4, 5, 3])
    wide.load(path)
    np.testing.assert_array_equal(wide.params[0], network.params[0])
    other.params[0][...] = 7
    other.save(path)
    network.load(path)
    assert (network.params[0] == 7).all()


def test_other_layers_and_layouts_are_saved_too(tmp_path, rng):
    def network():
        affine = Affine(np.asfortranarray(rng.standard_normal((4, 3))), np.zeros(3))
        return Sequential([Scaled(rng.standard_normal(4)), affine, Relu(), Scaled(rng.standard_normal(3))])

    one, other = network(), network()
    assert one.names == ["layer0.0", "W1", "b1", "layer3.0"]
    one.save(tmp_path / "a")
    other.load(tmp_path / "a")
    for p, q in zip(one.params, other.params, strict=True):
        np.testing.assert_array_equal(p, q)


def refuses_to_load(network, path, error, match):
    before, arrays = [p.copy() for p in network.params], network.params
    with pytest.raises(error, match=match):
        network.load(path)
    for p, array, value in zip(network.params, arrays, before, strict=True):
        assert p is array
        np.testing.assert_array_equal(p, value, strict=True)


def test_files_that_are_refused(tmp_path):
    path, network = tmp_path / "net.npz", MLP([4, 5, 3], seed=1)
    good = {name: p + 1 for name, p in zip(network.names, network.params, strict=True)}
    for changed, error, match in (
        ({"W2": np.ones((5, 4))}, ValueError, r"W2 has shape \(5, 4\), but the network's has shape \(5, 3\)"),
        ({"b2": np.ones((1, 3))}, ValueError, r"b2 has shape \(1, 3\)"),
        ({"b2": np.array([None, 1, {}], object)}, ValueError, "net.npz cannot be read: b2 holds object"),
        ({"b2": np.ones(3, np.complex128)}, TypeError, "b2 is of dtype complex128"),
        ({"b2": np.ones(3, np.longdouble)}, TypeError, "b2 is of dtype float128|b2 is of dtype longdouble"),
        ({"b2": np.array(["a"] * 3)}, ValueError, "b2 holds <U1, which are no numbers"),
        ({"b2": np.ones(3, [("a", "f8")])}, ValueError, "b2 holds"),
    ):
        np.savez(path, **(good | changed))
        refuses_to_load(network, path, error, match)
    np.savez(path, **{name: p for name, p in good.items() if name != "b2"})
    refuses_to_load(network, path, ValueError, "net.npz cannot be read: it has no array b2")
    np.savez(path, **good)
    content = path.read_bytes()
    for length in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        refuses_to_load(network, path, ValueError, "net.npz cannot be read")
    before = [p.copy() for p in network.params]
    for position in range(0, len(content), 41):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            network.load(path)  # a byte that nothing depends on, such as a date
        except ValueError as error:
            assert "net.npz" in str(error)
        whole = [np.array_equal(p, good[name]) for name, p in zip(network.names, network.params, strict=True)]
        nothing = [np.array_equal(p, value) for p, value in zip(network.params, before, strict=True)]
        assert all(whole) or all(nothing)
        for p, value in zip(network.params, before, strict=True):
            p[...] = value
    with pytest.raises(FileNotFoundError):
        network.load(tmp_path / "no.npz")
    np.savez(path, **good)
    small = MLP([4, 5, 3], dtype=np.float32)
    refuses_to_load(small, path, TypeError, "W1 is of dtype float64, but the network's of dtype float32")


def test_a_parameter_that_cannot_be_written_stops_the_load_before_it_begins(tmp_path):
    MLP([4, 3], seed=1).save(tmp_path / "net.npz")
    network = MLP([4, 3], seed=2)
    network.params[1].flags.writeable = False
    refuses_to_load(network, tmp_path / "net.npz", ValueError, "read-only")


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path, network = tmp_path / "net.npz", MLP([4, 3], seed=1)
    network.save(path)
    content = path.read_bytes()

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            MLP([4, 3], seed=2).save(path)
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["net.npz"]
    with pytest.raises(FileNotFoundError):
        network.save(tmp_path / "no" / "net.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        network.save(tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "net.npz"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows replaces no file that is in use")
def test_saves_of_several_threads_to_one_path(tmp_path):
    path = tmp_path / "net.npz"

    def save(seed):
        network = MLP([100, 50, 10], seed=seed)
        for _ in range(20):
            network.save(path)
            network.load(path)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(save, range(3)))
    assert os.listdir(tmp_path) == ["net.npz"]


# ---------------------------------------------------------------- what layers say of themselves


class Images(Layer):
    def forward(self, x, train_flg=True):
        return x

    def output_shape(self, shape):
        return (3, 4, 4)


class Tripled(Layer):
    """An activation that no op knows."""

    kept, elementwise = ("x",), True

    def forward(self, x, train_flg=True):
        if train_flg and self.training:
            self.x = x
        return 3 * x

    def backward(self, dout):
        return 3 * dout


class MatMul(Layer):
    parameters, kept = ("W",), ("x",)

    def forward(self, x, train_flg=True):
        if train_flg and self.training:
            self.x = x
        return x @ self.W

    def backward(self, dout):
        self.set_gradients(self.x.T @ dout)
        return dout @ self.W.T


class Shift(Layer):
    parameters, elementwise = ("gamma", "beta"), True

    def forward(self, x, train_flg=True):
        if train_flg and self.training:
            self.x = x
        return self.gamma * x + self.beta

    def backward(self, dout):
        self.set_gradients((dout * self.x).sum(axis=0), dout.sum(axis=0))
        return self.gamma * dout


class Bias(Layer):
    parameters, elementwise = ("b",), True

    def forward(self, x, train_flg=True):
        return x + self.b

    def backward(self, dout):
        self.set_gradients(dout.sum(axis=0))
        return dout


def test_what_a_perceptron_offers_and_what_the_op_knows():
    offered = [getattr(layers, name) for name in layers.__all__]
    assert list(networks.ACTIVATIONS.values()) == [layer for layer in offered if layer.elementwise]
    assert networks.ACTIVATIONS["relu"] is Relu and networks.LOSSES["softmax"] is SoftmaxWithLoss
    assert set(networks.LOSSES.values()) == {layer for layer in offered if layer.__name__.endswith("WithLoss")}
    assert set(perceptron.ACTIVATIONS) <= set(networks.ACTIVATIONS) and set(perceptron.LOSSES) <= set(networks.LOSSES)


@pytest.mark.usefixtures("backend")
def test_an_activation_that_the_op_does_not_know(rng, monkeypatch):
    monkeypatch.setitem(networks.ACTIVATIONS, "tripled", Tripled)
    network, x = (
        MLP([4, 6, 5, 3], activation="tripled", loss=SoftmaxWithLoss(eps=0), seed=1),
        rng.standard_normal((5, 4)),
    )
    t = rng.integers(0, 3, 5)
    assert [type(layer) for layer in network.layers[1::2]] == [Tripled, Tripled]
    network.gradient(x, t)
    assert not at_once(network)
    assert_numerical_gradients(network, x, t)
    assert max(check.error for check in fastnn.check_gradient(network, x, t, show=False)) < 1e-6


def test_names_of_layers_of_several_kinds(rng, tmp_path):
    def network(rng):
        square = rng.standard_normal((3, 3))
        return Sequential(
            [
                MatMul(rng.standard_normal((4, 3))),
                Shift(np.ones(3), np.zeros(3)),
                Affine(square, np.zeros(3)),
                Relu(),
                Scaled(np.ones(3)),
                MatMul(square),
                Shift(np.ones(3), np.ones(3)),
                Bias(np.zeros(3)),
                Affine(rng.standard_normal((3, 2)), np.zeros(2)),
            ],
            SoftmaxWithLoss(eps=0),
        )

    one, other = network(rng), network(rng)
    assert one.names == [
        *("W1", "gamma1", "beta1", "W2", "b2", "layer4.0", "W3", "gamma2", "beta2", "b3", "W4", "b4"),
    ]
    one.save(tmp_path / "net.npz")
    other.load(tmp_path / "net.npz")
    x, t = rng.standard_normal((5, 4)), rng.integers(0, 2, 5)
    assert one.loss(x, t) == other.loss(x, t)
    assert max(check.error for check in fastnn.check_gradient(one, x, t, show=False)) < 1e-6
    assert_numerical_gradients(one, x, t)


def test_a_layer_with_more_arrays_than_names_is_numbered():
    layer = Affine(np.eye(2), np.zeros(2))
    layer.params.append(np.ones(1))
    assert Sequential([layer]).names == ["layer0.0", "layer0.1", "layer0.2"]


def test_numerical_gradients_of_other_layers_with_parameters(rng):
    x, t = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)

    def affine(D, M):
        return Affine(rng.standard_normal((D, M)), rng.standard_normal(M))

    for chain in (
        [Shift(rng.standard_normal(4), np.zeros(4)), affine(4, 6), Relu(), affine(6, 3)],
        [affine(4, 6), Shift(rng.standard_normal(6), np.ones(6)), affine(6, 3), Bias(np.ones(3))],
        [affine(4, 6), Relu(), MatMul(rng.standard_normal((6, 3)))],
    ):
        assert_numerical_gradients(Sequential(chain), x, t)


def test_a_subclass_that_takes_rows_together_has_the_general_gradient(rng):
    class RowsTogether(Relu):
        def forward(self, x, train_flg=True):
            return super().forward(x - x.mean(axis=0), train_flg)

    class OtherAffine(Affine):
        def forward(self, x, train_flg=True):
            return super().forward(x - x.mean(axis=0), train_flg)

    x, t = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    for between, last in ((RowsTogether(), Affine), (Relu(), OtherAffine)):
        layers = [
            Affine(rng.standard_normal((4, 6)), np.zeros(6)),
            between,
            last(rng.standard_normal((6, 3)), np.zeros(3)),
        ]
        assert_numerical_gradients(Sequential(layers), x, t)


# ---------------------------------------------------------------- training and evaluation


class Noisy(Layer):
    """What it gives depends on the mode."""

    mode_matters, kept = True, ("factor",)

    def forward(self, x, train_flg=True):
        if not (train_flg and self.training):
            return x
        self.factor = 2.0
        return self.factor * x

    def backward(self, dout):
        return self.factor * dout


class TheirsWithAnAttribute:
    """As volume 2 has it."""

    def __init__(self):
        self.params, self.grads, self.train_flg, self.calls = [], [], True, 0

    def forward(self, x):
        self.calls += 1
        return 2 * x if self.train_flg else x

    def backward(self, dout):
        return 2 * dout


class TheirsWithAnArgument:
    """As volume 1 has it."""

    def __init__(self):
        self.params, self.grads = [], []

    def forward(self, x, train_flg=True):
        return 2 * x if train_flg else x

    def backward(self, dout):
        return 2 * dout


class ToldNothing(Noisy):
    """A subclass that has forgotten the argument."""

    def forward(self, x):
        return super().forward(x)


def in_two_modes(rng, layer_class):
    affine = Affine(rng.standard_normal((4, 3)), np.zeros(3))
    return (
        Sequential([affine, layer_class()], SoftmaxWithLoss(eps=0)),
        rng.standard_normal((5, 4)),
        rng.integers(0, 3, 5),
    )


@pytest.mark.parametrize("layer_class", [Noisy, ToldNothing, TheirsWithAnAttribute, TheirsWithAnArgument])
def test_a_network_asks_in_evaluation_mode_and_trains_in_training_mode(rng, layer_class):
    network, x, t = in_two_modes(rng, layer_class)
    affine, layer = network.layers
    y = x @ affine.W + affine.b
    plain = Sequential([affine], SoftmaxWithLoss(eps=0))
    twice = Sequential([Affine(2 * affine.W, affine.b)], SoftmaxWithLoss(eps=0))
    for training in (True, False):
        network.training = training
        assert network.training is training and affine.training is training and network.loss_layer.training is training
        for told in ((), (False,)):
            np.testing.assert_allclose(network.predict(x, *told), y)
        assert network.loss(x, t, False) == pytest.approx(plain.loss(x, t))
        assert network.loss(x, t) == pytest.approx((twice if training else plain).loss(x, t))
        assert network.accuracy(x, t) == plain.accuracy(x, t)
        assert network.loss_and_gradient(x, t)[0] == pytest.approx(twice.loss(x, t))
        np.testing.assert_allclose(network.gradient(x, t)[0], 2 * twice.gradient(x, t)[0])
        np.testing.assert_allclose(network.numerical_gradient(x, t)[0], 2 * twice.gradient(x, t)[0], atol=1e-7)
        assert network.training is training and affine.training is training
        if layer_class is TheirsWithAnAttribute:
            assert layer.train_flg is training
    assert network.eval() is network and not network.train_flg
    np.testing.assert_allclose(network.predict(x, train_flg=True), 2 * y)
    assert network.training and network.train() is network
    assert network.loss(x, t, train_flg=True) == pytest.approx(twice.loss(x, t))
    network.loss_layer.backward()  # can follow


def test_the_mode_stays_after_an_exception(rng):
    for network, x, t in (in_two_modes(rng, Noisy), in_two_modes(rng, TheirsWithAnAttribute)):
        for training in (True, False):
            network.training = training
            for call in (network.predict, network.accuracy, network.loss, network.gradient, network.numerical_gradient):
                with pytest.raises((ValueError, IndexError)):
                    call(x[:, 1:], *([] if call == network.predict else [t]))
                assert network.training is training
                assert all(getattr(layer, "training", training) is training for layer in network.layers)
                assert getattr(network.layers[1], "train_flg", training) is training


def test_asking_leaves_what_training_has_kept(rng):
    network, x, t = in_two_modes(rng, Noisy)
    network.loss(x, t, train_flg=True)
    expected = network.loss_layer.backward()
    kept = [dict(vars(layer)) for layer in (*network.layers, network.loss_layer)]
    network.predict(-x)
    network.loss(-x, t, train_flg=False)
    network.accuracy(-x, t)
    network.numerical_gradient(-x, t)
    for layer, before in zip((*network.layers, network.loss_layer), kept, strict=True):
        assert vars(layer).keys() == before.keys() and all(vars(layer)[name] is before[name] for name in before)
    np.testing.assert_array_equal(network.loss_layer.backward(), expected)


def test_a_loss_is_of_the_networks_own_mode(rng):
    network, x, t = in_two_modes(rng, Relu)
    network.eval().loss(x, t)
    with pytest.raises(RuntimeError, match="before forward in training mode"):
        network.loss_layer.backward()
    network.train().loss(x, t)
    network.loss_layer.backward()


def test_layers_of_a_network_in_evaluation_mode_make_another_in_that_mode(rng):
    network, x, t = in_two_modes(rng, Noisy)
    network.eval()
    other = Sequential(network.layers, network.loss_layer)
    assert not other.training
    np.testing.assert_array_equal(other.gradient(x, t)[0], network.gradient(x, t)[0])


@pytest.mark.parametrize("layer_class", [Noisy, ToldNothing, TheirsWithAnAttribute, TheirsWithAnArgument])
@pytest.mark.parametrize("training", [True, False])
def test_several_threads_may_ask_a_network(rng, layer_class, training):
    network, _, t = in_two_modes(rng, layer_class)
    network.training = training
    batches = [rng.standard_normal((5, 4)) for _ in range(8)]
    expected = [network.layers[0].forward(x, False) for x in batches]
    losses = [network.loss(x, t) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            for y, value in zip(pool.map(network.predict, batches), expected, strict=True):
                np.testing.assert_array_equal(y, value)
            assert list(pool.map(lambda x: network.loss(x, t), batches)) == losses
    assert network.training is training


EVALUATED = {
    **{name: lambda name=name: MLP([4, 5, 3], activation=name, seed=0) for name in networks.ACTIVATIONS},
    "columns": lambda: MLP([4, 3], seed=0, dtype=">f8"),
    "softmax": lambda: Sequential([Affine(np.eye(4), np.zeros(4)), Softmax(), Affine(np.eye(4), np.ones(4))]),
}
every_evaluated = pytest.mark.parametrize("make", EVALUATED.values(), ids=EVALUATED)


@every_evaluated
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype, shape", [("f8", (5, 4)), ("f4", (5, 4)), ("f8", (5, 2, 2)), ("i8", (5, 4))])
def test_nothing_is_kept_of_what_a_network_was_asked(rng, make, training, dtype, shape):
    """As soon as its caller has let go of it, without the garbage collector."""
    network, t = make(), rng.integers(0, 3, 5)
    network.training = training
    x = rng.integers(1, 9, shape).astype(dtype)
    y = network.predict(x)
    for ask in (network.predict, lambda x: network.accuracy(x, t), lambda x: network.loss(x, t, train_flg=False)):
        ask(x)
    references = [weakref.ref(x), weakref.ref(y)]
    gc.disable()
    try:
        del x, y
        assert [reference() for reference in references] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("leave", [Sequential.eval, lambda network: setattr(network, "training", False)])
def test_what_training_has_kept_goes_with_it(rng, leave):
    network, x = MLP([4, 5, 3], seed=0), rng.standard_normal((5, 4))
    network.loss(x, np.zeros(5, int))
    reference = weakref.ref(x)
    del x
    assert reference() is not None  # for the backward
    leave(network)
    assert reference() is None


@every_evaluated
@pytest.mark.parametrize("training", [True, False])
def test_several_threads_get_what_one_gets(rng, make, training):
    network = make()
    network.training = training
    batches = [rng.standard_normal((n, 4)).astype(dtype) for n in (1, 7, 300) for dtype in ("f4", "f8")] * 2
    expected = [network.predict(x) for x in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for y, value in zip(pool.map(network.predict, batches), expected, strict=True):
                np.testing.assert_array_equal(y, value, strict=True)
    assert network.training is training and not any(getattr(a, name) for a in network.layers for name in a.kept)


# ---------------------------------------------------------------- summary and arguments


def test_summary():
    lines = MLP([784, 50, 10]).summary().splitlines()
    assert [line.split() for line in lines] == [
        ["layer", "output", "shape", "parameters"],
        ["Affine", "(N,", "50)", "39,250"],
        ["Relu", "(N,", "50)", "0"],
        ["Affine", "(N,", "10)", "510"],
        ["SoftmaxWithLoss", "()", "0"],
        ["in", "all", "39,760"],
    ]
    assert len({len(line) for line in lines}) == 1
    unknown = Sequential([Relu(), Affine(np.eye(2), np.zeros(2)), Softmax(), Scaled(np.ones(2)), Relu()]).summary()
    assert re.findall(r"^(\w+) +\(N, (.)\)", unknown, re.MULTILINE) == [
        ("Relu", "?"),
        ("Affine", "2"),
        ("Softmax", "2"),
        ("Scaled", "?"),  # which says nothing of itself
        ("Relu", "?"),
    ]
    assert "(N, 3, 4, 4)" in Sequential([Images(), Relu()]).summary().splitlines()[2]


def test_initial_weights():
    for init, scale in (("he", np.sqrt(2 / 400)), ("xavier", np.sqrt(1 / 400)), (0.3, 0.3), (0, 0)):
        network = MLP([400, 500], init=init, seed=1)
        assert np.std(network.params[0]) == pytest.approx(scale, rel=0.01) and not network.params[1].any()
    one, same, other = (MLP([4, 3], seed=seed).params[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(MLP([4, 3], seed=1, dtype=np.float32).params[0], one.astype(np.float32))


def test_bad_arguments_of_a_perceptron():
    for kwargs, match in (
        ({"activation": "affine"}, f"activation must be one of {', '.join(networks.ACTIVATIONS)}"),
        ({"loss": "hinge"}, f"loss must be one of {', '.join(networks.LOSSES)}"),
        ({"init": "lecun"}, "init must be one of he, xavier"),
        ({"init": -1.0}, "init must be a finite number"),
        ({"init": np.nan}, "init must be a finite number"),
    ):
        with pytest.raises(ValueError, match=match):
            MLP([3, 2], **kwargs)
    with pytest.raises(TypeError):
        MLP([3, 2.5])
    with pytest.raises(TypeError):
        MLP([3, 2], init=None)


def test_weights_of_integers_are_refused():
    for dtype in (int, np.uint8, bool):
        with pytest.raises((TypeError, ValueError), match="dtype"):
            MLP([3, 2], dtype=dtype)


def test_a_weight_that_two_layers_share_is_checked_as_one(rng):
    W, b = rng.standard_normal((4, 4)), rng.standard_normal(4)
    network = Sequential([Affine(W, b), fastnn.Sigmoid(), Affine(W, b)], fastnn.IdentityWithLoss())
    checks = fastnn.check_gradient(network, rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), show=False)
    assert [c.name for c in checks] == ["W1", "b1", "W2", "b2"]
    assert max(c.error for c in checks) < 1e-7


class OfHalves(Sequential):
    """Somebody's network that knows nothing of modes."""

    def predict(self, x):
        return super().predict(np.asarray(x) / 2)


class WithOneMore(Sequential):
    def loss(self, x, t):
        return super().loss(x, t) + 1


@pytest.mark.parametrize("network_class", [OfHalves, WithOneMore])
def test_networks_with_methods_of_their_own_train(rng, network_class):
    x, t = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    W, b = rng.standard_normal((4, 3)), np.zeros(3)
    network, plain = network_class([Affine(W, b), Noisy()]), Sequential([Affine(W, b), Noisy()])
    scale, shift = (0.5, 0) if network_class is OfHalves else (1, 1)
    for training in (True, False):
        network.training = plain.training = training
        assert network.loss(x, t) == pytest.approx(plain.loss(scale * x, t) + shift)
        np.testing.assert_allclose(network.gradient(x, t)[0], plain.gradient(scale * x, t)[0])
        assert network.training is training
    np.testing.assert_allclose(network.predict(x), plain.predict(scale * x))
    trainer = fastnn.Trainer(network.train(), show=False).fit(x, t, batch_size=3, epochs=2, test=(x, t))
    assert network.training and len(trainer.evaluations) == 2


def test_another_loss_layer_is_asked(rng):
    x, t = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    network = Sequential([Affine(rng.standard_normal((4, 3)), np.zeros(3))])
    network.loss_layer = IdentityWithLoss()
    assert network.loss(x, t) == pytest.approx(0.5 * np.mean((network.predict(x) - t) ** 2))
    assert len(network.gradient(x, t)) == 2
