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
