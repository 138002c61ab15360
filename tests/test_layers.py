"""The layer classes: their mathematics, and both dialects of the books."""

import copy

import numpy as np
import pytest
from layer_cases import INNER, LAYERS, LOSSES, dout_for, exact, made, name_of, op_of, shapes

import fastnn
from fastnn import Affine, CrossEntropyError, IdentityWithLoss, SigmoidWithLoss, Softmax, SoftmaxWithLoss, ops

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def affine(rng):
    return Affine(rng.standard_normal((4, 3)), rng.standard_normal(3))


def numerical(f, x):
    return fastnn.numerical_gradient(lambda _: f(), x, h=1e-6)


@pytest.mark.parametrize(
    "layer_class, shape",
    [pytest.param(layer, shape, id=f"{name_of(layer)}-{shape}") for layer in LAYERS for shape in shapes(layer)],
)
def test_gradients_of_every_layer(rng, layer_class, shape):
    layer, (x, *others) = made(layer_class, rng, shape, **exact(layer_class))
    y = layer.forward(x, *others)
    [dout] = dout_for(layer_class, rng, y) or [1.0]
    dx = layer.backward(dout)
    analytic = [(dx, x), *((getattr(layer, f"d{name}"), getattr(layer, name)) for name in layer.parameters)]
    for gradient, array in analytic:
        expected = numerical(lambda: np.sum(dout * layer.forward(x, *others)), array)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("shape", [(4,), (5, 4), (5, 2, 2), (5, 1, 2, 2), (5, 6, 4), (0, 4), (0, 5, 4), (3, 0, 4)])
def test_gradients_of_affine(rng, affine, shape):
    x = rng.standard_normal(shape)
    y = affine.forward(x)
    flattened = x.ndim > 2 and np.prod(shape[1:]) == 4
    assert y.shape == ((5, 3) if flattened else (*shape[:-1], 3))
    dout = rng.standard_normal(y.shape)
    dx = affine.backward(dout)
    assert dx.shape == x.shape

    def loss():
        return np.sum(dout * affine.forward(x))

    for analytic, array in ((dx, x), (affine.dW, affine.W), (affine.db, affine.b)):
        np.testing.assert_allclose(analytic, numerical(loss, array), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("t", [np.array([0, 2, 1, 1]), np.eye(3)[[0, 2, 1, 1]], np.array([[0], [2], [1], [1]])])
def test_gradients_of_losses(rng, t):
    x = rng.standard_normal((4, 3))
    layer = SoftmaxWithLoss(eps=0)
    layer.forward(x, t)
    np.testing.assert_allclose(layer.backward(), numerical(lambda: layer.forward(x, t), x), rtol=1e-6, atol=1e-8)
    y, layer = fastnn.softmax(x), CrossEntropyError()
    layer.forward(y, t)
    np.testing.assert_allclose(layer.backward(2), numerical(lambda: 2 * layer.forward(y, t), y), rtol=1e-6, atol=1e-8)


def test_softmax_and_cross_entropy_are_the_combined_layer(rng):
    x, t = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    softmax, error, combined = Softmax(), CrossEntropyError(), SoftmaxWithLoss()
    assert error.forward(softmax.forward(x), t) == pytest.approx(combined.forward(x, t), rel=1e-14)
    # the combined gradient leaves the eps out, as the books do
    np.testing.assert_allclose(softmax.backward(error.backward()), combined.backward(), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_wrong_dout_is_refused(affine, shape):
    affine.forward(np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"dout has shape .* but forward gave \(5, 3\)"):
        affine.backward(np.ones(shape))


def test_wrong_x_is_refused(affine):
    with pytest.raises(ValueError, match=r"x has shape \(5, 3\), but W of shape \(4, 3\) needs 4"):
        affine.forward(np.ones((5, 3)))


def test_wrong_parameters_are_refused():
    x = np.ones((2, 4))
    with pytest.raises(TypeError, match="W must be an array of real numbers"):
        Affine(None, np.ones(3)).forward(x)
    for W in (np.ones(4), np.ones((2, 2, 2)), np.float64(1)):
        with pytest.raises(ValueError, match="W must have two dimensions"):
            Affine(W, np.ones(3)).forward(x)
    with pytest.raises(ValueError, match=r"b has shape \(4,\), but W of shape \(4, 3\) needs \(3,\)"):
        Affine(np.ones((4, 3)), np.ones(4)).forward(x)
    with pytest.raises(TypeError, match="x must be an array of real numbers"):
        Affine(np.ones((4, 3)), np.ones(3)).forward([["a"]])
    with pytest.raises(ValueError, match="eps must be"):
        SoftmaxWithLoss(eps=-1)


def test_a_refused_call_leaves_the_layer_as_it_was(rng, affine):
    x, dout = rng.standard_normal((2, 4)), rng.standard_normal((2, 3))
    affine.forward(x)
    grads = [g.copy() for g in affine.grads]
    with pytest.raises(ValueError, match="x has shape"):
        affine.forward(np.ones((2, 5)))
    with pytest.raises(TypeError, match="dout must be"):
        affine.backward(np.full((2, 3), None))
    np.testing.assert_array_equal(affine.grads[0], grads[0])
    affine.backward(dout)
    np.testing.assert_array_equal(affine.dW, x.T @ dout)
    loss = CrossEntropyError()
    loss.forward(np.full((2, 3), 0.5), [0, 1])
    with pytest.raises(IndexError):
        loss.forward(np.full((2, 3), 0.5), [0, 3])
    np.testing.assert_array_equal(loss.backward()[1], [0, -1 / (2 * (0.5 + 1e-7)), 0])


def test_lists_and_matrices_as_parameters():
    x = np.ones((2, 2))
    plain = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2)).forward(x)
    matrix = np.array([[1.0, 2.0], [3.0, 4.0]]).view(np.matrix)
    for W in ([[1.0, 2.0], [3.0, 4.0]], matrix):
        y = Affine(W, [0.0, 0.0]).forward(x)
        assert type(y) is np.ndarray
        np.testing.assert_array_equal(y, plain)


@pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)
def test_backward_needs_a_forward(rng, layer_class):
    layer, inputs = made(layer_class, rng)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward(*dout_for(layer_class, rng, inputs[0]))


# ---------------------------------------------------------------- arrays of the caller


def arrays_of(layer):
    return [value for value in vars(layer).values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("layer_class", INNER, ids=name_of)
def test_gradients_share_nothing_with_the_layer_and_outputs_only_what_is_kept(rng, layer_class):
    layer, inputs = made(layer_class, rng)
    y = layer.forward(*inputs)
    [dout] = dout_for(layer_class, rng, y)
    expected = layer.backward(dout).copy()
    kept = layer.out if "out" in layer.kept else None
    assert (y is kept) or not any(np.shares_memory(y, array) for array in arrays_of(layer))
    if y is not kept:
        y[...] = 77
    dx = layer.backward(dout)
    np.testing.assert_array_equal(dx, expected)
    dx[...] = 77
    np.testing.assert_array_equal(layer.backward(dout), expected)


@pytest.mark.parametrize("layer_class", [layer for layer in INNER if "out" in layer.kept], ids=name_of)
def test_an_output_that_a_layer_keeps_is_the_very_array(rng, layer_class):
    for shape in (op_of(layer_class).shapes[0], op_of(layer_class).large[0]):
        layer, (x,) = made(layer_class, rng, shape)
        first = layer.forward(x)
        assert layer.out is first and first.flags.writeable
        [dout] = dout_for(layer_class, rng, first)
        before = layer.backward(dout)
        first[...] = 0.25
        changed, other = layer.backward(dout), copy.copy(layer)
        other.out = first.copy()
        np.testing.assert_array_equal(changed, other.backward(dout))
        assert not np.array_equal(changed, before)  # as in the books
        second = layer.forward(2 * x)
        assert layer.out is second and not np.shares_memory(first, second) and (first == 0.25).all()


@pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)
def test_the_callers_arrays_are_unchanged(rng, layer_class):
    layer, inputs = made(layer_class, rng)
    [dout] = dout_for(layer_class, rng, layer.forward(*inputs)) or [np.float64(2)]
    arrays = [*inputs, *layer.params, dout]
    before = [array.copy() for array in arrays]
    layer.forward(*inputs)
    layer.backward(dout)[...] = 77
    for array, value in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, value)


def test_dtypes_are_never_narrowed():
    x = np.ones((2, 3), np.float32)
    layer = Affine(np.ones((3, 2)), np.zeros(2))
    assert layer.forward(x).dtype == np.float64
    assert Affine(np.ones((3, 2), np.float32), np.zeros(2)).forward(x).dtype == np.float64
    assert Affine(np.ones((3, 2), np.float32), np.zeros(2, np.float32)).forward(x).dtype == np.float32
    assert Affine(np.ones((3, 2), np.float32), np.zeros(2, np.float32)).forward(x.astype(np.int32)).dtype == np.float64


@pytest.mark.parametrize("dtype", ["f4", "f2", "u1", "i8"])
def test_an_input_is_widened_once_for_forward_and_backward(rng, dtype, monkeypatch):
    x, W, dout = (9 * rng.random((5, 4))).astype(dtype), rng.standard_normal((4, 3)), rng.standard_normal((5, 3))
    given = []
    for name in ("affine", "affine_backward"):
        op = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *args, op=op: given.append(args) or op(*args))
    layer = Affine(W, np.zeros(3))
    np.testing.assert_array_equal(layer.forward(x), np.dot(x, W), strict=True)
    layer.backward(dout)
    np.testing.assert_array_equal(layer.dW, np.dot(x.T, dout), strict=True)
    assert layer.x is x and given[0][0].dtype == np.float64 and given[0][0] is given[1][1]
    layer.x = 2 * x.astype(np.float64)
    layer.backward(dout)
    np.testing.assert_array_equal(layer.dW, np.dot(layer.x.T, dout), strict=True)


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "u1", "i8", "?"])
@pytest.mark.parametrize("loss_class", [SoftmaxWithLoss, CrossEntropyError])
def test_one_hot_rows_are_read_once_for_forward_and_backward(rng, dtype, loss_class, monkeypatch):
    x, labels = rng.random((5, 4)), rng.integers(0, 4, 5)
    t, given = np.eye(4)[labels].astype(dtype), []
    for name in ("softmax_cross_entropy_backward", "cross_entropy_error_backward"):
        op = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *args, op=op, **kwargs: given.append(args) or op(*args, **kwargs))
    layer = loss_class()
    assert layer.forward(x, t) == layer.forward(x, labels) == layer.forward(x, t)
    dx = layer.backward()
    assert layer.t is t
    np.testing.assert_array_equal(given[0][1], labels)
    layer.t = np.eye(4)[(labels + 1) % 4]
    assert given[0][1] is not layer.t and (layer.backward() != dx).any() and given[1][1] is layer.t


def test_what_backward_shares_with_forward_does_not_widen_it(rng):
    x, W, dout = rng.random((5, 4)).astype("f4"), rng.random((4, 3)), rng.random((5, 3)).astype("f4")
    layer = Affine(W, np.zeros(3))
    layer.forward(x)
    layer.backward(dout)
    np.testing.assert_array_equal(layer.dW, np.dot(x.T, dout), strict=True)
    loss, y, t = SoftmaxWithLoss(), rng.random((5, 4)), np.eye(4)[rng.integers(0, 4, 5)]
    loss.forward(y, t)
    loss.y = y.astype("f4")
    assert loss.backward().dtype == np.float64
    loss.y = np.ones((5, 3))
    with pytest.raises(ValueError, match=r"t has shape \(5, 4\)"):
        loss.backward()


# ---------------------------------------------------------------- volume 1: W, b, dW, db


def test_volume_1_gradients_are_fresh(rng, affine):
    assert affine.dW is None and affine.db is None
    x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    affine.forward(x)
    affine.backward(dout)
    old_dW, old_db = affine.dW, affine.db
    kept = old_dW.copy(), old_db.copy()
    affine.backward(2 * dout)
    assert affine.dW is not old_dW and affine.db is not old_db
    np.testing.assert_array_equal(old_dW, kept[0])
    np.testing.assert_array_equal(old_db, kept[1])
    np.testing.assert_allclose(affine.dW, 2 * kept[0])


def test_parameters_are_read_anew(rng, affine):
    x = rng.standard_normal((5, 4))
    W = rng.standard_normal((4, 3))
    affine.W = W
    assert affine.W is W and affine.params[0] is W
    np.testing.assert_array_equal(affine.forward(x), x @ W + affine.b)
    W[1, 2] += 1
    np.testing.assert_array_equal(affine.forward(x), x @ W + affine.b)
    affine.params[1] = b = np.ones(3)
    assert affine.b is b
    np.testing.assert_array_equal(affine.forward(x), x @ W + b)


def test_volume_1_gradients_can_be_set(affine):
    affine.forward(np.ones((5, 4)))
    affine.backward(np.ones((5, 3)))
    affine.dW *= 0.5
    np.testing.assert_array_equal(affine.dW, np.full((4, 3), 2.5))


def test_gradients_set_before_the_first_backward():
    layer = Affine(np.ones((4, 3)), np.ones(3))
    layer.dW = np.full((4, 3), 5.0)
    np.testing.assert_array_equal(layer.grads[0], np.full((4, 3), 5.0))
    layer = Affine(np.ones((4, 3)), np.ones(3))
    layer.grads[0][...] = 7
    layer.dW = np.full((4, 3), 5.0)
    np.testing.assert_array_equal(layer.dW, np.full((4, 3), 5.0))
    layer.dW = None
    assert layer.dW is None


# ---------------------------------------------------------------- volume 2: params, grads


def test_volume_2_gradients_are_collected_once(rng, affine):
    W, b = affine.W, affine.b
    assert affine.params[0] is W and affine.params[1] is b
    grads = [*affine.grads]
    assert affine.dW is None and not grads[0].any() and not grads[1].any()
    x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    for factor in (1, 2):
        grads[0][...] = grads[1][...] = np.nan
        affine.forward(x)
        affine.backward(factor * dout)
        assert affine.grads[0] is grads[0] and affine.grads[1] is grads[1]
        np.testing.assert_array_equal(grads[0], x.T @ (factor * dout))
        np.testing.assert_allclose(grads[1], factor * dout.sum(axis=0))
    copy = affine.dW
    assert copy is not grads[0]
    np.testing.assert_array_equal(copy, grads[0])
    affine.dW *= 0
    assert not grads[0].any()


def test_grads_read_after_a_backward_hold_it(rng, affine):
    affine.forward(rng.standard_normal((5, 4)))
    affine.backward(rng.standard_normal((5, 3)))
    dW, db = affine.dW, affine.db
    kept = dW.copy(), db.copy()
    np.testing.assert_array_equal(affine.grads[0], dW)
    np.testing.assert_array_equal(affine.grads[1], db)
    affine.backward(np.ones((5, 3)))
    # arrays that the caller got before stay the caller's
    np.testing.assert_array_equal(dW, kept[0])
    np.testing.assert_array_equal(db, kept[1])


def test_buffers_that_no_longer_fit_are_refused(rng, affine):
    affine.forward(rng.standard_normal((5, 4)))
    affine.backward(np.ones((5, 3)))
    dW, affine.W = affine.dW, np.ones((5, 3))
    for _ in range(2):
        with pytest.raises(ValueError, match=r"W now has shape \(5, 3\), but its gradient has shape \(4, 3\)"):
            _ = affine.grads
    assert affine.dW is dW
    layer = Affine(np.ones((4, 3)), np.ones(3))
    _ = layer.grads
    layer.W, layer.b = np.ones((4, 1)), np.ones(1)
    layer.forward(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"W now has shape \(4, 1\), but its gradient has shape \(4, 3\)"):
        layer.backward(np.ones((2, 1)))


def test_buffers_keep_dtype_and_memory_order(rng):
    W = np.asfortranarray(rng.standard_normal((4, 3)).astype(np.float32))
    layer = Affine(W, np.zeros(3, np.float32))
    assert layer.grads[0].flags.f_contiguous and layer.grads[0].dtype == np.float32
    x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    layer.forward(x)
    layer.backward(dout)
    np.testing.assert_array_equal(layer.grads[0], (x.T @ dout).astype(np.float32))


def test_a_shared_weight(rng):
    W, b = rng.standard_normal((4, 4)), np.zeros(4)
    first, second = Affine(W, b), Affine(W, b)
    assert first.params[0] is second.params[0]
    assert first.grads[0] is not second.grads[0]
    x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))

    def loss():
        return np.sum(dout * second.forward(first.forward(x)))

    loss()
    first.backward(second.backward(dout))
    np.testing.assert_allclose(first.grads[0] + second.grads[0], numerical(loss, W), rtol=1e-6, atol=1e-8)


def test_a_tied_transpose(rng):
    W = rng.standard_normal((4, 3))
    encoder, decoder = Affine(W, np.zeros(3)), Affine(W.T, np.zeros(4))
    assert decoder.params[0].base is W
    x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 4))

    def loss():
        return np.sum(dout * decoder.forward(encoder.forward(x)))

    for _ in range(2):
        loss()
        encoder.backward(decoder.backward(dout))
        np.testing.assert_allclose(encoder.grads[0] + decoder.grads[0].T, numerical(loss, W), rtol=1e-6, atol=1e-8)
        W += 0.1
    np.testing.assert_array_equal(decoder.forward(encoder.forward(x)), (x @ W) @ W.T)


def test_a_bias_row(rng):
    layer = Affine(rng.standard_normal((4, 3)), np.ones((1, 3)))
    x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 3))
    np.testing.assert_array_equal(layer.forward(x), x @ layer.W + 1)
    layer.backward(dout)
    assert layer.grads[1].shape == (1, 3)
    np.testing.assert_allclose(layer.grads[1][0], dout.sum(axis=0))


@pytest.mark.parametrize("layer_class", [layer for layer in LAYERS if not layer.parameters], ids=name_of)
def test_layers_without_parameters_have_empty_lists(layer_class):
    assert layer_class().params == [] and layer_class().grads == []


# ---------------------------------------------------------------- output activations with their losses

WITH_LOSS = [layer for layer in LOSSES if "loss" in layer.kept]
BINARY = [np.array([0, 1, 1, 0]), np.array([[0], [1], [1], [0]], np.uint8), np.array([False, True, True, False])]


@pytest.mark.parametrize("t", [*BINARY, np.array([0.0, 1.0, 0.25, 0.5])])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_gradients_of_sigmoid_with_loss(rng, t, shape):
    x, layer = rng.standard_normal(shape), SigmoidWithLoss(eps=0)
    layer.forward(x, t)
    np.testing.assert_array_equal(layer.y, fastnn.sigmoid(x))
    assert layer.t is t
    analytic = layer.backward(1.5)
    np.testing.assert_allclose(analytic, 1.5 * (layer.y - t.reshape(shape)) / 4, rtol=1e-15)
    np.testing.assert_allclose(analytic, numerical(lambda: 1.5 * layer.forward(x, t), x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (4,), (4, 1), (4, 3)])
def test_gradients_of_identity_with_loss(rng, shape):
    x, t, layer = np.asarray(rng.standard_normal(shape)), rng.standard_normal(shape), IdentityWithLoss()
    assert layer.forward(x, t) == pytest.approx(np.mean((x - t) ** 2) / 2, rel=1e-14)
    analytic = layer.backward(1.5)
    np.testing.assert_allclose(analytic, 1.5 * (x - t) / x.size, rtol=1e-15)
    np.testing.assert_allclose(analytic, numerical(lambda: 1.5 * layer.forward(x, t), x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", ["u1", "i4", "i8", "f4", "f8"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_softmax_with_loss_of_probabilities(rng, dtype, one_hot):
    x, labels = rng.standard_normal((4, 3)), np.array([0, 2, 1, 1])
    if dtype.startswith("f") and not one_hot:
        dtype = "i2"
    t = (np.eye(3)[labels] if one_hot else labels).astype(dtype)
    y = fastnn.softmax(x)
    layer, whole = SoftmaxWithLoss(from_logits=False), SoftmaxWithLoss()
    assert layer.forward(y, t) == pytest.approx(whole.forward(x, t), rel=1e-14)
    assert layer.loss == layer.forward(y, t) and layer.y is y
    np.testing.assert_allclose(layer.backward(), (y - np.eye(3)[labels]) / 4, rtol=1e-15)
    np.testing.assert_allclose(layer.backward(2), whole.backward(2), rtol=1e-13)
    # The gradient is that of the logits, through a softmax made before.
    exact = SoftmaxWithLoss(from_logits=False, eps=0)
    g = numerical(lambda: exact.forward(fastnn.softmax(x), t), x)
    np.testing.assert_allclose(layer.backward(), g, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(y, fastnn.softmax(x))


def test_a_column_of_labels_beside_probabilities():
    y = np.array([[0.2, 0.8], [0.5, 0.5]])
    layer = SoftmaxWithLoss(from_logits=False)
    layer.forward(y, np.array([[1], [0]]))
    np.testing.assert_allclose(layer.backward(), [[0.1, -0.1], [-0.25, 0.25]])


def test_pairings_give_the_difference(rng):
    # Each output activation with its own loss: (y - t) / N, and of a regression with M outputs / (N M).
    x, labels = rng.standard_normal((5, 2)), rng.integers(0, 2, 5)
    one_hot = np.eye(2)[labels]
    for layer, t, y, size in (
        (SoftmaxWithLoss(), labels, fastnn.softmax(x), 5),
        (SigmoidWithLoss(), one_hot, fastnn.sigmoid(x), 10),
        (IdentityWithLoss(), one_hot, x, 10),
    ):
        layer.forward(x, t)
        np.testing.assert_allclose(layer.backward(), (y - one_hot) / size, rtol=1e-14)


def test_two_classes_by_sigmoid_or_softmax(rng):
    x, t = rng.standard_normal(6), rng.integers(0, 2, 6)
    both = np.stack([np.zeros(6), x], axis=1)
    sigmoid, softmax = SigmoidWithLoss(eps=0), SoftmaxWithLoss(eps=0)
    assert sigmoid.forward(x, t) == pytest.approx(softmax.forward(both, t), rel=1e-13)
    np.testing.assert_allclose(sigmoid.backward(), softmax.backward()[:, 1], rtol=1e-12, atol=1e-16)
    assert sigmoid.accuracy(x, t) == softmax.accuracy(both, t)


def test_a_single_sample_of_each_loss():
    for layer, x, t in (
        (SoftmaxWithLoss(), [0.1, 0.7, 0.2], 1),
        (SigmoidWithLoss(), [0.3], 1),
        (SigmoidWithLoss(), [0.3], [1]),
        (IdentityWithLoss(), [0.3], 1.0),
        (IdentityWithLoss(), 0.3, 1.0),
    ):
        loss = layer.forward(x, t)
        assert isinstance(loss, np.float64) and loss == layer.loss
        assert layer.backward().shape == np.shape(x)


def test_accuracy_of_softmax_with_loss():
    x, t = np.array([[3.0, 1, 2], [0, 1, 0], [0, 0, 5], [1, 0, 0]]), np.array([0, 1, 2, 2])
    layer = SoftmaxWithLoss()
    for labels in (t, t.tolist(), t.astype(np.uint8), t[:, np.newaxis], np.eye(3)[t], np.eye(3, dtype=int)[t]):
        assert layer.accuracy(x, labels) == 0.75
    assert layer.accuracy(x[0], 0) == 1 and layer.accuracy(x.tolist(), t) == 0.75
    for row in ([np.nan] * 3, [np.nan, 1, 2], [2, 1, np.nan]):  # of which argmax says the first NaN
        for labels in ([0, 0], [2, 2], np.eye(3)[[0, 0]]):
            assert layer.accuracy([row, row], labels) == 0
    assert layer.accuracy([[1, np.inf], [np.nan, 0]], [1, 0]) == 0.5
    with pytest.raises(IndexError, match=r"t\[2\] is 3"):
        layer.accuracy(x, [0, 1, 3, 2])
    with pytest.raises(ValueError, match="t has shape"):
        layer.accuracy(x, [0, 1])
    with pytest.raises(ValueError, match="is empty"):
        layer.accuracy(x[:0], t[:0])
    assert layer.y is None and layer.loss is None


def test_accuracy_of_sigmoid_with_loss():
    x, layer = np.array([[2.0], [-3.0], [0.5], [-0.1]]), SigmoidWithLoss()
    for t in ([1, 0, 0, 0], [[1], [0], [0], [0]], [True, False, False, False], [0.9, 0.0, 0.2, 0.4]):
        assert layer.accuracy(x, t) == 0.75
        assert layer.accuracy(x[:, 0], t) == 0.75
    assert layer.accuracy(x.tolist(), [0, 1, 1, 1]) == 0.25
    assert layer.accuracy([np.nan, np.nan], [0, 1]) == 0 == layer.accuracy([np.nan], [0.5])
    for t, error in (([0, 2, 0, 0], IndexError), ([0.0, 1.5, 0, 0], ValueError), ([0, 1], ValueError)):
        with pytest.raises(error):
            layer.accuracy(x, t)


def test_regression_has_no_accuracy():
    assert not hasattr(IdentityWithLoss(), "accuracy")


@pytest.mark.parametrize("layer_class", WITH_LOSS, ids=name_of)
def test_loss_layers_keep_what_the_last_good_forward_gave(rng, layer_class):
    layer, (x, t) = made(layer_class, rng)
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward()
    loss, dx = layer.forward(x, t), layer.backward()
    for bad in (t[1:], None):
        with pytest.raises((ValueError, TypeError)):
            layer.forward(x, bad)
    assert layer.loss == loss and layer.t is t
    np.testing.assert_array_equal(layer.backward(), dx)
    before = x.copy()
    layer.backward()[...] = 77
    np.testing.assert_array_equal(layer.backward(), dx)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("layer_class", WITH_LOSS, ids=name_of)
def test_dtypes_of_loss_layers(layer_class):
    x, t = np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32)
    layer = layer_class()
    assert type(layer.forward(x, t)) is np.float32 and layer.backward().dtype == np.float32
    assert type(layer.forward(x, t.astype(np.float64))) is np.float64 and layer.backward().dtype == np.float64
