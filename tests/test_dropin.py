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


def assert_same(a, b, what="", signs=True, narrow=False):
    """Of equal type and layout and close in value; -0.0 is not 0.0, unless it came in."""
    close = CLOSE if not narrow else dict.fromkeys(CLOSE, CLOSE["float32"])
    assert type(a) is type(b), (what, a, b)
    if isinstance(a, np.ndarray | np.generic):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), what
        if isinstance(a, np.ndarray):
            for flag in ("C_CONTIGUOUS", "F_CONTIGUOUS", "WRITEABLE"):
                assert a.flags[flag] == b.flags[flag], (what, flag)
        if a.dtype.kind in "fc" and str(a.dtype) in close:
            a, b = np.asarray(a), np.asarray(b)
            scale = np.max(np.abs(a), initial=0, where=np.isfinite(a))
            np.testing.assert_allclose(
                b, a, rtol=close[str(a.dtype)], atol=close[str(a.dtype)] / 100 * scale, err_msg=str(what)
            )
            of_zeros = (a == 0) & (b == 0) & signs
            np.testing.assert_array_equal(np.signbit(a[of_zeros]), np.signbit(b[of_zeros]), str(what))
        else:
            np.testing.assert_array_equal(a, b, str(what))
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), what
        for x, y in zip(a, b, strict=True):
            assert_same(x, y, what, signs, narrow)
    elif isinstance(a, dict):
        assert list(a) == list(b), what
        for key in a:
            assert_same(a[key], b[key], (what, key), signs, narrow)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=close["float64"], nan_ok=True), what
    elif hasattr(a, "__dict__") and not isinstance(a, type) and not callable(a):
        assert_same(vars(a), vars(b), what, signs, narrow)
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


# ---------------------------------------------------------------- layers and optimizers

LAYERS = {
    "Relu": (books.VOLUME_1, (), 1),
    "Affine": (books.VOLUME_1, ("W", "b"), 1),
    "Relu of volume 2": (books.VOLUME_2, (), 1),
    "Affine of volume 2": (books.VOLUME_2, ("W", "b"), 1),
    "Sigmoid of volume 2": (books.FUNCTIONS + books.VOLUME_2, (), 1),
    "SoftmaxWithLoss": (books.FUNCTIONS + books.VOLUME_1, (), 2),
    "SoftmaxWithLoss of volume 2": (books.FUNCTIONS + books.VOLUME_2, (), 2),
    "Relu that writes into dout": (
        "class Relu:\n  def forward(self, x):\n    self.mask = (x <= 0)\n    out = x.copy()\n    out[self.mask] = 0\n"
        "    return out\n  def backward(self, dout):\n    dout[self.mask] = 0\n    dx = dout\n    return dx",
        (),
        1,
    ),
    "ReLU that keeps x": (
        "class ReLU:\n  def forward(self, x):\n    self.x = x\n    self.y = np.maximum(x, 0)\n    return self.y\n"
        "  def backward(self, grad):\n    return np.where(self.x > 0, grad, 0)",
        (),
        1,
    ),
    "ReLU that keeps a copy and a flag": (
        "class ReLU:\n  seen = False\n  def forward(self, x):\n    self.x, self.seen, self.shape = x.copy(), True, x.shape\n"
        "    return np.maximum(x, 0)\n  def backward(self, d):\n    if not self.seen: raise RuntimeError('not yet')\n"
        "    d = d.copy()\n    d[self.x <= 0] = 0\n    return d",
        (),
        1,
    ),
    "ReLU that counts": (
        "class ReLU:\n  calls = 0\n  def forward(self, x):\n    self.calls += 1\n    self.positive = x > 0\n"
        "    return np.maximum(x, 0)\n  def backward(self, d):\n    return np.where(self.positive, d, 0) * (self.calls > 0)",
        (),
        1,
    ),
    "Linear with other names": (
        "class Linear:\n  def __init__(self, W, b): self.weight, self.bias = W, b\n  def forward(self, inp):\n"
        "    self.inp = inp\n    return inp @ self.weight + self.bias\n  def backward(self, d_out):\n"
        "    self.d_weight, self.d_bias = self.inp.T @ d_out, d_out.sum(axis=0)\n    return d_out @ self.weight.T",
        ("W", "b"),
        1,
    ),
    "Linear that scales": (
        "class Linear:\n  scale = 1.0\n  def __init__(self, W, b): self.W, self.b = W, b\n  def forward(self, x):\n"
        "    self.x = x\n    return (np.dot(x, self.W) + self.b) * self.scale\n  def backward(self, dout):\n"
        "    self.dW, self.db = np.dot(self.x.T, dout), np.sum(dout, axis=0)\n    return np.dot(dout, self.W.T)",
        ("W", "b"),
        1,
    ),
    "Dense with a row of biases": (
        "class Dense:\n  def __init__(self, W, b): self.W, self.b = W, b.reshape(1, -1)\n  def forward(self, inputs):\n"
        "    self.inputs = inputs\n    self.output = np.dot(inputs, self.W) + self.b\n  def backward(self, dvalues):\n"
        "    self.dW = np.dot(self.inputs.T, dvalues)\n    self.db = np.sum(dvalues, axis=0, keepdims=True)\n"
        "    self.dinputs = np.dot(dvalues, self.W.T)",
        ("W", "b"),
        1,
    ),
    "a loss of one-hot rows only": (
        books.FUNCTIONS + "class SoftmaxWithLoss:\n  def forward(self, x, t):\n    self.y, self.t = softmax(x), t\n"
        "    return -np.sum(t * np.log(self.y + 1e-7)) / len(x)\n  def backward(self, dout=1):\n"
        "    return (self.y - self.t) * dout / len(self.t)",
        (),
        2,
    ),
    "one-hot rows read by argmax": (
        books.FUNCTIONS + "class SoftmaxWithLoss:\n  def forward(self, x, t):\n    self.y = softmax(x)\n"
        "    self.t = np.argmax(t, axis=1) if t.ndim == 2 else t\n"
        "    return -np.mean(np.log(self.y[np.arange(len(x)), self.t] + 1e-7))\n  def backward(self, dout=1):\n"
        "    dx = self.y.copy()\n    dx[np.arange(len(dx)), self.t] -= dout\n    return dx / len(dx)",
        (),
        2,
    ),
    "a squared error": (
        "class MSELoss:\n  def forward(self, y, t):\n    self.y, self.t = y, t\n    return np.mean((y - t) ** 2)\n"
        "  def backward(self): return 2 * (self.y - self.t) / self.y.size",
        (),
        2,
    ),
    "a sigmoid with loss": (
        "class SigmoidWithLoss:\n  def forward(self, x, t):\n    self.t, self.y = t, 1 / (1 + np.exp(-x))\n"
        "    return -np.mean(t * np.log(self.y + 1e-7) + (1 - t) * np.log(1 - self.y + 1e-7))\n"
        "  def backward(self, dout=1): return (self.y - self.t) * dout / self.t.size",
        (),
        2,
    ),
}


def calls_of(seed, of_loss):
    """Arguments of forward, and of backward if the result's shape says nothing else."""
    rng = np.random.default_rng(seed)
    for dtype, N, size in itertools.product(("float64", "float32"), (8, 3, 1), (3.0, 900.0)):
        x = numbers(rng, (N, 4), dtype, size)
        if not of_loss:
            yield (x,)
            continue
        labels = rng.integers(0, 4, N)
        soft = rng.random((N, 4)).astype(dtype)
        for t in (labels, labels.astype("uint8"), np.eye(4)[labels], np.eye(4, dtype=int)[labels], soft, labels - 5):
            yield x, t
    yield (numbers(rng, (5, 4), special=SPECIAL), *([rng.integers(0, 4, 5)] if of_loss else []))
    yield (numbers(rng, 4), *([np.array(2)] if of_loss else []))
    if not of_loss:
        yield (numbers(rng, (5, 2, 2)),)
        yield (numbers(rng, (3, 5, 4)),)
        yield (numbers(rng, (4, 6)).T,)


@pytest.mark.parametrize("what", LAYERS)
def test_a_layer_leaves_behind_what_it_would(what):
    source, params, count = LAYERS[what]
    replacer = dropin.Replacer()
    name = what.split()[0] if what[0].isupper() else source.rsplit("class ", 1)[1].split(":")[0]
    plain, guarded = getattr(module(source), name), getattr(module(source, replacer), name)
    rng = np.random.default_rng(0)
    for dtype in ("float64", "float32"):
        made = {"W": numbers(rng, (4, 3), dtype), "b": numbers(rng, 3, dtype)}
        a, b = (kind(*(made[p].copy() for p in params)) for kind in (plain, guarded))
        for args in itertools.chain(calls_of(1, count == 2), calls_of(2, count == 2)):
            twins = copy.deepcopy(args)
            narrow = args[0].dtype == np.float32  # beside float64 targets
            expected = outcome(lambda: a.forward(*args))  # noqa: B023
            result = outcome(lambda: b.forward(*twins))  # noqa: B023
            assert_same(expected, result, (what, "forward", args), narrow=narrow)
            assert_same(vars(a), vars(b), (what, "after forward", args), narrow=narrow)
            assert [i for i, x in enumerate(args) if expected is x] == [i for i, x in enumerate(twins) if result is x]
            y = expected if isinstance(expected, np.ndarray) else getattr(a, "output", np.zeros(3))
            douts = () if count == 2 else (numbers(rng, y.shape, y.dtype if y.dtype.kind == "f" else "float64"),)
            twin_douts = copy.deepcopy(douts)
            expected = outcome(lambda: a.backward(*douts))  # noqa: B023
            result = outcome(lambda: b.backward(*twin_douts))  # noqa: B023
            assert_same(expected, result, (what, "backward", args), narrow=narrow)
            assert_same(vars(a), vars(b), (what, "after backward", args), narrow=narrow)
            assert_same(douts, twin_douts, (what, "dout", args))
            assert [expected is d for d in douts] == [result is d for d in twin_douts]
    assert not [d.closed for d in replacer.definitions if "could not be tried" in d.closed]
    if what not in ("ReLU that counts", "Linear that scales"):
        assert any(finding.ours for finding in replacer.findings if f".{name}." in finding.where)


OPTIMIZERS = {
    "SGD": "class SGD:\n  def __init__(self, lr=0.1): self.lr = lr\n  def update(self, params, grads):\n"
    "    for key in params.keys(): params[key] -= self.lr * grads[key]",
    "SGD of lists": "class SGD:\n  def __init__(self, lr=0.1): self.lr = lr\n  def update(self, params, grads):\n"
    "    for i in range(len(params)): params[i] -= self.lr * grads[i]",
    "SGD that makes new arrays": "class SGD:\n  def __init__(self, lr=0.1): self.lr = lr\n"
    "  def update(self, params, grads):\n    for k in grads: params[k] = params[k] - self.lr * grads[k]",
    "SGD that decays": "class SGD:\n  def __init__(self, lr=0.1): self.lr = lr\n  def update(self, params, grads):\n"
    "    for key in params: params[key] -= self.lr * grads[key]\n    self.lr *= 0.9",
    "SGD called step": "class Optimizer:\n  def __init__(self, learning_rate=0.1): self.learning_rate = learning_rate\n"
    "  def step(self, params, grads):\n    for k in params: params[k] -= self.learning_rate * grads[k]",
    "Momentum": "class Momentum:\n  def __init__(self, lr=0.1, momentum=0.9): self.lr, self.momentum, self.v = lr, momentum, None\n"
    "  def update(self, params, grads):\n    if self.v is None: self.v = {k: np.zeros_like(p) for k, p in params.items()}\n"
    "    for k in params:\n      self.v[k] = self.momentum * self.v[k] - self.lr * grads[k]\n      params[k] += self.v[k]",
    "AdaGrad": "class AdaGrad:\n  def __init__(self, lr=0.1): self.lr, self.h = lr, None\n  def update(self, params, grads):\n"
    "    if self.h is None:\n      self.h = {}\n      for k, p in params.items(): self.h[k] = np.zeros_like(p)\n"
    "    for k in params:\n      self.h[k] += grads[k] * grads[k]\n      params[k] -= self.lr * grads[k] / (np.sqrt(self.h[k]) + 1e-7)",
    "Adam": "class Adam:\n  def __init__(self, lr=0.01, beta1=0.9, beta2=0.999):\n"
    "    self.lr, self.beta1, self.beta2, self.iter, self.m, self.v = lr, beta1, beta2, 0, None, None\n"
    "  def update(self, params, grads):\n    if self.m is None:\n"
    "      self.m, self.v = ({k: np.zeros_like(p) for k, p in params.items()} for _ in range(2))\n    self.iter += 1\n"
    "    lr_t = self.lr * np.sqrt(1 - self.beta2**self.iter) / (1 - self.beta1**self.iter)\n    for k in params:\n"
    "      self.m[k] += (1 - self.beta1) * (grads[k] - self.m[k])\n"
    "      self.v[k] += (1 - self.beta2) * (grads[k] ** 2 - self.v[k])\n"
    "      params[k] -= lr_t * self.m[k] / (np.sqrt(self.v[k]) + 1e-7)",
}  # fmt: skip


@pytest.mark.parametrize("what", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_optimizer_leaves_behind_what_it_would(what, dtype):
    replacer = dropin.Replacer()
    name = OPTIMIZERS[what].split()[1].rstrip(":")
    a, b = getattr(module(OPTIMIZERS[what]), name)(), getattr(module(OPTIMIZERS[what], replacer), name)()
    rng = np.random.default_rng(0)
    arrays = {"W1": numbers(rng, (4, 3), dtype), "b1": numbers(rng, 3, dtype)}
    params = [*arrays.values()][:2] if "lists" in what else arrays
    twins = copy.deepcopy(params)
    held, held_twin = (each[0] if "lists" in what else each["W1"] for each in (params, twins))
    for step in range(12):
        grads = [np.asarray(numbers(rng, p.shape, dtype)) for p in arrays.values()]
        grads = grads[:2] if "lists" in what else dict(zip(arrays, grads, strict=True))
        if step > 8 and "lists" not in what and "new arrays" not in what:
            grads["surplus"] = np.ones(2)  # the books' update does not look at it
        for optimizer, theirs in ((a, params), (b, twins)):
            getattr(optimizer, "step" if "step" in what else "update")(theirs, copy.deepcopy(grads))
        assert_same(params, twins, (what, step))
        assert_same(vars(a), vars(b), (what, step))
        assert_same(held, held_twin)
    if "decays" not in what:
        assert replacer.findings[0].ours == (name.lower() if name != "Optimizer" else "sgd",)


def test_plain_floats_and_arrays_without_dimensions_are_updated():
    for what in ("SGD", "SGD that makes new arrays"):
        replacer = dropin.Replacer()
        a, b = module(OPTIMIZERS[what]).SGD(), module(OPTIMIZERS[what], replacer).SGD()
        for params in ({"x": -6.3, "y": 2}, {"x": np.array(0.5)}, {"W": np.ones((2, 2)), "x": np.float64(3)}):
            twins = copy.deepcopy(params)
            for _ in range(4):
                grads = {key: np.ones_like(p) * 2.5 for key, p in params.items()}
                a.update(params, grads)
                b.update(twins, copy.deepcopy(grads))
                assert_same(params, twins)


# ---------------------------------------------------------------- what a body may depend on

X = np.array([[-1.5, 0.5, 2.0], [3.0, -0.25, 1.0]])


def told(source, name="relu"):
    """The function, and what became of it."""
    replacer = dropin.Replacer()
    names = module(source, replacer)
    return getattr(names, name), lambda: replacer.findings[0], names


@pytest.mark.parametrize(
    ("source", "change"),
    [
        ("LEAK = 0.0\ndef relu(x): return np.where(x > 0, x, LEAK * x)", lambda g: g.__setitem__("LEAK", 0.5)),
        ("LEAK = 0\ndef relu(x): return np.where(x > 0, x, LEAK * x + 0.0)", lambda g: g.__setitem__("LEAK", 1)),
        ("def half(x): return 0.0 * x\ndef relu(x): return np.where(x > 0, x, half(abs(x)))", lambda g: g.__setitem__("half", abs)),
        ("class relu:\n  leak = 0.0\n  def forward(self, x): return np.where(x > 0, x, self.leak * abs(x))", lambda g: setattr(g["relu"], "leak", 2.0)),
        ("class relu:\n  def bend(self, x): return 0 * abs(x)\n  def forward(self, x): return np.where(x > 0, x, self.bend(x))", lambda g: setattr(g["relu"], "bend", lambda self, x: x)),
        ("class relu:\n  def __init__(self): self.leak = 0.0\n  def forward(self, x): return np.where(x > 0, x, self.leak * abs(x))", lambda g: g["it"].__setattr__("leak", 2.0)),
        ("class relu:\n  def __init__(self): self.scale = np.ones(3)\n  def forward(self, x): return np.maximum(x, 0) * self.scale", lambda g: g["it"].__setattr__("scale", np.array([1.0, 2.0, 3.0]))),
    ],
)  # fmt: skip
def test_what_it_reads_may_change_later(source, change):
    results = []
    for replacer in (None, dropin.Replacer()):
        names = vars(module(source, replacer))
        names = names["relu"].__globals__ if isinstance(names["relu"], types.FunctionType) else names
        made = names["relu"]
        names["it"] = made() if isinstance(made, type) else None
        if isinstance(made, type):
            names |= made.forward.__globals__ | {"it": names["it"]}
        call = names["it"].forward if names["it"] else made
        rows = [call(X.copy()) for _ in range(4)]
        change(names)
        rows += [call(X.copy()) for _ in range(4)]
        results.append(rows)
    assert_same(*results)
    assert not np.array_equal(results[0][0], results[0][-1])


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("calls = 0\ndef relu(x):\n  global calls\n  calls += 1\n  return np.maximum(x, 0)", "changes the global calls"),
        ("seen = []\ndef relu(x):\n  seen.append(x)\n  return np.maximum(x, 0)", "reads seen, which may change"),
        ("def relu(x):\n  print('relu')\n  return np.maximum(x, 0)", "calls print"),
        ("def relu(x):\n  relu.calls = 1\n  return np.maximum(x, 0)", "changes the attribute calls of another object"),
        ("def relu(x): return np.maximum(x, 0) + 0 * np.random.rand()", "draws random numbers"),
        ("import time\ndef relu(x):\n  time.time()\n  return np.maximum(x, 0)", "uses time"),
        ("def relu(x):\n  import random\n  return np.maximum(x, random.random() * 0)", "imports random"),
        ("def relu(x): return x * (x > 0) + 0.0 * x.sum()", "gives -0.0 where relu gives 0.0"),
        ("def relu(x):\n  y = np.zeros(x.shape, 'f')\n  y[x > 0] = x[x > 0]\n  return y", "gives float32 where relu gives float64"),
        ("def relu(x):\n  return eval('np.maximum(x, 0)')", "calls eval"),
        ("class Config: leak = 0\nconfig = Config()\ndef relu(x): return np.maximum(x, 0) + config.leak", "reads config, which may change"),
        ("def relu(x): return np.maximum(x, nothing)", "reads nothing, which is not there"),
    ],
)  # fmt: skip
def test_what_has_other_effects_or_is_another_thing_is_left(source, reason):
    relu, finding, _ = told(source)
    for _ in range(3):
        with redirect_stdout(io.StringIO()):
            outcome(lambda: relu(X.copy()))
    assert finding().ours == () and (reason in finding().reasons or "nothing" in source)


def test_effects_happen_once():
    source = """
        log = []
        def relu(x):
            log.append(x.shape)
            print("relu", x.shape)
            return np.maximum(x, 0)
        class Sigmoid:
            made = 0
            def __init__(self): type(self).made += 1
            def forward(self, x):
                self.out = 1 / (1 + np.exp(-x))
                return self.out
        def softmax_noise(x): return x + np.random.rand(*x.shape)
    """
    printed, results = [], []
    for replacer in (None, dropin.Replacer()):
        np.random.seed(3)  # noqa: NPY002, what scripts use
        with redirect_stdout(io.StringIO()) as out:
            names = module(source, replacer)
            for _ in range(4):
                names.relu(X.copy())
                names.Sigmoid().forward(X)
                results.append(names.softmax_noise(X))
        printed.append((out.getvalue(), names.log, names.Sigmoid.made))
    assert printed[0] == printed[1]
    assert_same(results[:4], results[4:])


def test_the_function_is_the_users_own():
    source = """
        import functools, dataclasses
        def logged(function):
            def wrapper(*args): return function(*args)
            return wrapper
        class Layer:
            "A layer."
            def __call__(self, x): return self.forward(x)
            @classmethod
            def kind(cls): return cls.__name__
        class Relu(Layer):
            leak = 0.0
            def forward(self, x, train=True):
                "Above 0."
                self.mask = x <= 0
                return np.where(self.mask, 0, x)
            def backward(self, dout): return np.where(self.mask, 0, dout)
        @logged
        def sigmoid(x): return 1 / (1 + np.exp(-x))
        def relu(inputs, /, *, scale=1.0): return np.maximum(inputs, 0) * scale
        half = functools.partial(relu, scale=0.5)
        ACT = {"relu": relu, "sigmoid": sigmoid}
        def apply(x, f=relu): return f(x)
        class Net:
            act = staticmethod(relu)
            softmax = lambda self, x: x
            @property
            def relu(self): return 3
    """
    seen = []
    for replacer in (None, dropin.Replacer()):
        names = module(source, replacer)
        layer = names.Relu()
        for _ in range(3):
            row = [layer(X), layer.forward(x=X), layer.forward(X, train=False), layer.backward(X), names.sigmoid(X)]
            row += [names.half(X), names.ACT["relu"](X), names.ACT["sigmoid"](X), names.apply(X), names.Net.act(X)]
            row += [names.Net().softmax(X), names.Net().relu, outcome(lambda: names.relu(X, 2)), outcome(names.relu)]  # noqa: B023
            row += [outcome(lambda: names.relu(inputs=X)), names.relu(X, scale=2.0)]  # noqa: B023
            seen.append(row)
        relu = names.relu
        seen.append([relu.__name__, relu.__kwdefaults__, relu.__code__.co_varnames[:2], relu.__code__.co_firstlineno])
        seen.append([names.Relu.forward.__doc__, names.Relu.__bases__[0].__name__, isinstance(layer, names.Layer)])
        seen.append([vars(layer), names.Relu.kind(), list(vars(names.Relu)), type(relu).__name__])
    half = len(seen) // 2
    assert_same(seen[:half], seen[half:])


def test_a_pickle_is_the_class_of_the_user(monkeypatch):
    replacer = dropin.Replacer()
    made = types.ModuleType("pickled")
    exec(replacer.compile("import numpy as np\n" + LAYERS["ReLU that keeps x"][0], "pickled.py", "pickled"), vars(made))
    monkeypatch.setitem(sys.modules, "pickled", made)
    layer = made.ReLU()
    for _ in range(3):
        layer.forward(X)
    again = pickle.loads(pickle.dumps(layer))
    assert type(again) is made.ReLU
    assert_same(vars(again), vars(layer))
    assert pickle.loads(pickle.dumps(made.ReLU.forward)) is made.ReLU.forward


def test_an_error_is_told_as_without(tmp_path):
    source = "import numpy as np\n\n\ndef softmax(x):\n    x = x - x.max(axis=1, keepdims=True)\n    return np.exp(x) / x.no\n"
    source += "\n\ndef relu(x):\n    return np.maximum(\n        x, 0) / np.ones(7)\n"
    path = tmp_path / "theirs.py"
    path.write_text(source)
    texts = []
    for replacer in (None, dropin.Replacer()):
        code = compile(source, path, "exec") if replacer is None else replacer.compile(source, str(path), "theirs")
        names = {}
        exec(code, names)
        for call in (lambda: names["softmax"](X[0]), lambda: names["softmax"](X), lambda: names["relu"](X)):  # noqa: B023
            for _ in range(3):
                with pytest.raises((AttributeError, ValueError)) as caught:
                    call()
                frames = traceback.extract_tb(caught.value.__traceback__)
                texts.append(
                    "".join(traceback.format_list(f for f in frames if f.filename == str(path))) + str(caught.value)
                )
    assert texts[: len(texts) // 2] == texts[len(texts) // 2 :]
    linecache.checkcache()


def test_a_body_that_raised_is_tried_again_and_recursion_is_no_trouble():
    source = """
        def relu(x):
            if x.ndim > 2: return np.array([relu(part) for part in x])
            return np.maximum(x, 0)
        def sigmoid(x, fail=False):
            if fail: raise ValueError("no")
            return 1 / (1 + np.exp(-x))
    """
    plain, guarded = module(source), module(source, dropin.Replacer())
    deep = np.arange(24.0).reshape(2, 3, 4) - 12
    for x in (deep, X, deep, X):
        assert_same(plain.relu(x), guarded.relu(x))
    for fail in (True, False, True, False, False):
        assert_same(*(outcome(lambda: names.sigmoid(X, fail)) for names in (plain, guarded)))  # noqa: B023


def test_threads_may_call_at_once():
    source = ACTIVATIONS["softmax by rows in two dimensions only"] + "\n" + books.VOLUME_1
    plain, guarded = module(source), module(source, dropin.Replacer())
    rng = np.random.default_rng(0)
    xs = [numbers(rng, shape) for shape in ((4, 3), (3,), (1, 5), (9, 2)) * 10]
    wrong = []

    def work():
        layer = guarded.Relu()
        for x in xs:
            if not np.allclose(guarded.softmax(x), plain.softmax(x)) or np.any(layer.forward(x) != np.maximum(x, 0)):
                wrong.append(x)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---------------------------------------------------------------- modules that are there already


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    """A module in a file, imported, and another that has imported from it."""
    (tmp_path / "somebodys_layers.py").write_text(
        "import numpy as np\nimport functools\n\n" + books.FUNCTIONS.replace("import numpy as np", "") + "\n\n"
        "def logged(f):\n    return lambda *a: f(*a)\n\n\n@logged\ndef relu(x):\n    return np.maximum(x, 0)\n\n\n"
        "class Old:\n    def forward(self, x):\n        return x\n"
    )
    (tmp_path / "elsewhere.py").write_text(
        "from somebodys_layers import sigmoid as squash, relu\nACT = {'s': squash}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import elsewhere
    import somebodys_layers

    yield somebodys_layers, elsewhere
    dropin.unpatch()
    for name in ("somebodys_layers", "elsewhere"):
        del sys.modules[name]


def test_patch_guards_what_is_there_whoever_holds_it(theirs):
    made, other = theirs
    sigmoid, code = made.sigmoid, made.sigmoid.__code__
    expected = sigmoid(X), made.relu(X)
    done = dropin.patch("somebodys_layers")
    assert made.sigmoid is sigmoid is other.squash and sigmoid.__code__ is not code
    for _ in range(3):
        assert_same((other.ACT["s"](X), other.relu(X)), expected)
    found = {f.where: f.ours for f in done.findings}
    assert found["somebodys_layers.sigmoid"] == ("sigmoid",) and found["somebodys_layers.relu"] == ("relu",)
    assert "somebodys_layers.sigmoid" in str(done)
    assert sigmoid.__code__.co_filename == code.co_filename and sigmoid.__code__.co_firstlineno == code.co_firstlineno
    assert not dropin.patch("somebodys_layers").findings  # it has gates already
    dropin.unpatch()
    assert sigmoid.__code__ is code
    with dropin.patch(made) as done:
        assert sigmoid.__code__ is not code
    assert sigmoid.__code__ is code


def test_what_was_given_another_code_meanwhile_keeps_it(theirs):
    made, _ = theirs
    done = dropin.patch(made)
    made.sigmoid.__code__ = (lambda x: x).__code__
    done.undo()
    assert made.sigmoid(3) == 3


def test_a_module_without_source_is_left():
    made = types.ModuleType("sourceless")
    exec("def sigmoid(x): return x", vars(made))
    with dropin.patch(made) as done:
        assert made.sigmoid(3) == 3 and done.findings == []
    with pytest.raises(ModuleNotFoundError):
        dropin.patch("no_such_module")


def test_a_changed_file_is_not_taken_for_the_module(theirs, tmp_path):
    made, _ = theirs
    path = tmp_path / "somebodys_layers.py"
    path.write_text(path.read_text().replace("np.exp(-x)", "np.exp(-2 * x)").replace("1 / (1 +", "1 / (2 +"))
    expected = made.sigmoid(X)
    with dropin.patch(made):
        for _ in range(3):
            assert_same(made.sigmoid(X), expected)


# ---------------------------------------------------------------- the gate


def test_kinds_are_told_apart():
    calls = []
    gate = Gate(None, lambda gate, frame, args: calls.append(args), lambda *_: None)
    x = np.ones((3, 2))
    unlike = [
        (x,), (x.astype("f"),), (x[0],), (x.T,), (np.ones((4, 4))[:, ::2],), (x[:1],), (x[:, :1],), (x[:0],), (x.astype(">f8"),),
        (x, x), (x, x.copy()), (x, x[0]), (1,), (2,), (True,), (1.0,), (2.0,), (np.float64(1),), ("a",), ("b",), (None,), ([x],),
        ((x,),), ({"a": x},), ({"b": x},), ({"a": x, "b": x},), ([x, x],), (np.sum,), (np.exp,), (np.exp, x), (int,), (x > 0,), (object(),),
    ]  # fmt: skip
    read_only = x.copy()
    read_only.flags.writeable = False
    unlike.append((read_only,))
    for args in unlike:
        assert not gate.is_known(*args), args
        gate.learn(args, None)
        assert gate.is_known(*copy.copy(args)), args
    assert gate.is_known(np.zeros((7, 5)))
    gate.look_at(None, True)
    gate.learn((x,), None)
    assert gate.is_known(x.copy()) and not gate.is_known(np.zeros((7, 5)))


def test_an_unknown_kind_begins_and_a_known_one_does_not():
    begun = []
    gate = Gate(None, lambda gate, frame, args: begun.append((frame.f_code.co_name, args)), lambda *_: None)

    def asking(x):
        return gate.serve(x)

    assert asking(3) is ... and begun == [("asking", (3,))]
    gate.learn((3,), None)
    assert asking(3) is ... and len(begun) == 1
    gate.is_open = False
    assert asking("x") is ... and len(begun) == 1


def test_what_a_body_reads_is_told_from_its_code():
    names = {"np": np, "eps": 1e-7}
    exec(
        "class Layer:\n  def forward(self, x):\n    self.n += 1\n    self.y = [self.k * v for v in x]\n    return np.exp(self.a) + eps",
        names,
    )
    found = reach.of(names["Layer"].forward.__code__, names, names["Layer"]())
    assert found.names == {"n", "y", "k", "a"} and found.reason == "" and 1e-7 in found.floats
    assert [(name, value) for _, name, value in found.watched] == [("eps", 1e-7)]
    for body, reason in (
        ("help(self)", "hands self on"),
        ("del self.x", "changes the attribute x of another object"),
        ("x.y = 1", "changes the attribute y of another object"),
        ("return vars(self)", "calls vars"),
        ("return self.__dict__", "reads __dict__, which its class computes"),
    ):
        exec(f"class Layer:\n  def forward(self, x): {body}", names)
        assert reach.of(names["Layer"].forward.__code__, names, names["Layer"]()).reason == reason


def test_guards_keep_the_docstring_and_leave_what_cannot_be_guarded():
    asked = []
    source = (
        "def f(x):\n    'doc'\n    return x\n\n\ndef g(*x): return x\n\n\ndef h(x): yield x\n\n\ndef k(): return 1\n"
        "\n\ndef outer(y):\n    def inner(x): return x + y\n    return inner\n\n\nasync def m(x): return x\n"
    )
    names = {}
    exec(guards.compile_guarded(source, "f.py", lambda *of: asked.append(of[:2]) or None), names)
    assert asked == [("", "f"), ("", "outer")] and names["f"].__doc__ == "doc"
    gate = Gate(None, lambda *_: None, lambda *_: None)
    exec(guards.compile_guarded(source, "f.py", lambda *_: gate), names)
    assert names["f"].__doc__ == "doc" and names["f"](4) == 4 and names["outer"](2)(3) == 5
    with pytest.raises(SyntaxError):
        guards.compile_guarded("x = (", "f.py", lambda *_: None)
