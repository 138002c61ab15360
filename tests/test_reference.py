"""The reference itself against what owes it nothing: differences of its own functions, and mpmath."""

import mpmath
import numpy as np
import pytest

from fastnn import reference
from fastnn.optable import ulps

H = 1e-6


def central(f, x):
    """Gradient of the scalar function f at x by central differences."""
    g = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = H
        g[i] = (f(x + step) - f(x - step)) / (2 * H)
    return g


def assert_gradient(analytic, numerical):
    np.testing.assert_allclose(analytic, numerical, rtol=1e-6, atol=1e-8)


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 5))


@pytest.fixture
def dout(rng):
    return rng.standard_normal((4, 5))


def test_relu_backward(x, dout):
    y, mask = reference.relu_with_mask(x)
    np.testing.assert_array_equal(y, reference.relu(x))
    assert_gradient(reference.relu_backward(dout, mask), central(lambda x: np.sum(dout * reference.relu(x)), x))


def test_sigmoid_backward(x, dout):
    y = reference.sigmoid(x)
    assert_gradient(reference.sigmoid_backward(dout, y), central(lambda x: np.sum(dout * reference.sigmoid(x)), x))


def test_softmax_backward(x, dout):
    y = reference.softmax(x)
    assert_gradient(reference.softmax_backward(dout, y), central(lambda x: np.sum(dout * reference.softmax(x)), x))


TARGETS = {
    "labels": np.array([0, 4, 2, 2]),
    "one-hot": np.eye(5)[[0, 4, 2, 2]],
    "soft": np.random.default_rng(3).random((4, 5)),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("eps", [1e-7, 0.0, 0.1])
def test_cross_entropy_error_backward(rng, kind, eps):
    y, t = rng.uniform(0.1, 1, (4, 5)), TARGETS[kind]
    numerical = central(lambda y: 1.7 * reference.cross_entropy_error(y, t, eps=eps), y)
    assert_gradient(reference.cross_entropy_error_backward(y, t, 1.7, eps=eps), numerical)


@pytest.mark.parametrize("kind", TARGETS)
def test_softmax_cross_entropy_backward(x, kind):
    t = TARGETS[kind]
    if kind == "soft":
        t = t / t.sum(axis=-1, keepdims=True)
    _, y = reference.softmax_cross_entropy(x, t)
    numerical = central(lambda x: 1.7 * reference.softmax_cross_entropy(x, t, eps=0)[0], x)
    assert_gradient(reference.softmax_cross_entropy_backward(y, t, 1.7), numerical)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("eps", [1e-7, 0.0])
def test_softmax_cross_entropy_and_grad(x, kind, eps):
    t = TARGETS[kind]
    if kind == "soft":
        t = t / t.sum(axis=-1, keepdims=True)
    loss, dx = reference.softmax_cross_entropy_and_grad(x, t, 1.7, eps=eps)
    assert loss == reference.softmax_cross_entropy(x, t, eps=eps)[0]
    assert_gradient(dx, central(lambda x: 1.7 * reference.softmax_cross_entropy(x, t, eps=0)[0], x))


def test_bias_grad_and_add_bias(x, dout, rng):
    b = rng.standard_normal(5)
    assert_gradient(reference.bias_grad(dout), central(lambda b: np.sum(dout * reference.add_bias(x, b)), b))


# ---------------------------------------------------------------- mpmath

mp = mpmath.mp.clone()
mp.prec = 200


def exactly(function, x):
    """`function` of each element at 200 bits, rounded once."""
    return np.array([float(function(mp.mpf(float(v)))) for v in x.reshape(-1)], np.float64).reshape(x.shape)


POINTS = np.concatenate(
    [np.linspace(-745, 745, 299), np.linspace(-20, 20, 801), [1e-300, -1e-300, 5e-324, 36.7, -36.8]]
)


def test_sigmoid_is_the_logistic_function():
    truth = exactly(lambda x: 1 / (1 + mp.exp(-x)), POINTS)
    assert ulps(reference.sigmoid(POINTS), truth) <= 3
    single = POINTS[np.abs(POINTS) < 103].astype(np.float32)
    assert ulps(reference.sigmoid(single), exactly(lambda x: 1 / (1 + mp.exp(-x)), single).astype(np.float32)) <= 1


def test_kernels_sigmoid_is_the_logistic_function(kernels):
    assert ulps(kernels.sigmoid(POINTS), exactly(lambda x: 1 / (1 + mp.exp(-x)), POINTS)) <= 2
    single = POINTS[np.abs(POINTS) < 103].astype(np.float32)
    assert ulps(kernels.sigmoid(single), exactly(lambda x: 1 / (1 + mp.exp(-x)), single).astype(np.float32)) <= 2


def test_kernels_sigmoid_over_the_bit_patterns_of_float32(kernels):
    # everywhere, and closely where the error is largest: -100 < x < -0.1
    patterns = np.concatenate([np.arange(0, 2**32, 1021), np.arange(0xBDCCCCCD, 0xC2C80000, 13)])
    x = patterns.astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x)]
    wide = x.astype(np.float64)
    e = np.exp(-np.abs(wide))
    truth = np.where(wide >= 0, 1, e) / (1 + e)
    spacing = np.spacing(truth.astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(kernels.sigmoid(x) - truth) / spacing) <= 2


def test_kernels_exp_is_the_exponential(kernels):
    # Beside a logit of 0 the softmax of x < -40 is e^x, divided by a sum that rounds to 1.
    for dtype, lowest in ((np.float32, -103), (np.float64, -745)):
        x = np.linspace(lowest, -40, 1500).astype(dtype)
        y = kernels.softmax(np.stack([np.zeros_like(x), x], axis=1))[:, 1]
        assert ulps(y, exactly(mp.exp, x).astype(dtype)) <= 2


def test_kernels_log_is_the_logarithm(kernels):
    for dtype, smallest in ((np.float32, 1e-44), (np.float64, 5e-324)):
        near_one = 1 + np.linspace(-1e-3, 1e-3, 300)
        wide = np.geomspace(float(np.finfo(dtype).tiny), float(np.finfo(dtype).max) / 2, 500)
        p = np.concatenate([near_one, wide, np.geomspace(smallest, 1e-37, 20)]).astype(dtype)
        logs = np.array([-kernels.cross_entropy_error(v[np.newaxis], 0, eps=0) for v in p])
        assert ulps(logs, exactly(mp.log, p).astype(dtype)) <= 2
    assert kernels.cross_entropy_error(np.array([0.0]), 0, eps=0) == np.inf
    assert kernels.cross_entropy_error(np.array([np.inf]), 0, eps=0) == -np.inf
    assert np.isnan(kernels.cross_entropy_error(np.array([-1.0]), 0, eps=0))
    assert np.isnan(kernels.cross_entropy_error(np.array([np.nan]), 0, eps=0))


def true_softmax(row):
    e = [mp.exp(mp.mpf(float(v))) for v in row]
    return [v / mp.fsum(e) for v in e]


def test_softmax_and_its_loss(rng):
    x = np.round(rng.standard_normal((6, 7)) * 4, 3)
    x = np.ldexp(np.round(np.ldexp(x, 10)), -10)  # so that x - max(x) is exact
    t = rng.integers(0, 7, 6)
    truth = np.array([[float(v) for v in true_softmax(row)] for row in x])
    assert ulps(reference.softmax(x), truth) <= 3
    exact = float(-mp.fsum(mp.log(true_softmax(row)[label]) for row, label in zip(x, t, strict=True)) / 6)
    assert reference.softmax_cross_entropy(x, t, eps=0)[0] == pytest.approx(exact, rel=1e-15)
    with_eps = float(-mp.fsum(mp.log(true_softmax(r)[n] + mp.mpf(1e-7)) for r, n in zip(x, t, strict=True)) / 6)
    assert reference.softmax_cross_entropy(x, t)[0] == pytest.approx(with_eps, rel=1e-15)
    assert reference.cross_entropy_error(truth, t) == pytest.approx(with_eps, rel=1e-15)


def test_cross_entropy_of_soft_targets(rng):
    y, t = rng.uniform(0, 1, (3, 4)), rng.random((3, 4))
    terms = [mp.mpf(b) * mp.log(mp.mpf(a) + mp.mpf(1e-7)) for a, b in zip(y.flat, t.flat, strict=True)]
    assert reference.cross_entropy_error(y, t) == pytest.approx(float(-mp.fsum(terms) / 3), rel=1e-15)


# ---------------------------------------------------------------- the decisions of the design


def test_decisions():
    np.testing.assert_array_equal(reference.relu(np.array([-1.0, 0.0, 2.0, np.nan])), [0, 0, 2, np.nan])
    assert not np.signbit(reference.relu(np.array([-0.0])))[0]
    np.testing.assert_array_equal(reference.relu_with_mask([-1.0, 0.0, 2.0, np.nan])[1], [True, True, False, False])
    np.testing.assert_array_equal(reference.sigmoid([-np.inf, 0.0, np.inf]), [0, 0.5, 1])
    np.testing.assert_array_equal(reference.softmax([1.0, 1.0]), [0.5, 0.5])
    assert np.isnan(reference.softmax([1.0, np.inf])).all() and np.isnan(reference.softmax([1.0, np.nan])).all()
    assert reference.cross_entropy_error(np.array([[1.0, 0.0]]), [1]) == pytest.approx(-np.log(1e-7))
    np.testing.assert_array_equal(reference.bias_grad(np.ones((0, 3))), [0, 0, 0])


def test_dtypes_follow_numpy():
    f4, f8, i4 = np.ones((2, 3), np.float32), np.ones((2, 3)), np.ones((2, 3), np.int32)
    assert reference.relu(i4).dtype == np.int32
    assert reference.relu(f4.astype(np.float16)).dtype == np.float16
    assert reference.sigmoid(i4).dtype == reference.softmax(i4).dtype == np.float64
    assert reference.sigmoid_backward(f4, f8).dtype == np.float64
    assert reference.softmax_cross_entropy_backward(f4, i4).dtype == np.float64
    assert reference.softmax_cross_entropy_backward(f4, i4.astype(np.uint8)).dtype == np.float32
    assert reference.bias_grad(i4).dtype == np.int64
    assert type(reference.cross_entropy_error(f4, [0, 1])) is np.float32
    assert type(reference.softmax_cross_entropy(f8, [0, 1])[0]) is np.float64
    np.testing.assert_allclose(reference.softmax(np.array([3, 5], np.uint8)), reference.softmax([3.0, 5.0]), rtol=1e-2)
