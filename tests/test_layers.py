"""The layer classes: their mathematics, and both dialects of the books."""

import numpy as np
import pytest

import fastnn
from fastnn import Affine, CrossEntropyError, Relu, Sigmoid, Softmax, SoftmaxWithLoss

pytestmark = pytest.mark.usefixtures("backend")


@pytest.fixture
def affine(rng):
    return Affine(rng.standard_normal((4, 3)), rng.standard_normal(3))


def numerical(f, x):
    return fastnn.numerical_gradient(lambda _: f(), x, h=1e-6)


@pytest.mark.parametrize("layer_class", [Relu, Sigmoid, Softmax])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
def test_gradients_of_plain_layers(rng, layer_class, shape):
    layer, x, dout = layer_class(), rng.standard_normal(shape), rng.standard_normal(shape)
    layer.forward(x)
    dx = layer.backward(dout)
    np.testing.assert_allclose(dx, numerical(lambda: np.sum(dout * layer.forward(x)), x), rtol=1e-6, atol=1e-8)


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


@pytest.mark.parametrize("layer", [Relu(), Sigmoid(), Softmax(), Affine(np.ones((2, 2)), np.ones(2))])
def test_backward_needs_a_forward(layer):
    with pytest.raises(RuntimeError, match="before forward"):
        layer.backward(np.ones((2, 2)))
    for loss in (CrossEntropyError(), SoftmaxWithLoss()):
        with pytest.raises(RuntimeError, match="before forward"):
            loss.backward()


# ---------------------------------------------------------------- arrays of the caller


def test_results_share_nothing_with_the_layer(rng, affine):
    for layer in (Relu(), Sigmoid(), Softmax(), affine):
        x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 4 if layer is not affine else 3))
        expected_y = layer.forward(x)
        expected = layer.backward(dout).copy()
        y = layer.forward(x)
        np.testing.assert_array_equal(y, expected_y)
        y[...] = 77
        dx = layer.backward(dout)
        np.testing.assert_array_equal(dx, expected)
        dx[...] = 77
        np.testing.assert_array_equal(layer.backward(dout), expected)


def test_the_callers_arrays_are_unchanged(rng, affine):
    for layer in (Relu(), Sigmoid(), Softmax(), affine):
        x, dout = rng.standard_normal((5, 4)), rng.standard_normal((5, 4 if layer is not affine else 3))
        before = x.copy(), dout.copy(), affine.W.copy(), affine.b.copy()
        layer.forward(x)
        layer.backward(dout)
        for a, b in zip((x, dout, affine.W, affine.b), before, strict=True):
            np.testing.assert_array_equal(a, b)
    loss, x, t = SoftmaxWithLoss(), rng.standard_normal((5, 4)), np.array([0, 1, 2, 3, 0])
    loss.forward(x, t)
    y = loss.y.copy()
    loss.backward()[...] = 77
    np.testing.assert_array_equal(loss.y, y)


def test_dtypes_are_never_narrowed():
    x = np.ones((2, 3), np.float32)
    layer = Affine(np.ones((3, 2)), np.zeros(2))
    assert layer.forward(x).dtype == np.float64
    assert Affine(np.ones((3, 2), np.float32), np.zeros(2)).forward(x).dtype == np.float64
    assert Affine(np.ones((3, 2), np.float32), np.zeros(2, np.float32)).forward(x).dtype == np.float32
    assert Affine(np.ones((3, 2), np.float32), np.zeros(2, np.float32)).forward(x.astype(np.int32)).dtype == np.float64


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


@pytest.mark.parametrize("layer_class", [Relu, Sigmoid, Softmax, CrossEntropyError, SoftmaxWithLoss])
def test_layers_without_parameters_have_empty_lists(layer_class):
    assert layer_class().params == [] and layer_class().grads == []


@pytest.mark.parametrize("name", ["Sigmoid", "Softmax"])
def test_a_large_output_is_the_callers_own(backend, rng, name):
    layer, x = getattr(fastnn, name)(), rng.standard_normal((300, 300))
    first = layer.forward(x)
    dx = layer.backward(x)
    first[...] = 7
    np.testing.assert_array_equal(layer.backward(x), dx)
    kept = layer.out
    second = layer.forward(2 * x)
    assert (first == 7).all() and not np.shares_memory(second, layer.out) and kept is not layer.out
