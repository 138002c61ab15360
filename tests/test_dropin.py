"""fastnn's ops behind somebody else's functions and methods: never another number, effect or error than their own."""

import copy
import io
import itertools
import linecache
import pickle
import sys
import textwrap
import threading
import traceback
import types
from contextlib import redirect_stdout

import books
import numpy as np
import pytest

from fastnn import dropin
from fastnn._kernels.gates import Gate
from fastnn.dropin import guards, reach

CLOSE = {"float64": 1e-11, "float32": 1e-4}


def module(source, replacer=None):
    """A module's names, guarded or as they are."""
    source = "import numpy as np\n" + textwrap.dedent(source)
    names = {"__name__": "somebodys"}
    if replacer is None:
        exec(compile(source, "somebodys.py", "exec", dont_inherit=True), names)
    else:
        exec(replacer.compile(source, "somebodys.py", "somebodys"), names)
    return types.SimpleNamespace(**names)


def outcome(call):
    """What a call gives, or how it fails."""
    try:
        with np.errstate(all="ignore"):
            return call()
    except Exception as error:
        return type(error), str(error)


def assert_same(a, b, what="", signs=True):
    """Of equal type and layout and close in value; -0.0 is not 0.0, unless it came in."""
    assert type(a) is type(b), (what, a, b)
    if isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), what
        if isinstance(a, np.ndarray):
            for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE"):
                assert a.flags[flag] == b.flags[flag], (what, flag)
        if a.dtype.kind in "fc" and str(a.dtype) in CLOSE:
            a, b = np.asarray(a), np.asarray(b)
            scale = np.max(np.abs(a), initial=0, where=np.isfinite(a))
            np.testing.assert_allclose(b, a, rtol=CLOSE[str(a.dtype)], atol=1e-13 * scale, err_msg=str(what))
            of_zeros = (a == 0) & (b == 0) & signs
            np.testing.assert_array_equal(np.signbit(a[of_zeros]), np.signbit(b[of_zeros]), str(what))
        else:
            np.testing.assert_array_equal(a, b, str(what))
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), what
        for x, y in zip(a, b, strict=True):
            assert_same(x, y, what)
    elif isinstance(a, dict):
        assert list(a) == list(b), what
        for key in a:
            assert_same(a[key], b[key], (what, key))
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=1e-11, nan_ok=True), what
    elif hasattr(a, "__dict__") and not isinstance(a, type) and not callable(a):
        assert_same(vars(a), vars(b), what)
    elif not callable(a):
        assert a == b, what


def numbers(rng, shape, dtype="float64", size=3.0, special=()):
    x = size * rng.standard_normal(shape)
    if special:
        x.reshape(-1)[: len(special)] = special[: x.size]
    return x.astype(dtype)


SPECIAL = (np.nan, np.inf, -np.inf)


def inputs(seed):
    """Arrays of all kinds, in an order of their own."""
    rng = np.random.default_rng(seed)
    found = []
    for dtype, size in itertools.product(("float64", "float32"), (1e-3, 3.0, 40.0, 100.0, 800.0)):
        for shape in ((4,), (6, 5), (1, 5), (6, 1), (2, 3, 4)):
            found.append(numbers(rng, shape, dtype, size))
    for dtype in ("float64", "float32"):
        found += [
            numbers(rng, (6, 5), dtype, special=SPECIAL),
            numbers(rng, (6, 5), dtype, special=SPECIAL[:1]),
            np.zeros((6, 5), dtype),
            -np.zeros((6, 5), dtype),
            np.full((6, 5), 5e-324, "float64").astype(dtype),
            np.asfortranarray(numbers(rng, (6, 5), dtype)),
            numbers(rng, (6, 10), dtype)[:, ::2],
            numbers(rng, (6, 5), dtype)[::-1],
            np.ones((0, 5), dtype),
            numbers(rng, (), dtype),
        ]
    found += [np.arange(-6, 6).reshape(3, 4), np.arange(-3, 3), numbers(rng, (6, 5)).astype("float16")]
    found += [2.5, -1, 0.0, True, np.float64(-1.5), np.float32(2), [1.0, -2.0], numbers(rng, (6, 5)).astype(">f8")]
    rng.shuffle(found := np.array([*found, None], object)[:-1])
    return list(found)


ACTIVATIONS = {
    "by a mask": "def relu(x):\n  y = x.copy()\n  y[x <= 0] = 0\n  return y",
    "by maximum": "def relu(x): return np.maximum(0, x)",
    "by where": "def relu(x): return np.where(x > 0, x, 0)",
    "by product": "def relu(x): return x * (x > 0)",
    "in place": "def relu(x):\n  x[x < 0] = 0\n  return x",
    "by its absolute value": "def relu(x): return (abs(x) + x) / 2",
    "as float64": "def relu(x):\n  y = np.zeros(x.shape)\n  y[x > 0] = x[x > 0]\n  return y",
    "itself where nothing is below 0": "def relu(x): return x if np.all(x > 0) else np.maximum(x, 0)",
    "clipped": "def relu(x): return np.clip(x, 0, 6)",
    "clipped far away": "def relu(x): return np.clip(x, 0, 500)",
    "leaky": "def relu(x): return np.where(x > 0, x, 0.01 * x)",
    "leaky by its class": "class relu:\n  leak = 0.0\n  def forward(self, x): return np.where(x > 0, x, self.leak * x)",
    "of numbers only": "def relu(x): return max(0, x)",
    "a sigmoid": "def sigmoid(x): return 1 / (1 + np.exp(-x))",
    "a sigmoid that clips": "def sigmoid(x): return 1 / (1 + np.exp(-np.clip(x, -30, 30)))",
    "a sigmoid that clips far away": "def sigmoid(x): return 1 / (1 + np.exp(-np.clip(x, -500, 500)))",
    "a sigmoid by tanh": "def sigmoid(x): return 0.5 * (1 + np.tanh(x / 2))",
    "a sigmoid in two": "def sigmoid(x): return np.where(x >= 0, 1 / (1 + np.exp(-x)), np.exp(x) / (1 + np.exp(x)))",
    "its derivative": "def sigmoid_prime(x):\n  s = 1 / (1 + np.exp(-x))\n  return s * (1 - s)",
    "its derivative by its value": "def d_sigmoid(y): return y * (1 - y)",
    "a steeper one": "def sigmoid(x): return 1 / (1 + np.exp(-1.0000001 * x))",
    "tanh": "def tanh(x): return np.tanh(x)",
    "tanh by exp": "def tanh(x): return (np.exp(x) - np.exp(-x)) / (np.exp(x) + np.exp(-x))",
    "softmax": "def softmax(x):\n  e = np.exp(x - np.max(x, axis=-1, keepdims=True))\n  return e / np.sum(e, axis=-1, keepdims=True)",
    "softmax of all": "def softmax(x):\n  e = np.exp(x - np.max(x))\n  return e / np.sum(e)",
    "softmax that overflows": "def softmax(x):\n  e = np.exp(x)\n  return e / np.sum(e, axis=-1, keepdims=True)",
    "softmax by rows in two dimensions only": (
        "def softmax(x):\n  if x.ndim == 2:\n    e = np.exp(x - x.max(axis=1, keepdims=True))\n"
        "    return e / e.sum(axis=1, keepdims=True)\n  e = np.exp(x - x.max())\n  return e / e.sum()"
    ),
    "softmax of columns": "def softmax(x):\n  e = np.exp(x - np.max(x, axis=0))\n  return e / np.sum(e, axis=0)",
    "softmax that refuses": "def softmax(x):\n  assert x.shape[0] != 6\n  e = np.exp(x - x.max(-1, keepdims=True))\n  return e / e.sum(-1, keepdims=True)",
}  # fmt: skip


def has_minus_zero(x):
    return bool(np.any((np.asarray(x) == 0) & np.signbit(np.asarray(x, float))))


def of(names):
    """The function in there, or the forward of the class."""
    found = next(v for k, v in vars(names).items() if k not in ("np", "__name__", "__builtins__"))
    return found().forward if isinstance(found, type) else found


@pytest.mark.parametrize("what", ACTIVATIONS)
def test_a_function_never_gives_another_number(what):
    replacer = dropin.Replacer()
    plain, guarded = of(module(ACTIVATIONS[what])), of(module(ACTIVATIONS[what], replacer))
    for seed in range(2):
        for x in inputs(seed):
            for _ in range(2):
                a, b = copy.deepcopy(x), copy.deepcopy(x)
                expected, result = outcome(lambda: plain(a)), outcome(lambda: guarded(b))  # noqa: B023
                assert_same(expected, result, (what, x), not has_minus_zero(x))
                assert (expected is a) == (result is b), what
                assert_same(a, b, what, not has_minus_zero(x))
    assert "could not be tried: " not in replacer.definitions[0].closed


SERVED = {
    "by a mask": "relu", "by maximum": "relu", "by where": "relu", "in place": "relu", "a sigmoid": "sigmoid",
    "a sigmoid that clips": "sigmoid", "its derivative": "sigmoid_grad", "tanh": "tanh", "softmax": "softmax",
    "softmax that overflows": "softmax", "softmax by rows in two dimensions only": "softmax",
}  # fmt: skip


@pytest.mark.parametrize("what", SERVED)
def test_what_is_fastnns_is_served(what):
    replacer = dropin.Replacer()
    function = of(module(ACTIVATIONS[what], replacer))
    for _ in range(2):
        function(numbers(np.random.default_rng(0), (6, 5)))
    [finding] = replacer.findings
    assert finding.ours == (SERVED[what],)
