"""fastnn's ops behind somebody else's functions and methods: never another number, effect or error than their own."""

import copy
import enum
import inspect
import io
import itertools
import linecache
import pickle
import sys
import sysconfig
import textwrap
import threading
import traceback
import types
import warnings
from contextlib import redirect_stdout
from fractions import Fraction
from pathlib import Path

import books
import numpy as np
import pytest
from somebodys import ACTIVATIONS, CHANGING, LAYERS, LEFT, OPTIMIZERS

from fastnn import dropin
from fastnn._kernels.gates import Gate, Plan, Source
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
        several = (soft < 0.5).astype("uint8")
        one_hot = np.eye(4)[labels]
        for t in (labels, labels.astype("uint8"), one_hot, one_hot.astype(int), several, soft, labels - 5):
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


CHANGES = {
    "a float of its module": lambda g: g.__setitem__("LEAK", 0.5),
    "a number of its module": lambda g: g.__setitem__("LEAK", 1),
    "a function of its module": lambda g: g.__setitem__("half", abs),
    "a built-in function": lambda g: g.__setitem__("abs", np.square),
    "what it calls np": lambda g: g.__setitem__("np", types.SimpleNamespace(maximum=np.minimum)),
    "a float of its class": lambda g: setattr(g["relu"], "leak", 2.0),
    "a method": lambda g: setattr(g["relu"], "bend", lambda self, x: x),
    "a method that its class had not": lambda g: setattr(g["relu"], "bend", lambda self, x: x),
    "a method of its own": lambda g: setattr(g["it"], "bend", lambda x: x),
    "an attribute": lambda g: g["it"].__setattr__("leak", 2.0),
    "an array that it scales by": lambda g: setattr(g["it"], "scale", np.arange(3.0)),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_it_reads_may_change_later(what):
    results = []
    for replacer in (None, dropin.Replacer()):
        names = vars(module(CHANGING[what], replacer))
        names = names["relu"].__globals__ if isinstance(names["relu"], types.FunctionType) else names
        made = names["relu"]
        names["it"] = made() if isinstance(made, type) else None
        if isinstance(made, type):
            names |= made.forward.__globals__ | {"it": names["it"]}
        call = names["it"].forward if names["it"] else made
        rows = [call(X.copy()) for _ in range(4)]
        CHANGES[what](names)
        rows += [call(X.copy()) for _ in range(4)]
        results.append(rows)
    assert_same(*results)
    assert not np.array_equal(results[0][0], results[0][-1])


@pytest.mark.parametrize("reason", LEFT)
def test_what_has_other_effects_or_is_another_thing_is_left(reason):
    relu, finding, _ = told(LEFT[reason])
    for _ in range(3):
        with redirect_stdout(io.StringIO()):
            outcome(lambda: relu(X.copy()))
    assert finding().ours == () and finding().reasons in [(reason,), ()]  # none where it never came back


def test_a_function_of_numpy_may_be_replaced_later(monkeypatch):
    sigmoid, finding, _ = told("def sigmoid(x): return 1 / (1 + np.exp(-x))", "sigmoid")
    assert_same([sigmoid(X), sigmoid(X)], [1 / (1 + np.exp(-X))] * 2)
    calls = []
    monkeypatch.setattr(np, "exp", lambda x: calls.append(x) or x * x)
    assert_same([sigmoid(X), sigmoid(X)], [1 / (1 + X * X)] * 2)
    assert len(calls) == 2
    assert finding().ours == ("sigmoid",)


@pytest.mark.parametrize("called", ["super().forward(x)", "super(Relu, self).forward(x)", "(lambda s: s)(super())"])
def test_what_super_reaches_is_followed(called):
    source = f"""
        calls = []
        class Layer:
            def forward(self, x):
                calls.append(x)
                return x * self.gain
        class Relu(Layer):
            gain = 1.0
            def forward(self, x):
                x = np.maximum(x, 0)
                return {called if "super()." in called or "super(R" in called else f"({called}).forward(x)"}
    """
    _, finding, names = told(source, "Relu")
    it = names.Relu()
    for _ in range(4):
        assert_same(it.forward(X), np.maximum(X, 0))
    it.gain = 2.0
    assert_same(it.forward(X), np.maximum(X, 0) * 2)
    assert len(names.calls) == 5 and finding().ours == ()


def test_attributes_that_a_class_computes_are_read_as_often_as_by_the_body():
    source = """
        read = []
        class Affine:
            def __init__(self, W, b): self.W, self.b = W, b
            def forward(self, x):
                self.x = x
                return x @ self.W + self.b
        class Lazy(Affine):
            W = property(lambda self: read.append("W") or self.w, lambda self, w: setattr(self, "w", w))
        class Named(Affine):
            def __init__(self, W, b): self.named = {"W": W, "b": b}
            def __getattr__(self, name):
                read.append(name)
                return self.__dict__["named"][name]
        class Freed(Affine):
            def __del__(self): read.append("freed")
    """
    rng = np.random.default_rng(0)
    x, W, b = numbers(rng, (3, 2)), numbers(rng, (2, 4)), numbers(rng, 4)
    results = []
    for replacer in (None, dropin.Replacer()):
        names = module(source, replacer)
        made = [names.Affine(W, b), names.Lazy(W, b), names.Named(W, b), names.Freed(W, b)]
        results.append([it.forward(x) for it in made for _ in range(3)])
        del made
        results[-1].append(names.read)
    assert_same(*results)


def test_shapes_may_decide():
    for shape, body in ((5, "x if len(x) % 2 else y"), (7, "x if 7 in x.shape else y"), (9, "y[:8]")):
        source = f"def relu(x):\n  y = np.maximum(x, 0)\n  return {body}"
        relu, twin = told(source)[0], module(source).relu
        for n in (4, 4, 6, shape, shape):
            x = np.linspace(-1, 1, n)
            assert_same(relu(x), twin(x), body)


def test_an_update_that_fails_midway_has_been_made_once():
    source = "class SGD:\n  def update(self, p, g):\n    for k in p: p[k] -= 0.1 * g[k]"
    results = []
    for replacer in (None, dropin.Replacer()):
        p, it = {"W": np.ones((2, 2)), "b": np.ones(2)}, module(source, replacer).SGD()
        for n in (2, 2, 2, 3):
            failed = outcome(lambda n=n, it=it, p=p: it.update(p, {"W": np.ones((2, 2)), "b": np.ones(n)}))
        results.append((p, failed))
    assert_same(*results)


# What a first call does not show: the body, calls before, and the call that tells.
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
UNSEEN = {
    "labels that do not count": (
        "def loss(y, t): return -np.sum(np.log(y[np.arange(len(t)), t] + 1e-7) * (t != 0)) / len(t)",
        (PROBABILITIES, np.array([1, 2])),
        (PROBABILITIES, np.array([0, 1])),
    ),
    "rows with more than one class": (
        "def loss(y, t): return -np.mean(np.log(y[np.arange(len(y)), np.argmax(t, axis=1)] + 1e-7))",
        (PROBABILITIES, np.array([[1, 0, 0], [0, 0, 1]])),
        (PROBABILITIES, np.array([[1, 1, 0], [0, 1, 1]])),
    ),
    "a whole number in an array": (
        "def relu(x, n): return np.maximum(x, 0) * (2 if n[0] > 0 else 1)",
        (X, np.array([0])),
        (X, np.array([3])),
    ),
    "a step over NaN": (
        "def sgd(p, g):\n  for k in p:\n    if np.isfinite(g[k]).all(): p[k] -= 0.1 * g[k]\n  return p",
        ({"W": X + 1, "b": X[0] + 1}, {"W": X, "b": X[0]}),
        ({"W": X + 1, "b": X[0] + 1}, {"W": np.full_like(X, np.nan), "b": X[0]}),
    ),
    "numbers that overflow": (
        "def relu(x): return (np.abs(x) + x) / 2",
        (X.astype("f"),),
        (np.array([[-1.0, 3e38, 1.0]] * 2, "f"),),
    ),
    "larger numbers that overflow": (
        "def relu(x): return (np.abs(x) + x) / 2",
        (X,),
        (np.array([[-1.0, 1e308, 1.0]] * 2),),
    ),
    "numbers that are none": (
        "def relu(x): return (np.abs(x) + x) / 2",
        (X.astype("f"),),
        (np.array([[-np.inf, 1.0, 2.0]] * 2, "f"),),
    ),
    "large numbers that are cut": (
        "def affine(x, W, b): return np.clip(x @ W + b, -1e4, 1e4)",
        (X, X.T, X[0, :2]),
        (X * 1e6, X.T, X[0, :2]),
    ),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_what_a_first_call_does_not_show(what):
    source, seen, unseen = UNSEEN[what]
    name = source[4 : source.index("(")]
    results = []
    for replacer in (None, dropin.Replacer()):
        call = getattr(module(source, replacer), name)
        with np.errstate(all="ignore"):
            results.append([call(*copy.deepcopy(args)) for args in (seen, seen, unseen, seen)])
    assert_same(*results)


def test_underflow_is_raised_where_numpy_raises_it():
    source = """
        def softmax(x):
            e = np.exp(x - x.max(axis=1, keepdims=True))
            return e / e.sum(axis=1, keepdims=True)
    """
    softmax, _, _ = told(source, "softmax")
    with np.errstate(all="raise"):
        for _ in range(3):
            softmax(X)
        with pytest.raises(FloatingPointError):
            softmax(X * 1000)


@pytest.mark.parametrize("follow", [sys.settrace, sys.setprofile])
def test_whoever_follows_a_script_sees_no_trial(follow):
    seen = []
    was = sys.gettrace() if follow is sys.settrace else sys.getprofile()
    relu, finding, _ = told("def relu(x): return np.maximum(x, 0)")
    follow(lambda frame, event, arg: seen.append((frame.f_code.co_name, event)))
    try:
        relu(X)
        relu(X)
    finally:
        follow(was)
    assert {name for name, event in seen if event == "call"} == {"relu"} and seen.count(("relu", "call")) == 2
    relu(X)
    relu(X)
    assert finding().ours == ("relu",)


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
    source = "import numpy as np\n\n\ndef softmax(x):\n    x = x - x.max(axis=1, keepdims=True)\n    return x / x.no\n"
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


def test_the_cells_of_a_notebook_are_guarded(monkeypatch):
    """Their text is in linecache alone, as IPython puts it there."""
    made = types.ModuleType("notebook")
    for i, cell in enumerate(
        ("import numpy as np\n\n\ndef relu(x):\n    return np.maximum(x, 0)\n", LAYERS["ReLU that keeps x"][0])
    ):
        name = f"<cell {i}>"
        monkeypatch.setitem(linecache.cache, name, (len(cell), None, cell.splitlines(keepends=True), name))
        exec(compile(cell, name, "exec"), vars(made))
    layer = made.ReLU()
    with dropin.patch(made) as patch:
        for _ in range(3):
            assert_same(made.relu(X), np.maximum(X, 0))
            layer.forward(X)  # it was made before
    assert {finding.ours for finding in patch.findings if finding.ours} == {("relu",)} and len(patch.findings) == 3


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
    alone = [
        x,
        x.astype("f"),
        x[0],
        x.T,
        np.ones((4, 4))[:, ::2],
        np.ones((4, 4))[:, ::2].T,
        x[:1],
        x[:, :1],
        x[:0],
        x.astype(">f8"),
        x > 0,
    ]
    alone += [1, 2, True, 1.0, 2.0, np.float64(1), "a", "b", None, int, np.sum, np.exp, object()]
    alone += [-1, -2, -1.0, -2.0, -0.0, np.int64(-1), np.int64(-2), 2**61 - 1, x[:, :0]]
    alone += [{-1: x}, {-2: x}, {1: x}, {True: x}, {1.0: x}]
    alone += [[x], (x,), {"a": x}, {"b": x}, {"a": x, "b": x}, [x, x]]
    unlike = [*((each,) for each in alone), (x, x), (x, x.copy()), (x, x[0]), (np.exp, x)]
    read_only = x.copy()
    read_only.flags.writeable = False
    unlike.append((read_only,))
    for args in unlike:
        assert not gate.kind_of(*args), args
        gate.learn(args, None)
        assert gate.kind_of(*copy.copy(args)), args
    assert gate.kind_of(np.zeros((7, 5)))
    gate.look_at(None, True)
    gate.learn((x,), None)
    assert gate.kind_of(x.copy()) and not gate.kind_of(np.zeros((7, 5)))


def test_what_is_no_plain_scalar_is_told_by_none():
    class Mode(enum.StrEnum):
        ON, OFF = "on", "off"

    relu, finding, _ = told("def relu(x, mode): return np.maximum(x, 0) if mode in ('on', b'on', 1j) else x * 2")
    for on, off in ((Mode.ON, Mode.OFF), (b"on", b"off"), (1j, 2j)):
        for mode in (on, on, off):
            expected = X * 2 if mode is off else np.maximum(X, 0)
            np.testing.assert_array_equal(relu(X, mode), expected)
    assert finding().ours == ()


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


def test_what_fails_amid_its_effects_is_not_done_again():
    """Theirs must not run after a plan that has begun to change something."""
    gate = Gate(None, lambda *_: None, lambda *_: None)
    held, given = [1.0], (1.0,)
    effects = (((0, (0,)), Source("constant", 2.0)), ((1, (0,)), Source("constant", 2.0)))
    gate.learn((held, given), Plan(lambda first: first, ((0,),), Source("out", 0), effects))
    with pytest.raises(TypeError, match="does not support item assignment"):
        gate.serve(held, given)
    assert held == [2.0]


def test_what_a_body_reads_is_told_from_its_code():
    names = {"np": np, "eps": 1e-7}
    exec(
        "class Layer:\n  def forward(self, x):\n    self.n += 1\n    self.y = [self.k * v for v in x]\n"
        "    return np.exp(self.a) + eps",
        names,
    )
    found = reach.of(names["Layer"].forward.__code__, names, names["Layer"]())
    assert found.names == {"n", "y", "k", "a"} and found.reason == "" and 1e-7 in found.floats
    assert [(name, value) for _, name, value in found.watched] == [("eps", 1e-7), ("np", np), ("exp", np.exp)]
    for body, reason in (
        ("help(self)", "hands self on"),
        ("del self.x", "changes the attribute x of another object"),
        ("x.y = 1", "changes the attribute y of another object"),
        ("return vars(self)", "hands self on"),
        ("return vars(x)", "calls vars"),
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
    for importing in ("import numba", "from numba import njit", "import numba.core as nb"):
        guards.compile_guarded(f"{importing}\ndef f(x): return x", "f.py", lambda *_: pytest.fail("is compiled"))
    with warnings.catch_warnings(record=True) as told_of:
        warnings.simplefilter("always")
        guards.compile_guarded("def f(x): return '\\d'", "f.py", lambda *_: gate)
    assert len(told_of) == 1


def test_any_source_can_be_guarded():
    folder = Path(sysconfig.get_path("stdlib"))
    gates = []

    def choose(*of):
        gates.append(Gate(of[2], lambda *_: None, lambda *_: None))
        return gates[-1]

    run = ["colorsys", "heapq", "textwrap", "fractions"]
    for path in [*(folder / f"{name}.py" for name in run), *sorted(folder.glob("*.py"))[::5]]:
        source = path.read_bytes()
        names = {"__name__": path.stem}
        code = guards.compile_guarded(source, str(path), choose)
        if path.stem in run:
            exec(code, names)
            for name, each in vars(__import__(path.stem)).items():
                if isinstance(each, types.FunctionType) and each.__module__ == path.stem:
                    assert inspect.signature(names[name]) == inspect.signature(each)
                    assert inspect.getsource(names[name]) == inspect.getsource(each)
            if path.stem == "textwrap":
                text = "some words " * 30
                assert names["wrap"](text, 20) == textwrap.wrap(text, 20)
            if path.stem == "fractions":
                a, b = (kind(3, 7) ** 2 + kind("1.5") for kind in (names["Fraction"], Fraction))
                assert str(a) == str(b) and a.limit_denominator(9) == b.limit_denominator(9)
    assert len(gates) > 500
