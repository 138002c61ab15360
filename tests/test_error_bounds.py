"""Softmax's rows, the losses and bias_grad against exact sums (`math.fsum`), to the bounds of promises.toml."""

import math
from functools import partial
from itertools import chain

import numpy as np
import pytest
from promises import PROMISES

from fastnn import backends, reference
from fastnn.backends import load

DTYPES = [np.float32, np.float64]
WIDE = {np.float32: np.float64, np.float64: np.longdouble}
LONG = np.finfo(np.longdouble).nmant >= 63
EPS = 1e-7
LENGTHS = [1, 2, 3, 10, 31, 32, 33, 64, 65, 100, 1000, 4099, 50257]

every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.__name__)

ROW_OF_SOFTMAX = PROMISES["row_of_softmax"]["ulp"]
CROSS_ENTROPY = PROMISES["cross_entropy"]["eps"]
SQUARED_ERROR = PROMISES["squared_error"]["eps"]
BIAS_GRAD = PROMISES["bias_grad"]["eps"]


def fsum(terms):
    """The exact sum, rounded once; a long double is taken as two doubles."""
    high = terms.astype(np.float64)
    low = [] if terms.dtype != np.longdouble else memoryview((terms - high).astype(np.float64).reshape(-1))
    return math.fsum(chain(memoryview(high.reshape(-1)), low))


def largest(ratios, figure, title):
    """Shows the largest of the errors over their bounds, and holds it."""
    name = max(ratios, key=ratios.get)
    figure(f"{title}: at most {ratios[name]:.3f} of the bound ({', '.join(name)})")
    assert all(ratio <= 1 for ratio in ratios.values())  # NaN is not


# ---------------------------------------------------------------- softmax


@every_dtype
def test_a_row_of_softmax_sums_to_1(module, rng, figure, dtype):
    sums = []
    for C in LENGTHS:
        for spread in (0, 0.01, 1, 10, 100, 1e4):
            x = (spread * rng.standard_normal((40 if C < 1000 else 2, C))).astype(dtype)
            sums += map(fsum, module.softmax(x))
    worst = float(np.max(np.abs(np.array(sums) - 1))) / np.finfo(dtype).eps
    backend = getattr(module, "compiled_for", "reference")
    figure(f"rows of softmax, {dtype.__name__}, {backend}: {worst:.2f} ULP from 1 at most")
    assert worst <= ROW_OF_SOFTMAX


# ---------------------------------------------------------------- losses


def log_probabilities(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def cross_entropies(x, t):
    """Of the logits x with the labels t: a name, what to call, the true logarithms and what they are multiplied by."""
    wide = WIDE[x.dtype.type]
    rows, y, soft = np.arange(len(x)), reference.softmax(x), reference.softmax(x[::-1])
    weights, logs = soft.astype(wide), np.log(y.astype(wide) + EPS)
    yield "cross_entropy_error", lambda module: module.cross_entropy_error(y, t), logs[rows, t], 1
    yield "cross_entropy_error, soft", lambda module: module.cross_entropy_error(y, soft), logs, weights
    for eps, logs in with_and_without_eps(log_probabilities(x.astype(wide))):
        for name in ("softmax_cross_entropy", "softmax_cross_entropy_and_grad"):
            for kind, targets, terms, factors in (("labels", t, logs[rows, t], 1), ("soft", soft, logs, weights)):
                call = partial(loss_of, name, x, targets, eps)
                yield f"{name}, {kind}, eps={eps}", call, terms, factors
    z, classes = np.ascontiguousarray(x[:, 0]), t % 2
    signed = np.where(classes, z, -z).astype(wide)
    for eps, logs in with_and_without_eps(np.minimum(signed, 0) - np.log1p(np.exp(-np.abs(signed)))):
        yield f"sigmoid_cross_entropy, eps={eps}", partial(loss_of, "sigmoid_cross_entropy", z, classes, eps), logs, 1
    mixed = np.where(np.arange(len(z)) % 700 == 1, 0.25, classes).astype(z.dtype)
    signed, weights = np.concatenate([z, -z]).astype(wide), np.concatenate([mixed, 1 - mixed]).astype(wide)
    for eps, logs in with_and_without_eps(np.minimum(signed, 0) - np.log1p(np.exp(-np.abs(signed)))):
        call = partial(loss_of, "sigmoid_cross_entropy", z, mixed, eps)
        yield f"sigmoid_cross_entropy, a few soft, eps={eps}", call, logs, weights


def loss_of(name, x, t, eps, module):
    return getattr(module, name)(x, t, eps=eps)[0]


def with_and_without_eps(logs):
    return (0, logs), (EPS, np.log(np.exp(logs) + EPS))


def errors_of_losses(x, t):
    """Over their bounds: {(loss, backend): ratio}."""
    eps, found = np.finfo(x.dtype).eps, {}

    def note(name, call, total, bound):
        for backend in backends():
            error = abs(float(call(load(backend))) - total)
            found[name, backend] = error / float(bound) if error else 0.0

    for name, call, logs, weights in cross_entropies(x, t):
        total = fsum(-weights * logs) / len(x)
        note(name, call, total, CROSS_ENTROPY * eps * np.sum(weights * (1 + np.abs(logs))) / len(x))
    total = fsum((x.astype(WIDE[x.dtype.type]) - x[::-1]) ** 2 / 2) / x.size
    note("mean_squared_error", lambda module: module.mean_squared_error(x, x[::-1]), total, SQUARED_ERROR * eps * total)
    return found


def logits(rng, kind, shape, dtype):
    if kind == "equal rows":
        return np.tile((3 * rng.standard_normal(shape[1])).astype(dtype), (shape[0], 1))
    return (rng.standard_normal(shape) * {"small": 1e-3, "usual": 3, "large": 50}[kind]).astype(dtype)


@every_dtype
@pytest.mark.parametrize("kind", ["small", "usual", "large", "equal rows"])
def test_losses_are_close_to_the_exact_sum(rng, figure, dtype, kind):
    if dtype is np.float64 and not LONG:
        pytest.skip("needs a long double that is longer than double")
    worst = {}
    for shape in [(1, 2), (2, 33), (7, 5), (300, 10), (4000, 3), (2, 20_000)]:
        for _ in range(10 if shape[0] < 10 else 1):
            found = errors_of_losses(logits(rng, kind, shape, dtype), rng.integers(0, shape[1], shape[0]))
            worst = {key: np.maximum(ratio, worst.get(key, 0.0)) for key, ratio in found.items()}
    largest(worst, figure, f"losses, {dtype.__name__}, {kind}")


@pytest.mark.parametrize(
    "N, kind",
    [
        (1_000_000, "usual"),
        pytest.param(10_000_000, "usual", marks=pytest.mark.slow),
        pytest.param(10_000_000, "equal rows", marks=pytest.mark.slow),
    ],
)
def test_losses_of_many_rows(rng, figure, N, kind):
    x, t = logits(rng, kind, (N, 2), np.float32), rng.integers(0, 2, N)
    largest(errors_of_losses(x, t), figure, f"losses, float32, {N:,} rows, {kind}")


# ---------------------------------------------------------------- bias_grad


def columns(rng, N, dtype):
    """Sums that go wrong if they are taken carelessly."""
    half = rng.standard_normal(N // 2) * 1e6
    small_beside_large = np.ones(N)
    small_beside_large[::3] = 2 / np.finfo(dtype).eps
    made = {
        "a constant": np.full(N, 0.1),
        "increasing": np.arange(N),
        "of mixed sizes": rng.standard_normal(N) * 10 ** rng.uniform(-6, 6, N),
        "cancelling": np.concatenate([half, -half[::-1], [1e-3] * (N % 2)]),
        "small beside large": small_beside_large,
    }
    return {name: column.astype(dtype) for name, column in made.items()}


def errors_of_sums(made, sums_of):
    """Over their bounds: {(column, backend): ratio}; `sums_of(module)` gives the sums of the columns."""
    exact = [(fsum(column), fsum(np.abs(column)) * np.finfo(column.dtype).eps) for column in made.values()]
    return {
        (name, backend): abs(s - total) / (BIAS_GRAD * size) if s != total else 0.0
        for backend in backends()
        for name, s, (total, size) in zip(made, sums_of(load(backend)).tolist(), exact, strict=True)
    }


@every_dtype
def test_bias_grad_is_close_to_the_exact_sum(rng, figure, dtype):
    found = {}
    for N in (1, 7, 16, 31, 33, 100, 1000):
        made = columns(rng, N, dtype)
        for times in (1, 100, 300, 1000):  # rows side by side, one by one, in chunks of rows, of columns
            dout = np.stack(list(made.values()) * times, axis=1)
            ratios = errors_of_sums(made, lambda module, dout=dout, made=made: module.bias_grad(dout)[-len(made) :])
            found |= {(*key, f"{N} x {len(dout[0])}"): ratio for key, ratio in ratios.items()}
    largest(found, figure, f"bias_grad, {dtype.__name__}")


@pytest.mark.parametrize("N", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
@every_dtype
def test_bias_grad_of_many_rows(rng, figure, dtype, N):
    made = columns(rng, N, dtype)
    dout = np.stack(list(made.values()), axis=1)
    largest(
        errors_of_sums(made, lambda module: module.bias_grad(dout)), figure, f"bias_grad, {dtype.__name__}, {N:,} rows"
    )


@every_dtype
def test_a_running_sum_goes_far_beyond_the_bounds(rng, figure, dtype):
    made = {"a constant": columns(rng, 1_000_000, dtype)["a constant"]}
    ratio = min(errors_of_sums(made, lambda module: np.cumsum(made["a constant"])[-1:]).values())
    figure(f"a running sum of a constant, {dtype.__name__}, 1,000,000 rows: {ratio:,.0f} times the bound of bias_grad")
    assert ratio > 100
