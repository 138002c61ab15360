"""What layers say of themselves holds; and a layer is made of that: parameters in both dialects, and the two modes."""

import copy
import inspect
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from layer_cases import INNER, LAYERS, dout_for, exact, made, name_of

import fastnn
from fastnn import Affine, Relu, Sigmoid, SoftmaxWithLoss, ops
from fastnn.layers import Layer
from fastnn.layers.base import HasMode
from fastnn.optable import OPS

every_layer = pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)


class Cell(Layer):
    """A toy with three parameters: ``y = x Wx + h Wh + b``."""

    parameters, kept = ("Wx", "Wh", "b"), ("x", "h")

    def __init__(self, Wx, Wh, b):
        super().__init__(Wx, Wh, b)

    def forward(self, x, h, train_flg=True):
        if train_flg and self.training:
            self.x, self.h = x, h
        return x @ self.Wx + h @ self.Wh + self.b

    def backward(self, dout):
        self.set_gradients(self.x.T @ dout, self.h.T @ dout, dout.sum(axis=0))
        return dout @ self.Wx.T, dout @ self.Wh.T


class PlainCell(Cell):
    """One whose forward has been forgotten to be told the mode."""

    def forward(self, x, h):
        return super().forward(x, h)


def cell(rng, cell_class=Cell):
    params = rng.standard_normal((4, 3)), rng.standard_normal((2, 3)), rng.standard_normal(3)
    return cell_class(*params), (rng.standard_normal((5, 4)), rng.standard_normal((5, 2)))


# ---------------------------------------------------------------- declarations


@every_layer
def test_a_layer_declares_what_it_is(layer_class):
    assert issubclass(layer_class, Layer) and layer_class.__doc__
    assert layer_class.op in OPS and hasattr(ops, layer_class.op)
    assert layer_class.rowwise >= layer_class.elementwise
    assert not (layer_class.is_loss and layer_class.rowwise)
    *_, last = inspect.signature(layer_class.forward).parameters.values()
    assert (last.name, last.default) == ("train_flg", True)
    names = inspect.signature(getattr(ops, layer_class.op)).parameters
    assert set(layer_class.parameters) < set(names)
    constructor = [*inspect.signature(layer_class).parameters][: len(layer_class.parameters)]
    assert constructor == list(layer_class.parameters)


@every_layer
def test_parameters_and_settings_make_a_layer_anew(rng, layer_class):
    layer, inputs = made(layer_class, rng, **exact(layer_class))
    settings = {name: getattr(layer, name) for name in layer_class.settings}
    assert json.loads(json.dumps(settings)) == settings
    other = layer_class(*layer.params, **settings)
    assert {name: getattr(other, name) for name in layer_class.settings} == settings
    np.testing.assert_array_equal(other.forward(*inputs), layer.forward(*inputs))


def test_the_settings_of_a_layer_of_ones_own():
    class Leaky(Relu):
        def __init__(self, slope=0.01, *rest, **more):
            super().__init__()

    assert Leaky.settings == ("slope",) and Relu.settings == Cell.settings == ()
    assert SoftmaxWithLoss.settings == ("eps", "from_logits")


@every_layer
def test_what_is_kept_is_none_before(rng, layer_class):
    layer, inputs = made(layer_class, rng)
    assert layer.kept and all(getattr(layer, name) is None for name in layer.kept)
    layer.forward(*inputs)
    assert all(getattr(layer, name) is not None for name in layer.kept)


@pytest.mark.parametrize("layer_class", [layer for layer in INNER if layer.rowwise], ids=name_of)
def test_a_row_or_an_element_is_what_a_change_reaches(rng, layer_class):
    layer, (x, *others) = made(layer_class, rng)
    before = layer.forward(x, *others)
    x[2, 1] += 0.5 + 2 * abs(x[2, 1])  # above 0
    changed = layer.forward(x, *others) != before
    assert changed[2].any() and not np.delete(changed, 2, axis=0).any()
    if layer.elementwise:
        assert np.flatnonzero(changed[2]).tolist() == [1]


@pytest.mark.parametrize("layer_class", INNER, ids=name_of)
def test_the_shape_that_a_layer_tells(rng, layer_class):
    layer, (x, *others) = made(layer_class, rng)
    told = layer.output_shape(x.shape[1:])
    assert told in (None, layer.forward(x, *others).shape[1:])
    assert told is not None or not layer.rowwise


def test_a_subclass_with_a_forward_of_its_own_declares_anew():
    class Mean(Relu):
        def forward(self, x, train_flg=True):
            return super().forward(x - x.mean(axis=0), train_flg)

    class Wrong(Relu):
        def backward(self, dout):
            return dout

    class Twice(Relu):
        elementwise = True

        def forward(self, x, train_flg=True):
            return 2 * super().forward(x, train_flg)

    assert (Mean.op, Mean.elementwise, Mean.rowwise, Mean.kept) == ("", False, False, ("mask",))
    assert (Wrong.op, Wrong.elementwise, Wrong.rowwise) == (Relu.op, True, True)
    assert (Twice.op, Twice.elementwise, Twice.rowwise) == ("", True, True)


def test_a_name_that_sequential_could_not_number_is_refused():
    with pytest.raises(TypeError, match="Two.parameters: 'W2' ends in a digit"):
        type("Two", (Layer,), {"parameters": ("W", "W2")})


# ---------------------------------------------------------------- parameters and gradients, for any number of them


def test_three_parameters_of_volume_1(rng):
    layer, (x, h) = cell(rng)
    Wx, Wh, b = layer.params
    assert layer.Wx is Wx and layer.Wh is Wh and layer.b is b
    assert layer.dWx is None and layer.dWh is None and layer.db is None
    y = layer.forward(x, h)
    dout = rng.standard_normal(y.shape)
    layer.backward(dout)
    for name, p in zip(layer.parameters, layer.params, strict=True):
        expected = fastnn.numerical_gradient(lambda _: np.sum(dout * layer.forward(x, h)), p)
        np.testing.assert_allclose(getattr(layer, f"d{name}"), expected, rtol=1e-7, atol=1e-9)
    old, kept = layer.dWh, layer.dWh.copy()
    layer.backward(2 * dout)
    assert layer.dWh is not old
    np.testing.assert_array_equal(old, kept)
    layer.dWh *= 0.5
    np.testing.assert_allclose(layer.dWh, kept)
    layer.Wh = other = np.zeros((2, 3))
    assert layer.params[1] is other
    np.testing.assert_array_equal(layer.forward(x, h), x @ Wx + b)


def test_three_parameters_of_volume_2(rng):
    layer, (x, h) = cell(rng)
    grads = [*layer.grads]
    assert [g.shape for g in grads] == [(4, 3), (2, 3), (3,)] and not any(map(np.any, grads))
    dout = rng.standard_normal((5, 3))
    for factor in (1, 2):
        layer.forward(x, h)
        layer.backward(factor * dout)
        assert all(a is b for a, b in zip(layer.grads, grads, strict=True))
        np.testing.assert_allclose(grads[0], factor * x.T @ dout)
        np.testing.assert_allclose(grads[1], factor * h.T @ dout)
        np.testing.assert_allclose(grads[2], factor * dout.sum(axis=0))
    assert layer.dWh is not grads[1]
    np.testing.assert_array_equal(layer.dWh, grads[1])
    layer.dWh = np.ones((2, 3))
    np.testing.assert_array_equal(grads[1], np.ones((2, 3)))
    layer.Wh = np.ones((7, 3))
    with pytest.raises(ValueError, match=r"Wh now has shape \(7, 3\), but its gradient has shape \(2, 3\)"):
        layer.backward(dout)
    np.testing.assert_allclose(grads[0], 2 * x.T @ dout)  # none is written


def test_gradients_read_late_and_set_early(rng):
    layer, (x, h) = cell(rng)
    layer.dWh = np.full((2, 3), 5.0)
    assert layer.dWx is None
    np.testing.assert_array_equal(layer.grads[1], np.full((2, 3), 5.0))
    assert layer.dWx is None and not layer.grads[0].any()
    layer, _ = cell(rng)
    layer.forward(x, h)
    layer.backward(np.ones((5, 3)))
    dWx = layer.dWx
    np.testing.assert_array_equal(layer.grads[0], dWx)
    layer.backward(np.zeros((5, 3)))
    assert dWx.any() and not layer.dWx.any()


@pytest.mark.parametrize("way", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("buffered", [False, True])
def test_three_parameters_are_copied(rng, way, buffered):
    layer, (x, h) = cell(rng)
    if buffered:
        layer.grads  # noqa: B018, which makes the buffers
    layer.forward(x, h)
    layer.backward(np.ones((5, 3)))
    other = way(layer)
    other.backward(np.zeros((5, 3)))
    assert layer.dWx.any() and not other.dWx.any() and not other.grads[0].any()
    assert other.Wx is other.params[0] is not layer.Wx


# ---------------------------------------------------------------- training and evaluation


def state(layer):
    return {name: copy.copy(value) for name, value in vars(layer).items()}


def assert_unchanged(layer, before):
    now = vars(layer)
    assert now.keys() == before.keys()
    for name, value in now.items():
        np.testing.assert_equal(value, before[name])


CASES = [*((layer, made) for layer in LAYERS), (Cell, cell), (PlainCell, cell)]


def case(layer_class, make, rng):
    return make(layer_class, rng) if make is made else make(rng, layer_class)


@pytest.mark.parametrize("layer_class, make", CASES, ids=[name_of(layer) for layer, _ in CASES])
def test_in_evaluation_mode_nothing_is_kept(rng, layer_class, make):
    layer, inputs = case(layer_class, make, rng)
    y = layer.forward(*inputs)
    assert layer.training and layer.train_flg
    assert layer.eval() is layer and not layer.training and not layer.train_flg
    assert all(getattr(layer, name) is None for name in layer.kept)
    before = state(layer)
    if not layer.mode_matters:
        np.testing.assert_array_equal(layer.forward(*inputs), y, strict=True)
    if layer_class is not PlainCell:
        layer.forward(*inputs, train_flg=True)  # the layer's mode counts, too
    assert_unchanged(layer, before)
    if layer_class in LAYERS:
        with pytest.raises(RuntimeError, match="before forward in training mode"):
            layer.backward(*dout_for(layer_class, rng, y))
    assert layer.train() is layer and layer.training
    layer.forward(*inputs)
    assert all(getattr(layer, name) is not None for name in layer.kept)


@every_layer
def test_a_forward_may_be_told_the_mode(rng, layer_class):
    layer, inputs = made(layer_class, rng)
    y = layer.forward(*inputs)
    before = state(layer)
    evaluated = layer.forward(*(-x if x.dtype.kind == "f" and not layer.is_loss else x for x in inputs), False)
    assert_unchanged(layer, before)
    assert evaluated.shape == y.shape and evaluated.dtype == y.dtype
    other, same = made(layer_class, np.random.default_rng(1))
    plain, _ = made(layer_class, np.random.default_rng(1))
    if not layer.mode_matters:
        np.testing.assert_array_equal(other.forward(*same, train_flg=False), plain.forward(*same), strict=True)


def test_the_books_name_of_the_mode():
    layer = Sigmoid()
    layer.train_flg = False
    assert not layer.training
    layer.train_flg = True
    assert layer.training
    layer.training = False
    assert not layer.train_flg


def test_an_assigned_mode_keeps_what_was_kept(rng):
    """As the books' loops need it that evaluate between a forward and its backward."""
    layer, x = Sigmoid(), rng.standard_normal((3, 4))
    layer.forward(x)
    expected = layer.backward(x)
    layer.train_flg = False
    layer.forward(2 * x)
    layer.train_flg = True
    np.testing.assert_array_equal(layer.backward(x), expected)


@pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)
def test_a_layer_in_evaluation_mode_may_be_asked_by_several_threads(rng, layer_class):
    layer, _ = made(layer_class, rng, **exact(layer_class))
    inputs = [made(layer_class, np.random.default_rng(i))[1] for i in range(8)]
    layer.eval()
    expected = [layer.forward(*each) for each in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            for y, value in zip(pool.map(lambda each: layer.forward(*each), inputs), expected, strict=True):
                np.testing.assert_array_equal(y, value)


def test_layers_and_networks_have_a_mode():
    assert all(issubclass(each, HasMode) for each in (*LAYERS, fastnn.Sequential, fastnn.MLP))
    assert SoftmaxWithLoss().eval().train().training and Affine(np.eye(2), np.zeros(2)).eval().training is False


def test_what_a_mixin_makes_of_a_forward_is_undeclared():
    class Centred:
        def forward(self, x, *args, **kwargs):
            y = super().forward(x, *args, **kwargs)
            return y - y.mean(axis=1, keepdims=True)

    class Mixed(Centred, fastnn.Sigmoid):
        pass

    class Named(fastnn.Sigmoid):
        pass

    assert not Mixed.elementwise and not Mixed.rowwise and not Mixed.op
    assert Named.elementwise and Named.rowwise and Named.op == "sigmoid"


def test_lists_set_in_a_constructor_of_ones_own(rng):
    """As volume 2 writes its layers."""

    class Theirs(fastnn.Relu):
        def __init__(self):
            self.params, self.grads = [], []
            self.mask = None

    layer, x = Theirs(), rng.standard_normal((3, 4))
    np.testing.assert_array_equal(layer.backward(layer.forward(x)), np.maximum(x, 0))
    assert layer.grads == [] and layer.training
