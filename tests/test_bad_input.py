"""Every backend refuses the same things with the same errors, and changes nothing."""

import contextlib
import threading
import warnings

import numpy as np
import pytest

from fastnn import reference
from fastnn.optable import OPS

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


# ---------------------------------------------------------------- losses element by element

BINARY = ["sigmoid_cross_entropy", "sigmoid_cross_entropy_backward"]
ONE_BY_ONE = [*BINARY, "mean_squared_error", "mean_squared_error_backward"]
every_float = pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])


@pytest.mark.parametrize("name", BINARY)
@every_float
def test_classes_that_are_neither_0_nor_1(kernels, name, dtype):
    y = np.full((2, 2), 0.5, dtype)
    for t, where in (
        ([[0, 1], [2, 3]], r"t\[1, 0\] is 2, which is neither"),
        (np.array([[0, 1], [1, -1]], np.int8), r"t\[1, 1\] is -1, which is neither"),
        (np.array([[255, 1], [1, 0]], np.uint8), r"t\[0, 0\] is 255, which is neither"),
    ):
        refused(kernels, name, (y, t), IndexError, where)
    refused(kernels, name, (y[:, :1], np.array([1, 7])), IndexError, r"t\[1, 0\] is 7")


@pytest.mark.parametrize("name", BINARY)
@every_float
def test_targets_that_are_no_probabilities(kernels, name, dtype):
    y = np.full(3, 0.5, dtype)
    for bad in (1.5, -0.25, np.nan, np.inf, -np.inf):
        for target_dtype in (np.float16, np.float32, np.float64):
            t = np.array([0, 1, bad], target_dtype)
            refused(kernels, name, (y, t), ValueError, r"t\[2\] is .*, which is not a probability from 0 to 1")


@pytest.mark.parametrize("name", ONE_BY_ONE)
@every_float
def test_targets_of_another_shape(kernels, name, dtype):
    y = np.full((4, 3), 0.5, dtype)
    for shape in ((4,), (3, 4), (4, 3, 1, 1), (1, 4, 3), (), (0,), (4, 1), (12,)):
        refused(kernels, name, (y, np.zeros(shape, dtype)), ValueError, "t has shape .* they must be the same")
    refused(kernels, name, (y, None), TypeError, "t must be an array of real numbers")
    refused(kernels, name, (y, y * 1j), TypeError, "t must be an array of real numbers")
    refused(kernels, name, (None, y), TypeError, "must be an array of real numbers")


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_a_mean_of_nothing(kernels, name):
    for shape in ((0,), (0, 3), (3, 0)):
        refused(kernels, name, (np.zeros(shape), np.zeros(shape)), ValueError, "is empty")


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_loss_needs_a_dimension(kernels, name):
    refused(kernels, name, (np.float64(0.5), 1), ValueError, "at least 1 dimension")


def test_numbers_of_the_losses_element_by_element(kernels):
    y = np.full(4, 0.5)
    for eps, error in ((-1, ValueError), (np.nan, ValueError), ("1", TypeError), (None, TypeError)):
        refused(kernels, "sigmoid_cross_entropy", (y, y), error, "eps must be", eps=eps)
    for name in ("sigmoid_cross_entropy_backward", "mean_squared_error_backward"):
        refused(kernels, name, (y, y, np.ones(4)), ValueError, "dout must be a single number")
        refused(kernels, name, (y, y, "1"), TypeError, "dout must be an array of real numbers")


@pytest.mark.parametrize("name", [n for n in ONE_BY_ONE if n != "mean_squared_error"])
def test_an_output_beside_the_values(kernels, name):
    y, t = np.full(8, 0.5), np.full(8, 0.25)
    for out in (np.zeros(7), np.zeros((8, 1)), np.zeros(16)[::2]):
        refused(kernels, name, (y, t), ValueError, "out (has shape|must be C-contiguous)", out=out)
        assert not out.any()
    refused(kernels, name, (y, t), TypeError, "out has dtype", out=np.zeros(8, np.float32))
    memory = np.full(9, 0.5)
    refused(kernels, name, (memory[:8], t), ValueError, "out overlaps an input", out=memory[1:])
    refused(kernels, name, (y, memory[:8]), ValueError, "out overlaps", out=memory[1:])
    np.testing.assert_array_equal(memory, np.full(9, 0.5))


# ---------------------------------------------------------------- a perceptron


def perceptron(dtype=np.float64):
    W1, W2 = np.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4), np.linspace(1, -1, 8, dtype=dtype).reshape(4, 2)
    return [np.ones((5, 3), dtype), np.array([0, 1, 1, 0, 1]), W1, np.zeros(4, dtype), W2, np.zeros(2, dtype)]


def replaced(args, position, value):
    return [*args[:position], value, *args[position + 1 :]]


PERCEPTRON = {
    "x of another width": (0, np.ones((5, 4)), ValueError, r"x has shape \(5, 4\), but W .* needs 3"),
    "x of strings": (0, np.array([["a"] * 3] * 5), TypeError, "x must be an array of real numbers"),
    "too few labels": (1, np.array([0, 1]), ValueError, r"t has shape \(2,\)"),
    "a label too large": (1, np.array([0, 1, 2, 0, 0]), IndexError, r"t\[2\] is 2"),
    "a negative label": (1, np.array([0, 1, 1, 0, -1]), IndexError, r"t\[4\] is -1"),
    "float labels": (1, np.zeros(5), TypeError, "integers, not of dtype float64"),
    "no labels": (1, None, TypeError, "t must be an array of real numbers"),
    "ragged labels": (1, [[1], [1, 2]], ValueError, "t is not an array"),
    "W of one dimension": (2, np.ones(3), ValueError, "W must have two dimensions"),
    "W of three dimensions": (2, np.ones((1, 3, 4)), ValueError, "W must have two dimensions"),
    "W is None": (2, None, TypeError, r"params\[0\] must be an array of real numbers"),
    "a wide b": (3, np.ones(5), ValueError, r"b has shape \(5,\), but W .* needs \(4,\)"),
    "b is a column": (3, np.ones((4, 1)), ValueError, r"b has shape \(4, 1\)"),
    "b is a number": (3, np.float64(1), ValueError, r"b has shape \(\)"),
    "a chain that breaks": (4, np.ones((5, 2)), ValueError, r"x has shape \(5, 4\), but W of shape \(5, 2\)"),
    "complex W": (4, np.ones((4, 2)) * 1j, TypeError, r"params\[2\] must be an array of real numbers"),
}


@pytest.mark.parametrize("kind", PERCEPTRON)
def test_perceptrons(kernels, kind):
    position, value, error, match = PERCEPTRON[kind]
    refused(kernels, "mlp_gradient", replaced(perceptron(), position, value), error, match)


def test_the_number_of_parameters(kernels):
    args = perceptron()
    for count in (2, 3, 5):
        match = f"a weight and a bias for each layer, not {count - 2} array"
        refused(kernels, "mlp_gradient", args[:count], ValueError, match)


NAMES = ["tanh", "", "ReLU", None, 1, b"relu", ("relu",), np.array(["relu"]), np.array("softmax")]


@pytest.mark.parametrize("bad", NAMES, ids=repr)
def test_unknown_activations_and_losses(kernels, bad):
    refused(kernels, "mlp_gradient", perceptron(), ValueError, "activation must be one of relu, ", activation=bad)
    refused(kernels, "mlp_gradient", perceptron(), ValueError, "loss must be one of softmax, sigmoid", loss=bad)


def test_eps_and_targets_of_a_perceptron(kernels):
    args = perceptron()
    for eps, error in ((-1e-7, ValueError), (np.inf, ValueError), ("0", TypeError)):
        refused(kernels, "mlp_gradient", args, error, "eps must be", eps=eps)
    for t, error, match in (
        (np.full((5, 2), 2), IndexError, "neither class 0 nor class 1"),
        (np.full((5, 2), np.nan), ValueError, "not a probability"),
        (np.zeros(5), ValueError, "they must be the same"),
    ):
        refused(kernels, "mlp_gradient", replaced(args, 1, t), error, match, loss="sigmoid")
    refused(kernels, "mlp_gradient", replaced(args, 1, np.zeros(5)), ValueError, "must be the same", loss="identity")
    for name in ("softmax", "sigmoid", "identity"):
        nothing = [np.ones((0, 3)), np.zeros((0, 2)), *args[2:]]
        refused(kernels, "mlp_gradient", nothing, ValueError, "is empty", loss=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_outputs_of_a_perceptron(kernels, dtype):
    args = perceptron(dtype)
    params = args[2:]
    for wrong, error, match in (
        (tuple(np.zeros_like(p) for p in params[:3]), TypeError, "out must be a tuple of 4"),
        ([np.zeros_like(p) for p in params], TypeError, "out must be a tuple of 4 .*, not list"),
        (np.zeros_like(params[0]), TypeError, "out must be a tuple of 4 .*, not ndarray"),
    ):
        refused(kernels, "mlp_gradient", args, error, match, out=wrong)
    for i, p in enumerate(params):
        others = [np.full_like(q, 7) for q in params]
        for wrong, error, match in (
            (np.zeros((*p.shape, 1), dtype), ValueError, "has shape"),
            (np.zeros(p.shape, np.float16), TypeError, "has dtype"),
            ("out", TypeError, "must be a NumPy array"),
            (p, ValueError, rf"overlaps params\[{i}\]"),
            (others[i - 1], ValueError, "has shape|overlaps"),
        ):
            given = tuple(replaced(others, i, wrong))
            refused(kernels, "mlp_gradient", args, error, rf"out\[\d\] {match}", out=given)
            assert all((array == 7).all() for array in given if array is not wrong)


def test_outputs_of_a_perceptron_apart_from_its_arguments(kernels):
    x = np.ones((3, 3))
    t, W, b = np.eye(3), np.ones((3, 3)), np.zeros(3)
    memory = np.zeros(12)
    for name, out in (
        ("x", (x, None)),
        ("t", (t, None)),
        (r"params\[0\]", (W, None)),
        (r"params\[1\]", (None, b)),
        (r"params\[0\]", (None, W[1])),
        (r"out\[0\]", (memory[:9].reshape(3, 3), memory[8:11])),
    ):
        refused(kernels, "mlp_gradient", (x, t, W, b), ValueError, rf"out\[.\] overlaps {name}", out=out)
    assert not memory.any()


# ---------------------------------------------------------------- optimizers

STEPS = {
    "sgd": (1, (0.1,)),
    "momentum": (2, (0.1, 0.9)),
    "nesterov": (2, (0.1, 0.9, 2)),
    "adagrad": (2, (0.1,)),
    "rmsprop": (2, (0.1, 0.9)),
    "adam": (3, (0.1, 0.9, 0.99, 2)),
}
every_step = pytest.mark.parametrize("name", STEPS)


def step_arguments(name, dtype=np.float64):
    arrays, constants = STEPS[name]
    return [*(np.linspace(0.1, i + 1, 12, dtype=dtype) for i in range(arrays + 1)), *constants]


@every_step
@every_float
def test_arrays_of_a_step(kernels, name, dtype):
    args = step_arguments(name, dtype)
    arrays = STEPS[name][0]
    for i in range(arrays + 1):
        for wrong in (np.ones(11, dtype), np.ones((12, 1), dtype), dtype(1)):
            refused(kernels, name, replaced(args, i, wrong), ValueError, "has shape .* they must be the same")
        for wrong in (None, np.ones(12) * 1j, np.array(["a"] * 12)):
            refused(kernels, name, replaced(args, i, wrong), TypeError, "must be an array of real numbers")
    refused(kernels, name, replaced(args, 0, np.ones(12, int)), TypeError, "p must be an array of floats")
    for i in range(1, arrays):
        for wrong in (np.ones(12, int), np.ones(12, np.longdouble)):
            refused(kernels, name, replaced(args, i, wrong), TypeError, "must be of p's dtype")


@every_step
def test_numbers_of_a_step(kernels, name):
    args = step_arguments(name)
    first = STEPS[name][0] + 1
    for i in range(first, len(args)):
        word = "(lr|momentum|decay_rate|beta1|beta2|iter|form) must be a (whole )?number, not"
        for bad in ("0.1", None, 1j, np.array([0.1]), [0.1]):
            refused(kernels, name, replaced(args, i, bad), TypeError, word)
        for bad in (np.nan, np.inf, -np.inf, 10**400, -(10**400), np.longdouble("1e4000")):
            if type(args[i]) is float:
                refused(kernels, name, replaced(args, i, bad), ValueError, "must be a finite number|is too large")
            elif type(bad) is not int:
                refused(kernels, name, replaced(args, i, bad), TypeError, "must be a whole number")
    if name == "adam":
        for i in (first + 1, first + 2):
            for bad in (-0.1, 1, 1.0, 2, np.longdouble(1) - np.finfo(np.longdouble).eps):
                refused(kernels, name, replaced(args, i, bad), ValueError, "beta. must be .* at least 0 and below 1")
        for bad in (0, -1, 2**63):
            refused(kernels, name, replaced(args, first + 3, bad), ValueError, "iter must be from 1")
    if name == "nesterov":
        for bad in (0, 3):
            refused(kernels, name, replaced(args, first + 2, bad), ValueError, "form must be from 1 to 2")


@every_step
@every_float
def test_outputs_of_a_step(kernels, name, dtype):
    args = step_arguments(name, dtype)
    arrays = STEPS[name][0]
    dp = args[arrays]
    others = [np.full(12, 7, dtype) for _ in range(arrays)]
    wrongs = [
        (np.full(11, 7, dtype), ValueError, "has shape"),
        (np.full(12, 7, np.longdouble), TypeError, "has dtype"),
        (np.full(24, 7, dtype)[::2], ValueError, "must be C-contiguous"),
        (dp, ValueError, "overlaps another array"),
        ([7.0] * 12, TypeError, "must be a NumPy array"),
    ]
    for i in range(arrays):
        for wrong, error, match in wrongs:
            given = replaced(others, i, wrong)
            out = tuple(given) if arrays > 1 else given[0]
            refused(kernels, name, args, error, rf"out(\[{i}\])? {match}", out=out)
            assert all((array == 7).all() for array in given if array is not wrong)
        memory = np.linspace(0.1, 1, 13, dtype=dtype)
        for position in range(arrays + 1):  # one element beside what is read
            out = tuple(replaced(others, i, memory[1:])) if arrays > 1 else memory[1:]
            refused(kernels, name, replaced(args, position, memory[:12]), ValueError, "out.* overlaps", out=out)
            np.testing.assert_array_equal(memory, np.linspace(0.1, 1, 13, dtype=dtype))
    if arrays > 1:
        for out in ([*others], others[0], tuple(others[:1]), (*others, None)):
            refused(kernels, name, args, TypeError, f"out must be a tuple of {arrays} arrays or None", out=out)
        swapped = (args[1], args[0], *args[2:arrays])
        refused(kernels, name, args, ValueError, r"out\[0\] overlaps", out=swapped)
        same = (others[0],) * arrays
        refused(kernels, name, args, ValueError, r"out\[1\] overlaps", out=same)


class Changing:
    """Changes another argument while it is being read."""

    def __init__(self, values, change):
        self.values, self.change = values, change

    def __array__(self, dtype=None, copy=None):
        self.change()
        return self.values


def test_arguments_that_change_while_others_are_read(kernels):
    for name in ("softmax_backward", "sigmoid_backward", "mean_squared_error", "sigmoid_cross_entropy", "add_bias"):
        x = np.full((300, 4), 0.5)
        y = Changing(np.full((300, 4), 0.5), lambda x=x: x.resize((4, 0), refcheck=False))
        with pytest.raises(ValueError):
            getattr(kernels, name)(x, y)
    for name in ("softmax_cross_entropy", "softmax_cross_entropy_and_grad", "cross_entropy_error"):
        x = np.full((300, 4), 0.5)
        t = Changing(np.zeros(300, int), lambda x=x: x.resize((4, 0), refcheck=False))
        with pytest.raises(ValueError):
            getattr(kernels, name)(x, t)
    p, v = np.ones(1000), np.ones(1000)
    dp = Changing(np.ones(1000), lambda: v.resize(1, refcheck=False))
    with pytest.raises(ValueError):
        kernels.momentum(p, v, dp, 0.1, 0.9, out=(p, v))
    x, W = np.ones((300, 4)), np.ones((4, 3000))
    with pytest.raises(ValueError):
        kernels.affine_backward(np.ones((300, 3000)), Changing(x, lambda: W.resize((4, 1), refcheck=False)), W)


def test_an_argument_that_loses_its_dimensions(kernels):
    # NumPy deprecates it but does it.
    def flatten(x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x.shape = ()

    for name in ("softmax_backward", "softmax_cross_entropy", "cross_entropy_error_backward", "add_bias"):
        x = np.ones(1)
        with pytest.raises(RuntimeError):
            getattr(kernels, name)(x, Changing(np.ones(()), lambda x=x: flatten(x)))


def test_every_argument_is_read_once(kernels):
    class Counting(Changing):
        def __init__(self, values):
            super().__init__(values, lambda: None)

        def __array__(self, dtype=None, copy=None):
            self.reads = getattr(self, "reads", 0) + 1
            return self.values

    for op in OPS.values():
        args = op.example(np.random.default_rng(0), (3, 4), np.float64)
        counting = [Counting(a) if isinstance(a, np.ndarray) else a for a in args]
        getattr(kernels, op.name)(*counting)
        getattr(reference, op.name)(*counting)
        assert {a.reads for a in counting if isinstance(a, Counting)} == {2}, op.name


class Lying(np.ndarray):
    """Says of itself what an op wants to hear."""

    @property
    def shape(self):
        return (300, 4)

    @property
    def dtype(self):
        return np.dtype(np.float64)


def test_an_output_that_lies_about_itself(kernels):
    x = np.ones((300, 4))
    for bad, error in ((np.zeros((1, 4)), ValueError), (np.zeros((300, 4), np.float32), TypeError)):
        refused(kernels, "relu", (x,), error, "out has", out=bad.view(Lying))
        refused(kernels, "affine", (x, np.eye(4), np.ones(4)), error, "out has", out=bad.view(Lying))
        refused(kernels, "sgd", (x, x.copy(), 0.1), error, "out has", out=bad.view(Lying))


class Tuple(tuple):
    def __getitem__(self, item):
        return np.zeros(1)

    def __iter__(self):
        return iter([np.zeros(1)] * 2)


def test_a_tuple_of_outputs_that_lies(kernels):
    p, v, dp = np.zeros(300), np.ones(300), np.ones(300)
    result = kernels.momentum(p, v, dp, 0.1, 0.9, out=Tuple((p, v)))
    assert result[0] is p and result[1] is v and p[0] == 0.9 - 0.1


def test_an_output_inside_what_was_copied(kernels):
    """The argument is strided, so the kernel works on a copy, which does not make its memory free."""
    buffer = np.ones((4, 6))
    weights = np.ones((3, 2)), np.zeros(2)
    inside = buffer.reshape(-1)[:6].reshape(3, 2)
    args = (buffer[:, ::2], np.zeros(4, int), *weights)
    refused(kernels, "mlp_gradient", args, ValueError, r"out\[0\] overlaps x", out=(inside, None))
    b = buffer.reshape(-1)[:4:2]
    out = buffer.reshape(-1)[:4].reshape(2, 2)
    refused(kernels, "affine", (np.ones((2, 3)), weights[0], b), ValueError, "out overlaps b", out=out)


def test_a_number_stays_one_where_another_output_is_given(kernels):
    v = np.array(1.0)
    for module in (kernels, reference):
        p, given = module.momentum(np.array(1.0), v, np.array(1.0), 0.1, 0.9, out=(None, v))
        assert isinstance(p, np.float64) and given is v
