"""The books' function names."""

import numpy as np
import pytest

import fastnn


@pytest.mark.usefixtures("backend")
def test_functions_on_every_backend():
    x = np.array([[-2.0, 0.0, 3.0]])
    assert fastnn.identity_function(x) is x
    np.testing.assert_array_equal(fastnn.step_function(x), np.array([[0, 0, 1]]), strict=True)
    np.testing.assert_array_equal(fastnn.relu(x), [[0, 0, 3]])
    np.testing.assert_array_equal(fastnn.relu_grad(x), [[0, 0, 1]])
    np.testing.assert_allclose(fastnn.sigmoid(x), 1 / (1 + np.exp(-x)))
    np.testing.assert_allclose(fastnn.sigmoid_grad(x), np.exp(-x) / (1 + np.exp(-x)) ** 2)
    np.testing.assert_allclose(fastnn.softmax(x), np.exp(x) / np.exp(x).sum())
    y, t = fastnn.softmax(x), np.array([2])
    assert fastnn.cross_entropy_error(y, t) == pytest.approx(-np.log(y[0, 2] + 1e-7))
    assert fastnn.cross_entropy_error(y, np.array([[0, 0, 1]])) == fastnn.cross_entropy_error(y, t)
    assert fastnn.softmax_loss(x, t) == pytest.approx(fastnn.cross_entropy_error(y, t))


def test_squared_errors():
    y, t = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 2.0], [3.0, 1.0]])
    assert fastnn.sum_squared_error(y, t) == 5.0
    assert fastnn.mean_squared_error(y, t) == 1.25
    for dtype, a, b in (("u1", 255, 0), ("i1", 100, -100), ("i4", 50000, 0), ("?", 1, 0)):
        assert fastnn.sum_squared_error(np.array([a], dtype), np.array([b], dtype)) == 0.5 * (a - b) ** 2
    with pytest.raises(ValueError, match="t has shape"):
        fastnn.mean_squared_error(y, t[0])
    with pytest.raises(ValueError, match="y is empty"):
        fastnn.mean_squared_error([], [])


def test_scalars():
    assert fastnn.step_function(3.0) == 1
    assert fastnn.relu(-1.5) == 0
    assert fastnn.sigmoid(0.0) == 0.5
    assert fastnn.sigmoid_grad(0.0) == 0.25
    assert fastnn.relu_grad(2) == 1


def test_every_name_is_exported_and_documented():
    for name in fastnn.__all__:
        documented = getattr(fastnn, name).__doc__
        assert documented and len(documented) > 40, name
