"""Arrays of more than 2**31 elements, up to their last one."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import ops, reference

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.slow

N = 2**31 + 7
# What is worth a look: the ends, and both sides of what 31 and 32 bits hold.
PLACES = [0, 1, 2**30, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, N - 2, N - 1]
GiB = 1 << 30
NEEDED = 12 * GiB


@pytest.fixture(autouse=True)
def enough_memory():
    memory = Path("/proc/meminfo")
    if not memory.exists():
        pytest.skip("the system does not tell how much memory is free")
    available = int(re.search(r"MemAvailable: +(\d+) kB", memory.read_text())[1]) * 1024
    if available < NEEDED:
        pytest.skip(f"{available / GiB:.1f} GiB of memory are free, {NEEDED // GiB} are needed")
    limit = fastnn.memory_stats()["limit_bytes"]
    fastnn.set_cache_limit(0)
    yield
    fastnn.set_cache_limit(limit)


@pytest.fixture
def done(figure, request):
    """To be called at the end of a test."""

    def tell():
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        figure(f"{request.node.name}: {N} elements or more; the process's peak so far: {most:.1f} GiB")

    return tell


def pattern():
    return np.random.default_rng(5).standard_normal(1 << 20, dtype=np.float32)


def filled():
    x, values = np.empty(N, np.float32), pattern()
    for first in range(0, N, values.size):
        x[first : first + values.size] = values[: N - first]
    return x


def assert_holds(x, values):
    """`x` holds `values`, again and again."""
    for first in range(0, N, values.size):
        assert (x[first : first + values.size] == values[: N - first]).all(), first


def test_relu_in_place(done):
    x = filled()
    assert ops.relu(x, out=x) is x
    assert_holds(x, reference.relu(pattern()))
    done()


def test_sigmoid_in_place(done):
    x = filled()
    ops.sigmoid(x, out=x)
    assert_holds(x, ops.sigmoid(pattern()))
    done()


def test_a_mask(done):
    x = filled()
    y, mask = ops.relu_with_mask(x, out=x)
    assert y is x and mask.shape == (N,)
    assert_holds(mask, pattern() <= 0)
    ops.relu_backward(x, mask, out=x)
    assert_holds(x, reference.relu(pattern()))
    done()


def test_sgd_in_place(done):
    p, dp = filled(), np.zeros(N, np.float32)  # pages of zeros take no memory until they are written
    dp[PLACES] = 1 + np.arange(len(PLACES))
    ops.sgd(p, dp, 0.5, out=p)
    changed, values = p[PLACES], pattern()
    np.testing.assert_array_equal(changed, reference.sgd(values[np.array(PLACES) % values.size], dp[PLACES], 0.5))
    p[PLACES] = values[np.array(PLACES) % values.size]
    assert_holds(p, values)
    done()


def test_the_bias_gradient_of_one_column(done):
    dout = np.zeros((N, 1), np.float32)
    dout[PLACES, 0] = 2.0 ** np.arange(len(PLACES))
    np.testing.assert_array_equal(ops.bias_grad(dout), np.float32([2 ** len(PLACES) - 1]), strict=True)
    done()


@pytest.mark.parametrize("columns", [3, 100])
def test_the_bias_gradient_of_some_columns(done, columns):
    rows = N // columns + 1
    dout = np.zeros((rows, columns), np.float32)
    dout[-1] = 1 + np.arange(columns)
    dout[0] = 0.5
    np.testing.assert_array_equal(ops.bias_grad(dout), dout[-1] + dout[0], strict=True)
    done()


def test_the_bias_gradient_of_one_row(done):
    dout = np.zeros((1, N), np.float32)
    dout[0, PLACES] = 1 + np.arange(len(PLACES))
    db = ops.bias_grad(dout)
    assert db.shape == (N,) and np.count_nonzero(db) == len(PLACES)
    np.testing.assert_array_equal(db[PLACES], dout[0, PLACES])
    done()


def test_softmax_of_one_row(done):
    x = np.zeros(N, np.float32)
    x[PLACES] = 20 + np.arange(len(PLACES)) / 4
    e = np.exp(x[PLACES].astype(float))
    total = e.sum() + N - len(PLACES)
    ops.softmax(x, out=x)
    np.testing.assert_allclose(x[PLACES], e / total, rtol=3e-7)
    np.testing.assert_allclose(x[[2, 2**31 + 2, N - 3]], 1 / total, rtol=3e-7)
    done()


def test_rows_with_labels(done):
    C = 8
    rows = N // C + 1
    y, t = np.zeros((rows, C), np.float32), np.zeros(rows, np.intp)
    t[-3:] = 7, 5, 6
    y[:-3, 0] = 1
    y[[-3, -2, -1], [7, 5, 6]] = 0.5, 0.25, 0.125
    loss = -np.log([0.5, 0.25, 0.125]).sum() / rows
    np.testing.assert_allclose(ops.cross_entropy_error(y, t, eps=0), loss, rtol=1e-6)
    ops.softmax_cross_entropy_backward(y, t, rows, out=y)
    assert not y[:-3].any()
    np.testing.assert_array_equal(y[[-3, -2, -1], [7, 5, 6]], np.float32([-0.5, -0.75, -0.875]))
    t[-1] = 8
    with pytest.raises(IndexError, match=rf"t\[{rows - 1}\] is 8"):
        ops.cross_entropy_error(y, t)
    done()
