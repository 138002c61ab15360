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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_with_a_step_is_numpys(dtype):
    numbers = np.array([-2, -1e-40, -0.0, 0, 1e-40, 3, np.inf, -np.inf, np.nan], dtype)
    a, x = (grid.copy() for grid in np.meshgrid(numbers, numbers))
    with np.errstate(invalid="ignore"):
        expected = a * (x > 0)
    y = reference.step_product(a, x)
    np.testing.assert_array_equal(y, expected, strict=True)
    known = ~np.isnan(y)
    np.testing.assert_array_equal(np.signbit(y)[known], np.signbit(expected)[known])


def test_sigmoid_backward(x, dout):
    y = reference.sigmoid(x)
    assert_gradient(reference.sigmoid_backward(dout, y), central(lambda x: np.sum(dout * reference.sigmoid(x)), x))


def test_softmax_backward(x, dout):
    y = reference.softmax(x)
    assert_gradient(reference.softmax_backward(dout, y), central(lambda x: np.sum(dout * reference.softmax(x)), x))


TARGETS = {
    "labels": np.array([0, 4, 2, 2]),
    "one-hot": np.eye(5)[[0, 4, 2, 2]],
    "probabilities": np.random.default_rng(4).dirichlet(np.ones(5), 4),
    "weighted": np.eye(5)[[0, 4, 2, 2]] * [[0.5], [0.0], [3.0], [1.0]],
    "several": np.array([[1, 0, 1, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]]),
    "soft": np.random.default_rng(3).random((4, 5)),
    "signed": np.random.default_rng(3).standard_normal((4, 5)),
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
    _, y = reference.softmax_cross_entropy(x, t)
    numerical = central(lambda x: 1.7 * reference.softmax_cross_entropy(x, t, eps=0)[0], x)
    assert_gradient(reference.softmax_cross_entropy_backward(y, t, 1.7), numerical)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("eps", [1e-7, 0.0])
def test_softmax_cross_entropy_and_grad(x, kind, eps):
    t = TARGETS[kind]
    loss, dx = reference.softmax_cross_entropy_and_grad(x, t, 1.7, eps=eps)
    assert loss == reference.softmax_cross_entropy(x, t, eps=eps)[0]
    assert_gradient(dx, central(lambda x: 1.7 * reference.softmax_cross_entropy(x, t, eps=0)[0], x))


def test_bias_grad_and_add_bias(x, dout, rng):
    b = rng.standard_normal(5)
    assert_gradient(reference.bias_grad(dout), central(lambda b: np.sum(dout * reference.add_bias(x, b)), b))


# ---------------------------------------------------------------- losses element by element

BINARY = {
    "bool": np.array([True, False, False, True]),
    "uint8": np.array([1, 0, 0, 1], np.uint8),
    "int": np.array([1, 0, 0, 1]),
    "soft": np.array([0.0, 0.3, 0.75, 1.0]),
    "column": np.array([[1], [0], [0], [1]]),
}


@pytest.mark.parametrize("kind", BINARY)
def test_sigmoid_cross_entropy_backward(rng, kind):
    x, t = rng.standard_normal(4), BINARY[kind]
    y = reference.sigmoid_cross_entropy(x, t)[1]
    np.testing.assert_array_equal(y, reference.sigmoid(x), strict=True)
    numerical = central(lambda x: 1.7 * reference.sigmoid_cross_entropy(x, t, eps=0)[0], x)
    assert_gradient(reference.sigmoid_cross_entropy_backward(y, t, 1.7), numerical)


@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (2, 3, 4)])
def test_mean_squared_error_backward(rng, shape):
    y, t = rng.standard_normal(shape), rng.standard_normal(shape)
    y = np.asarray(y)
    assert reference.mean_squared_error(y, t) == pytest.approx(0.5 * np.mean((y - t) ** 2), rel=1e-14)
    numerical = central(lambda y: 1.7 * reference.mean_squared_error(y, t), y)
    assert_gradient(reference.mean_squared_error_backward(y, t, 1.7), numerical)


def test_an_axis_of_length_1_may_be_missing(rng):
    column, t = rng.standard_normal((4, 1)), np.array([0.0, 1.0, 1.0, 0.5])
    for forward, backward in (
        (lambda y, t: reference.sigmoid_cross_entropy(y, t)[0], reference.sigmoid_cross_entropy_backward),
        (reference.mean_squared_error, reference.mean_squared_error_backward),
    ):
        assert forward(column, t) == forward(column[:, 0], t) == forward(column[:, 0], t[:, np.newaxis])
        y = reference.sigmoid(column)
        np.testing.assert_array_equal(backward(y, t), backward(y[:, 0], t)[:, np.newaxis], strict=True)
        np.testing.assert_array_equal(backward(y[:, 0], t[:, np.newaxis]), backward(y[:, 0], t), strict=True)


# ---------------------------------------------------------------- a perceptron


def plain_loss(x, t, params, activation, loss):
    """The books' formulas in plain NumPy, by nothing of this package; t is one-hot, 0 or 1, or numbers."""
    h = x.reshape(-1, params[0].shape[0])
    for i in range(0, len(params), 2):
        h = h @ params[i] + params[i + 1]
        if i + 2 < len(params):
            h = np.maximum(h, 0) if activation == "relu" else 1 / (1 + np.exp(-h))
    if loss == "softmax":
        e = np.exp(h)
        return -np.sum(t * np.log(e / e.sum(axis=1, keepdims=True))) / len(h)
    if loss == "sigmoid":
        return np.mean(np.logaddexp(0, h) - t * h)
    return 0.5 * np.mean((h - t) ** 2)


def perceptron(rng, sizes):
    params = []
    for D, M in zip(sizes[:-1], sizes[1:], strict=True):
        params += [rng.standard_normal((D, M)), rng.standard_normal(M)]
    return params


@pytest.mark.parametrize("loss", ["softmax", "sigmoid", "identity"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
@pytest.mark.parametrize("sizes", [(3, 2), (3, 5, 2), (3, 5, 4, 2)])
def test_mlp_gradient(rng, sizes, activation, loss):
    x, params = rng.standard_normal((6, 3)), perceptron(rng, sizes)
    labels = rng.integers(0, 2, 6)
    t = {
        "softmax": np.eye(2)[labels],
        "sigmoid": rng.integers(0, 2, (6, 2)),
        "identity": rng.standard_normal((6, 2)),
    }[loss]
    value, *grads = reference.mlp_gradient(x, t, *params, activation=activation, loss=loss, eps=0)
    assert value == pytest.approx(plain_loss(x, t, params, activation, loss), rel=1e-13)
    assert len(grads) == len(params)
    for i, (g, p) in enumerate(zip(grads, params, strict=True)):

        def changed(q, i=i):
            return plain_loss(x, t, [*params[:i], q, *params[i + 1 :]], activation, loss)

        assert_gradient(g, central(changed, p))
    if loss == "softmax":
        with_labels = reference.mlp_gradient(x, labels, *params, activation=activation, eps=0)
        np.testing.assert_allclose(with_labels[0], value, rtol=1e-14)
        np.testing.assert_allclose(with_labels[1], grads[0], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("shape, rows", [((4,), 1), ((2, 2, 2), 2), ((2, 3, 4), 6)])
def test_mlp_gradient_of_other_samples(rng, shape, rows):
    x, params = rng.standard_normal(shape), perceptron(rng, (4, 5, 3))
    labels = rng.integers(0, 3, rows)
    t = labels[0] if shape == (4,) else labels.reshape(shape[:-1] if rows == 6 else rows)
    value, *grads = reference.mlp_gradient(x, t, *params)
    expected, *rest = reference.mlp_gradient(x.reshape(rows, 4), labels, *params)
    assert value == pytest.approx(expected, rel=1e-14)
    for a, b in zip(grads, rest, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


# ---------------------------------------------------------------- optimizers


def plain_steps(name, p, gradients, lr):
    """Every state of p under the formulas, written out once more."""
    v, h, m = (np.zeros_like(p) for _ in range(3))
    for i, g in enumerate(gradients, 1):
        if name == "sgd":
            p = p - lr * g
        elif name == "momentum":
            v = 0.8 * v - lr * g
            p = p + v
        elif name == "nesterov 1":
            p = p + 0.8**2 * v - (1 + 0.8) * lr * g
            v = 0.8 * v - lr * g
        elif name == "nesterov 2":
            v = 0.8 * v - lr * g
            p = p + 0.8**2 * v - (1 + 0.8) * lr * g
        elif name == "adagrad":
            h = h + g**2
            p = p - lr * g / (np.sqrt(h) + 1e-7)
        elif name == "rmsprop":
            h = 0.95 * h + (1 - 0.95) * g**2
            p = p - lr * g / (np.sqrt(h) + 1e-7)
        else:
            m = 0.9 * m + (1 - 0.9) * g
            v = 0.99 * v + (1 - 0.99) * g**2
            p = p - lr * np.sqrt(1 - 0.99**i) / (1 - 0.9**i) * m / (np.sqrt(v) + 1e-7)
        yield p


KEPT = {"sgd": 0, "momentum": 1, "nesterov 1": 1, "nesterov 2": 1, "adagrad": 1, "rmsprop": 1, "adam": 2}


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_steps_are_their_formulas(rng, name, dtype):
    p, gradients = rng.standard_normal((3, 4)).astype(dtype), rng.standard_normal((8, 3, 4)).astype(dtype)
    op, constants = getattr(reference, name.split()[0]), {"sgd": (), "adagrad": ()}.get(name, (0.8,))
    state = [p, *(np.zeros_like(p) for _ in range(KEPT[name]))]
    wide = list(plain_steps(name, p.astype(np.longdouble), gradients.astype(np.longdouble), 0.1))
    for i, g in enumerate(gradients):
        if name.startswith("nesterov"):
            constants = 0.8, int(name[-1])
        elif name == "rmsprop":
            constants = (0.95,)
        elif name == "adam":
            constants = 0.9, 0.99, i + 1
        result = op(*state, g, 0.1, *constants)
        state = [result] if name == "sgd" else [*result]
        assert all(array.dtype == dtype for array in state)
        np.testing.assert_allclose(state[0], wide[i].astype(np.float64), rtol=0, atol=40 * np.finfo(dtype).eps)


@pytest.mark.parametrize(("name", "constants"), [("adagrad", ()), ("rmsprop", (0.0,)), ("adam", (0.0, 0.0, 1))])
def test_eps_is_what_is_added_to_the_root(name, constants):
    """At first, and with nothing kept, a step is lr dp / (|dp| + eps)."""
    p, dp = np.array([1.0, -1.0]), np.array([3.0, -0.5])
    kept = [np.zeros(2)] * KEPT[name]
    for eps in (0.0, 1e-8, 0.5):
        changed = getattr(reference, name)(p, *kept, dp, 0.25, *constants, eps=eps)[0]
        np.testing.assert_allclose(changed, p - 0.25 * dp / (np.abs(dp) + eps), rtol=1e-15)
    np.testing.assert_array_equal(
        getattr(reference, name)(p, *kept, dp, 0.25, *constants)[0],
        getattr(reference, name)(p, *kept, dp, 0.25, *constants, eps=1e-7)[0],
    )


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i4"])
@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adam"])
def test_integer_gradients_do_not_wrap_around(name, dtype):
    dp = np.array([1, 0]).astype(dtype) if dtype == "?" else np.array([100, 127]).astype(dtype)
    constants = {"sgd": (), "adagrad": (), "rmsprop": (0.9,), "adam": (0.9, 0.99, 1)}[name]
    state = [np.zeros(2) for _ in range(1 + KEPT[name])]
    expected = getattr(reference, name)(*state, dp.astype(np.float64), 0.1, *constants)
    result = getattr(reference, name)(*state, dp, 0.1, *constants)
    for a, b in zip(result if name != "sgd" else (result,), expected if name != "sgd" else (expected,), strict=True):
        np.testing.assert_array_equal(a, b)


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


def true_binary(z, t, eps):
    """At 200 bits: -(t log(p + eps) + (1 - t) log(1 - p + eps)) of p = 1 / (1 + e^-z)."""
    z, t, eps = mp.mpf(float(z)), mp.mpf(float(t)), mp.mpf(eps)
    of_1, of_0 = (mp.log(1 / (1 + mp.exp(-v)) + eps) if eps else -mp.log1p(mp.exp(-v)) for v in (z, -z))
    return -((t * of_1 if t else 0) + ((1 - t) * of_0 if t != 1 else 0))


@pytest.mark.parametrize("eps", [1e-7, 0.0, 0.1])
@pytest.mark.parametrize("z", [0.0, 0.5, -3.0, 20.0, -20.0, 40.0, -40.0, 200.0, -200.0])
@pytest.mark.parametrize("t", [0, 1, True, 0.25])
def test_sigmoid_cross_entropy_is_its_formula(z, t, eps):
    loss = reference.sigmoid_cross_entropy(np.array([z]), np.array([t]), eps=eps)[0]
    # Beside an eps the probability has been rounded once, before its logarithm.
    assert loss == pytest.approx(float(true_binary(z, t, eps)), rel=4e-15, abs=2.3e-16 if eps else 0)


def test_sigmoid_cross_entropy_of_saturated_logits():
    for z, t, exact in ((1000.0, 0, 1000), (-1000.0, 1, 1000), (1000.0, 1, 0), (-1000.0, 0, 0)):
        assert reference.sigmoid_cross_entropy([z], [t], eps=0)[0] == exact
    assert reference.sigmoid_cross_entropy([-1000.0], [1])[0] == pytest.approx(-np.log(1e-7), rel=1e-15)
    for infinite in (np.inf, -np.inf):
        assert reference.sigmoid_cross_entropy([infinite], [infinite > 0], eps=0)[0] == 0
        assert reference.sigmoid_cross_entropy([infinite], [infinite < 0], eps=0)[0] == np.inf
    assert np.isnan(reference.sigmoid_cross_entropy([np.nan], [1])[0])


@pytest.mark.parametrize("dtype", ["u1", "i1", "u4", "i8", "?"])
@pytest.mark.parametrize("eps", [1e-7, 0.0])
def test_sigmoid_cross_entropy_of_integer_logits(dtype, eps):
    x, t = np.array([3, 1, 0]).astype(dtype), np.array([0, 1, 0])
    loss, y = reference.sigmoid_cross_entropy(x, t, eps=eps)
    expected = reference.sigmoid_cross_entropy(x.astype(np.float64), t, eps=eps)
    assert loss == pytest.approx(expected[0], rel=2e-3)  # small integers are computed in float16
    np.testing.assert_allclose(y, expected[1], rtol=1e-3)


def test_mean_squared_error_is_its_formula(rng):
    y, t = rng.standard_normal(50), rng.standard_normal(50)
    exact = mp.fsum((mp.mpf(a) - mp.mpf(b)) ** 2 for a, b in zip(y.tolist(), t.tolist(), strict=True)) / 100
    assert reference.mean_squared_error(y, t) == pytest.approx(float(exact), rel=1e-15)
    huge, low = np.array([200, 0], np.uint8), np.array([0, 200], np.uint8)
    assert reference.mean_squared_error(huge, low) == 20000
    np.testing.assert_array_equal(reference.mean_squared_error_backward(huge, low), [100, -100])


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


def test_dtypes_of_the_losses_element_by_element():
    f4, f8, g = np.ones(3, np.float32), np.ones(3), np.ones(3, np.longdouble)
    for t in ([0, 1, 1], [True, False, True], np.array([0, 1, 1], np.uint8), f4):
        assert type(reference.sigmoid_cross_entropy(f4, t)[0]) is np.float32
        assert reference.sigmoid_cross_entropy_backward(f4, t).dtype == np.float32
    assert type(reference.sigmoid_cross_entropy(f4, f8)[0]) is np.float64
    assert type(reference.mean_squared_error(f4, f4)) is np.float32
    assert type(reference.mean_squared_error(f4, f8)) is np.float64
    assert type(reference.mean_squared_error([1, 2], [3, 4])) is np.float64
    # never narrowed
    assert type(reference.mean_squared_error(g, [1, 2, 3])) is np.longdouble
    assert reference.mean_squared_error_backward([1, 2, 3], g).dtype == np.longdouble
