"""Every backend refuses the same things with the same errors, and changes nothing."""

import contextlib
import threading

import numpy as np
import pytest

from fastnn import reference

Y = np.full((4, 3), 1 / 3)
LOSSES = [
    "cross_entropy_error",
    "cross_entropy_error_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_and_grad",
]

LABELS = {
    "too large": ([0, 1, 3, 5], IndexError, r"t\[2\] is 3.* 3 classes"),
    "negative": ([0, -1, 2, 1], IndexError, r"t\[1\] is -1"),
    "beyond int64": (np.array([0, 2**64 - 1, 0, 0], np.uint64), IndexError, r"t\[1\] is 18446744073709551615"),
    "int8 below": (np.array([0, 0, 0, -128], np.int8), IndexError, r"t\[3\] is -128"),
    "column": (np.array([[0], [1], [9], [0]]), IndexError, r"t\[2\] is 9"),
    "too few": ([0, 1, 2], ValueError, r"t has shape \(3,\)"),
    "too many": ([0, 1, 2, 0, 1], ValueError, r"t has shape \(5,\)"),
    "a scalar": (1, ValueError, r"t has shape \(\)"),
    "wrong ndim": (np.zeros((4, 3, 1)), ValueError, r"t has shape \(4, 3, 1\)"),
    "wrong width": (np.zeros((4, 2)), ValueError, r"t has shape \(4, 2\)"),
    "float": ([0.0, 1.0, 2.0, 0.0], TypeError, "integers, not of dtype float64"),
    "bool": ([True, False, True, True], TypeError, "integers, not of dtype bool"),
    "float column": (np.zeros((4, 1)), TypeError, "integers, not of dtype float64"),
    "string": (["a", "b", "c", "d"], TypeError, "t must be an array of real numbers"),
    "none": (None, TypeError, "t must be an array of real numbers"),
}


def refused(kernels, name, args, error, match, **kwargs):
    before = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    for module in (reference, kernels):
        with pytest.raises(error, match=match) as info:
            getattr(module, name)(*args, **kwargs)
        assert type(info.value) is error
    for a, b in zip(args, before, strict=True):
        if isinstance(b, np.ndarray):
            np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_labels(kernels, name, kind, dtype):
    t, error, match = LABELS[kind]
    refused(kernels, name, (Y.astype(dtype), t), error, match)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0,), (0, 0), (2, 0, 3)])
def test_a_loss_of_nothing(kernels, name, shape):
    refused(kernels, name, (np.zeros(shape), np.zeros(shape[:-1], int)), ValueError, "is empty")


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_needs_a_row(kernels, name):
    refused(kernels, name, (np.float64(0.5), 0), ValueError, "at least 1 dimension")


@pytest.mark.parametrize("name", [n for n in LOSSES if n != "softmax_cross_entropy_backward"])
def test_eps(kernels, name):
    for eps in (-1e-7, np.nan, np.inf):
        refused(kernels, name, (Y, [0, 1, 2, 0]), ValueError, "eps must be a finite number", eps=eps)
    for eps in ("0.1", None, 1j, np.array([0.1])):
        refused(kernels, name, (Y, [0, 1, 2, 0]), TypeError, "eps must be a number", eps=eps)
    refused(kernels, name, (Y, [0, 1, 2, 0]), ValueError, "eps is too large", eps=10**400)


@pytest.mark.parametrize("name", [n for n in LOSSES if n.endswith(("_backward", "_and_grad"))])
def test_dout_of_a_loss_is_one_number(kernels, name):
    refused(kernels, name, (Y, [0, 1, 2, 0], np.ones(4)), ValueError, r"dout must be a single number.*\(4,\)")
    refused(kernels, name, (Y, [0, 1, 2, 0], "1"), TypeError, "dout must be an array of real numbers")
    refused(kernels, name, (Y, [0, 1, 2, 0], 10**400), ValueError, "dout is too large")


def test_the_first_of_two_bad_arguments_is_the_same(kernels):
    refused(kernels, "cross_entropy_error_backward", (Y, [0, 1, 2, 0], "x"), ValueError, "eps must be", eps=-1)
    t = np.eye(3, dtype=int)
    refused(kernels, "softmax_cross_entropy", (np.eye(3), t), TypeError, "out has dtype", out=t)


class Sly:
    """Changes the labels while a number is being read from it."""

    def __init__(self, t):
        self.t = t

    def __array__(self, dtype=None, copy=None):
        self.t[:] = 2**40
        return np.array(1.0)


@pytest.mark.parametrize("name", [n for n in LOSSES if n.endswith(("_backward", "_and_grad"))])
def test_labels_that_change_while_arguments_are_read(module, name):
    t = np.zeros(1000, np.intp)
    with pytest.raises(IndexError, match="1099511627776"):
        getattr(module, name)(np.full((1000, 10), 0.1), t, Sly(t))


def test_labels_that_another_thread_changes(kernels):
    y, t = np.full((40000, 10), 0.1), np.zeros(40000, np.intp)
    out, stop = np.empty_like(y), threading.Event()

    def change():
        while not stop.is_set():
            t[-1000:] = 2**40
            t[-1000:] = 0

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            with contextlib.suppress(IndexError, RuntimeError):
                kernels.softmax_cross_entropy_backward(y, t, out=out)
    finally:
        stop.set()
        thread.join()


NOT_REAL = [np.array(["a", "b"]), np.array([1j, 2j]), np.array([None, 1]), np.array(["2020"], "M8")]


@pytest.mark.parametrize("bad", NOT_REAL)
@pytest.mark.parametrize("name", ["relu", "relu_with_mask", "sigmoid", "softmax", "bias_grad"])
def test_not_real_numbers(kernels, name, bad):
    refused(kernels, name, (bad,), TypeError, "must be an array of real numbers, not of dtype")


@pytest.mark.parametrize("name", ["relu", "sigmoid", "softmax"])
def test_ragged_lists(kernels, name):
    refused(kernels, name, ([[1.0, 2.0], [3.0]],), ValueError, "x is not an array")


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_shapes_that_do_not_go_together(kernels, dtype):
    a, b = np.ones((4, 3), dtype), np.ones((3, 4), dtype)
    refused(kernels, "sigmoid_backward", (a, b), ValueError, r"dout has shape \(4, 3\), but y has shape \(3, 4\)")
    refused(kernels, "softmax_backward", (a, b), ValueError, r"dout has shape \(4, 3\), but y has shape \(3, 4\)")
    refused(kernels, "softmax_backward", (a[0], a), ValueError, "dout has shape")
    refused(kernels, "relu_backward", (a, b > 0), ValueError, "mask has shape")
    refused(kernels, "relu_backward", (a, a), TypeError, "mask must be an array of bool")
    refused(kernels, "relu_backward", (a, None), TypeError, "mask must be an array of real numbers")
    for wrong in (np.ones(4, dtype), np.ones((3, 1), dtype), np.ones((4, 3), dtype), dtype(1)):
        refused(kernels, "add_bias", (a, wrong), ValueError, "b has shape")


@pytest.mark.parametrize("name", ["softmax", "bias_grad"])
def test_a_row_is_needed(kernels, name):
    refused(kernels, name, (np.float64(1.0),), ValueError, "must have at least 1 dimension")


def test_a_bias_may_be_a_row(kernels):
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(kernels.add_bias(a, np.array([[1.0, 2.0, 3.0]])), a + [1, 2, 3], strict=True)
