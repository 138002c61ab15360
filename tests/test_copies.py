"""Layers, networks and optimizers survive pickle, copy and deepcopy, with their weights and what shares them."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from layer_cases import LAYERS, dout_for, made, name_of

import fastnn
from fastnn import MLP, Adam, Affine, IdentityWithLoss, Sequential, Sigmoid, SoftmaxWithLoss, networks
from fastnn.layers import Layer
from fastnn.optimizers import Optimizer

WAYS = {"pickle": lambda a: pickle.loads(pickle.dumps(a)), "deepcopy": copy.deepcopy}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@every_way
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)
def test_a_layer_goes_on_where_it_was(rng, way, layer_class, training):
    layer, inputs = made(layer_class, rng)
    y = layer.forward(*inputs)
    dout = dout_for(layer_class, rng, y)
    if not training:
        layer.eval()
    other = way(layer)
    assert other.training is training
    if training:
        np.testing.assert_array_equal(other.backward(*dout), layer.backward(*dout))
    np.testing.assert_array_equal(other.forward(*inputs), y)
    for p, q in zip(layer.params, other.params, strict=True):
        assert p is not q
        np.testing.assert_array_equal(p, q)


@every_way
@pytest.mark.parametrize("loss", networks.LOSSES)
def test_a_network_trains_on_as_the_first_would(rng, way, loss):
    network = MLP([5, 8, 1 if loss != "softmax" else 3], loss=loss, seed=0)
    x, t = rng.standard_normal((6, 5)), rng.integers(0, 2, 6)
    t = t if loss == "softmax" else t[:, np.newaxis] * 1.0
    optimizer = Adam()
    optimizer.update(network.params, network.gradient(x, t))
    other, other_optimizer = way((network, optimizer))
    for _ in range(3):
        for n, o in ((network, optimizer), (other, other_optimizer)):
            o.update(n.params, n.gradient(x, t))
    assert network.loss(x, t) == other.loss(x, t)
    assert not any(np.shares_memory(p, q) for p, q in zip(network.params, other.params, strict=True))
    other.params[0][...] = 0
    assert other.loss(x, t) == way(other).loss(x, t) != network.loss(x, t)


@every_way
def test_a_shared_weight_stays_shared(rng, way):
    W = rng.standard_normal((3, 3))
    network = way(Sequential([Affine(W, np.zeros(3)), Sigmoid(), Affine(W, np.zeros(3))], IdentityWithLoss()))
    assert network.layers[0].W is network.layers[2].W
    assert network.params[0] is network.layers[0].W
    assert network.grads[0] is network.layers[0].grads[0] is not network.grads[2]
    assert network.eval().layers[0].training is network.loss_layer.training is False
    x = rng.standard_normal((4, 3))
    network.params[0][...] = 0  # the layers that a network asks are those that it has
    np.testing.assert_array_equal(network.predict(x), np.zeros((4, 3)))


def test_a_shallow_copy_shares_the_weights(rng):
    layer = Affine(rng.standard_normal((3, 2)), np.zeros(2))
    assert copy.copy(layer).W is layer.W


@pytest.mark.parametrize("name", fastnn.backends())
def test_a_pickle_of_one_backend_serves_another(rng, name):
    x, t = rng.standard_normal((4, 3)), np.array([0, 1, 1, 0])
    with fastnn.use_backend(name):
        network = MLP([3, 4, 2], seed=0)
        expected = network.loss(x, t)
        stored = pickle.dumps((network, SoftmaxWithLoss()))
    for other in fastnn.backends():
        with fastnn.use_backend(other):
            assert pickle.loads(stored)[0].loss(x, t) == pytest.approx(expected, rel=1e-14)


def test_pickles_of_the_first_version_go_on(rng):
    """It had no modes, no Tanh, and layers without buffers."""
    was = pickle.loads((Path(__file__).parent / "first_version.pkl").read_bytes())
    x, t = rng.standard_normal((4, 3)), np.array([0, 1, 2, 0])
    layers = {name: layer for name, layer in was.items() if isinstance(layer, Layer)}
    networks = {name: network for name, network in was.items() if isinstance(network, Sequential)}
    optimizers = {name: optimizer for name, optimizer in was.items() if isinstance(optimizer, Optimizer)}
    assert len(layers) + len(networks) + len(optimizers) == len(was) and len(optimizers) == 6
    for name, layer in layers.items():
        if not layer.is_loss:
            if name != "fresh":
                layer.backward(x)  # of what it had kept
            other = type(layer)(*layer.params)
            np.testing.assert_array_equal(layer.forward(x), other.forward(x))
            np.testing.assert_array_equal(layer.backward(x), other.backward(x))
            for g, h in zip(layer.grads, other.grads, strict=True):
                np.testing.assert_array_equal(g, h)
        else:
            layer.backward()
        assert layer.training and not layer.eval().training
    for name, network in networks.items():
        other = Sequential([type(layer)(*layer.params) for layer in network.layers], type(network.loss_layer)())
        for g, h in zip(network.gradient(x, t), other.gradient(x, t), strict=True):
            np.testing.assert_array_equal(g, h, name)
        np.testing.assert_array_equal(network.predict(x), other.predict(x))
        assert network.summary() == other.summary()
    for name, optimizer in optimizers.items():
        params = [p.copy() for p in was["mlp"].params]
        optimizer.update(params, was["mlp"].gradient(x, t))
        assert not any(np.array_equal(p, q) for p, q in zip(params, was["mlp"].params, strict=True)), name
        made_now = type(optimizer)()
        if "iter" in vars(optimizer):
            made_now.iter = optimizer.iter
        assert optimizer.constants(params) == made_now.constants(params)
