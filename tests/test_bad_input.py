"""Every backend refuses the same things with the same errors, and changes nothing.

The op table has what is refused; here is what one call does not show.
"""

import contextlib
import gc
import re
import threading
import warnings
from itertools import combinations

import numpy as np
import pytest
from conftest import MODULES
from layer_cases import LAYERS, made, name_of
from processes import python

import fastnn
from fastnn import Affine, Relu, Sequential, Trainer, data, graph
from fastnn.optable import OPS, as_tuple
from fastnn.training import clip_grads, mini_batches

Y = np.full((4, 3), 1 / 3)

every_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)


def contents(args, kwargs):
    """The bytes of every array among the arguments and outputs."""
    return [a.tobytes() for a in (*args, *as_tuple(kwargs.get("out"))) if isinstance(a, np.ndarray)]


def refused(name, args, error, match, **kwargs):
    """By every backend, with this very error."""
    before = contents(args, kwargs)

    def call(backend):
        return f"{name} of {[a.shape if isinstance(a, np.ndarray) else a for a in args]}, {kwargs}, on {backend}"

    for backend, module in MODULES.items():
        try:
            getattr(module, name)(*args, **kwargs)
        except Exception as raised:
            right = type(raised) is error and re.search(match, str(raised))
            assert right, f"{call(backend)}: {raised!r} instead of {error.__name__}, {match!r}"
        else:
            pytest.fail(f"{call(backend)}: no {error.__name__}, {match!r}")
        assert contents(args, kwargs) == before, f"{call(backend)} changed something"


@every_op
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda dtype: dtype.__name__)
def test_what_the_op_table_says_is_refused(rng, op, dtype):
    for args, kwargs, error, match in op.wrong(rng, dtype):
        refused(op.name, args, error, match, **kwargs)


@every_op
def test_the_op_table_refuses_something_of_every_argument(rng, op):
    matches = [match for *_, match in op.wrong(rng, np.float64)]
    for name in (*op.names, *(name for name, p in op.parameters.items() if p.default is not p.empty)):
        assert any(match.startswith(f"^{re.escape(name)}") for match in matches), name


def test_the_first_of_two_bad_arguments_is_the_same():
    refused("cross_entropy_error_backward", (Y, [0, 1, 2, 0], "x"), ValueError, "eps must be", eps=-1)
    t = np.eye(3, dtype=int)
    refused("softmax_cross_entropy", (np.eye(3), t), TypeError, "out has dtype", out=t)


# ---------------------------------------------------------------- masked arrays


def masked(a):
    return np.ma.masked_array(a, mask=np.arange(np.size(a)).reshape(np.shape(a)) == 1)


@pytest.mark.parametrize("layer_class", LAYERS, ids=name_of)
def test_layers_refuse_masked_arrays(rng, layer_class):
    layer, args = made(layer_class, rng)
    for i, a in enumerate(args):
        if isinstance(a, np.ndarray):
            with pytest.raises(TypeError, match=" is a masked array"):
                layer.forward(*args[:i], masked(a), *args[i + 1 :])
    y = layer.forward(*args)
    if not layer.is_loss:
        with pytest.raises(TypeError, match="^dout is a masked array"):
            layer.backward(masked(np.ones_like(y)))
    if hasattr(layer, "accuracy"):
        for given, name in (((masked(args[0]), args[1]), "x"), ((args[0], masked(args[1])), "t")):
            with pytest.raises(TypeError, match=f"^{name} is a masked array"):
                layer.accuracy(*given)
    for i, name in enumerate(layer.parameters):
        layer, args = made(layer_class, rng)
        layer.params[i] = masked(layer.params[i])
        with pytest.raises(TypeError, match=f"^{name} is a masked array"):
            layer.forward(*args)


@pytest.mark.parametrize("known", [True, False])
def test_networks_and_trainers_refuse_masked_arrays(known):
    layers = [Affine(np.ones((2, 3)), np.zeros(3)), Relu(), Affine(np.ones((3, 2)), np.zeros(2))]
    network = Sequential(layers if known else [Relu(), *layers])
    trainer = Trainer(network, callbacks=[] if known else [lambda trainer: None])
    x, t = np.ones((30, 2)), np.arange(30) % 2
    before = [p.copy() for p in network.params]
    for name, a, b in (("x", masked(x), t), ("t", x, masked(t)), ("t", x, masked(data.one_hot(t)))):
        for call in (
            network.loss, network.accuracy, network.loss_and_gradient, network.numerical_gradient,
            trainer.step, trainer.fit, lambda a, b: trainer.fit(a, b, batch_size=10, epochs=20),
            lambda a, b: trainer.fit_samples([(a, b)]), lambda a, b: next(mini_batches(a, b, 10)),
            lambda a, b: trainer.evaluate((a, b), (a, b)), lambda a, b: data.train_test_split(a, b),
        ):  # fmt: skip
            with pytest.raises(TypeError, match=f"^{name} is a masked array"):
                call(a, b)
        assert not trainer.losses
    with pytest.raises(TypeError, match="^x is a masked array"):
        network.predict(masked(x))
    for p, kept in zip(network.params, before, strict=True):
        np.testing.assert_array_equal(p, kept)


def test_what_else_takes_arrays_refuses_masked_ones():
    x = masked(np.ones(3))
    for name, call in (
        ("t", lambda: data.one_hot(masked(np.array([0, 1, 2])))),
        ("x", lambda: fastnn.numerical_gradient(np.sum, x)),
        ("grads", lambda: clip_grads([np.ones(3), x], 1.0)),
        ("x", lambda: fastnn.step_function(x)),
        ("x", lambda: fastnn.relu_grad(x)),
        ("x", lambda: fastnn.sigmoid_grad(x)),
        ("y", lambda: fastnn.sum_squared_error(x, np.ones(3))),
        ("value", lambda: graph.Graph().input(x)),
    ):
        with pytest.raises(TypeError, match=f"^{name} (is|holds) a masked array"):
            call()


class Sly:
    """Changes the labels while a number is being read from it."""

    def __init__(self, t):
        self.t = t

    def __array__(self, dtype=None, copy=None):
        self.t[:] = 2**40
        return np.array(1.0)


def test_labels_that_change_while_arguments_are_read(module):
    for op in OPS.values():
        if op.family == "losses" and "dout" in op.parameters:
            y, t = op.example(np.random.default_rng(0), (1000, 10), np.float64)
            if t.dtype.kind == "i":
                with pytest.raises(IndexError, match="1099511627776"):
                    getattr(module, op.name)(y, t, Sly(t))


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


def test_a_bias_may_be_a_row(kernels):
    a = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(kernels.add_bias(a, np.array([[1.0, 2.0, 3.0]])), a + [1, 2, 3], strict=True)


def test_outputs_of_a_perceptron_apart_from_its_arguments():
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
        refused("mlp_gradient", (x, t, W, b), ValueError, rf"out\[.\] overlaps {name}", out=out)
    assert not memory.any()


class Changing:
    """Changes another argument while it is being read."""

    def __init__(self, values, change):
        self.values, self.change = values, change

    def __array__(self, dtype=None, copy=None):
        self.change()
        return self.values


@every_op
def test_arguments_that_change_while_others_are_read(op):
    for backend, module in MODULES.items():
        for changed, read in combinations(range(len(op.names)), 2):
            args = [*op.example(np.random.default_rng(0), op.shapes[0], np.float64)]
            if np.ndim(args[changed]) and np.ndim(args[read]):
                array = args[changed] = args[changed].copy()
                args[read] = Changing(args[read], lambda array=array: array.resize((1,) * array.ndim, refcheck=False))
                if op.names[changed] == "order":  # a part of one is an order, too
                    getattr(module, op.name)(*args)
                    continue
                with pytest.raises(ValueError):
                    getattr(module, op.name)(*args)
                    pytest.fail(f"{backend}: {op.names[changed]} became smaller while {op.names[read]} was read")


def test_a_state_that_changes_while_its_gradient_is_read(module):
    p, v = np.ones(1000), np.ones(1000)
    dp = Changing(np.ones(1000), lambda: v.resize(1, refcheck=False))
    with pytest.raises(ValueError):
        module.momentum(p, v, dp, 0.1, 0.9, out=(p, v))


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


def test_every_argument_is_read_once():
    class Counting(Changing):
        def __init__(self, values):
            super().__init__(values, lambda: None)

        def __array__(self, dtype=None, copy=None):
            self.reads = getattr(self, "reads", 0) + 1
            return self.values

    for op in OPS.values():
        args = op.example(np.random.default_rng(0), op.shapes[0], np.float64)
        counting = [Counting(a) if isinstance(a, np.ndarray) else a for a in args]
        for module in MODULES.values():
            getattr(module, op.name)(*counting)
        assert {a.reads for a in counting if isinstance(a, Counting)} == {len(MODULES)}, op.name


class Lying(np.ndarray):
    """Says of itself what an op wants to hear."""

    @property
    def shape(self):
        return (300, 4)

    @property
    def dtype(self):
        return np.dtype(np.float64)


def test_an_output_over_a_column_of_targets():
    memory = np.zeros(12)
    said = set()
    for module in MODULES.values():
        with pytest.raises(ValueError, match="^out overlaps an input of shape") as caught:
            module.mean_squared_error_backward(
                np.zeros((2, 5)), memory[:10].reshape(2, 5, 1), out=memory[2:].reshape(2, 5)
            )
        said.add(str(caught.value))
    assert len(said) == 1


def test_an_output_that_lies_about_itself():
    x = np.ones((300, 4))
    for bad, error in ((np.zeros((1, 4)), ValueError), (np.zeros((300, 4), np.float32), TypeError)):
        refused("relu", (x,), error, "out has", out=bad.view(Lying))
        refused("affine", (x, np.eye(4), np.ones(4)), error, "out has", out=bad.view(Lying))
        refused("sgd", (x, x.copy(), 0.1), error, "out has", out=bad.view(Lying))


class Tuple(tuple):
    def __getitem__(self, item):
        return np.zeros(1)

    def __iter__(self):
        return iter([np.zeros(1)] * 2)


def test_a_tuple_of_outputs_that_lies(kernels):
    p, v, dp = np.zeros(300), np.ones(300), np.ones(300)
    result = kernels.momentum(p, v, dp, 0.1, 0.9, out=Tuple((p, v)))
    assert result[0] is p and result[1] is v and p[0] == 0.9 - 0.1


def test_an_output_inside_what_was_copied():
    """The argument is strided, so the kernel works on a copy, which does not make its memory free."""
    buffer = np.ones((4, 6))
    weights = np.ones((3, 2)), np.zeros(2)
    inside = buffer.reshape(-1)[:6].reshape(3, 2)
    args = (buffer[:, ::2], np.zeros(4, int), *weights)
    refused("mlp_gradient", args, ValueError, r"out\[0\] overlaps x", out=(inside, None))
    b = buffer.reshape(-1)[:4:2]
    out = buffer.reshape(-1)[:4].reshape(2, 2)
    refused("affine", (np.ones((2, 3)), weights[0], b), ValueError, "out overlaps b", out=out)


def test_a_number_stays_one_where_another_output_is_given(module):
    v = np.array(1.0)
    p, given = module.momentum(np.array(1.0), v, np.array(1.0), 0.1, 0.9, out=(None, v))
    assert isinstance(p, np.float64) and given is v


def test_class_indices_that_a_finalizer_changes(module):
    """Any new object may start a collection, and that somebody's code."""

    class Finalizer:
        def __init__(self, t):
            self.t, self.itself = t, self

        def __del__(self):
            self.t[:] = 10**9

    x, W, b = np.ones((3, 2)), np.ones((2, 4)), np.zeros(4)
    before = gc.get_threshold()
    try:
        for threshold in range(1, 30):
            gc.collect()
            t = np.array([1, 0, 1])
            Finalizer(t)
            gc.set_threshold(threshold)
            with contextlib.suppress(IndexError, RuntimeError):
                assert np.isfinite(module.mlp_gradient(x, t, W, b)[0])
            gc.set_threshold(*before)
    finally:
        gc.set_threshold(*before)


def test_a_tuple_of_outputs_that_acts_when_it_is_counted(module):
    x, W, dout = np.ones((3, 2)), np.ones((2, 4096)), np.ones((3, 4096))

    class Acting(tuple):
        def __len__(self):
            W.shape = (4096, 2)
            return 3

    module.affine_backward(dout, x, W, out=Acting((None,) * 3))
    assert W.shape == (2, 4096)


CHANGED_SHAPES = """
import gc, random
import numpy as np
import fastnn
from fastnn.backends import load
from fastnn.optable import OPS

targets, acting = [], False

def act(phase, info):
    if acting and random.random() < 0.3:
        a = random.choice(targets)
        a.shape = random.choice([(1, a.size), (a.size, 1), (a.size // 2, 2) if a.size % 2 == 0 else (a.size,)])

rng, calls = np.random.default_rng(0), 0
gc.callbacks.append(act)
gc.set_threshold(1, 1, 1)
for name in fastnn.backends()[:-1]:
    for op in OPS.values():
        shapes = *op.shapes[:3], min(op.large, key=lambda shape: shape[-1])
        for seed in range(60):
            random.seed(seed)
            args = list(op.example(rng, random.choice(shapes), "f8"))
            for i, a in enumerate(args):
                if isinstance(a, np.ndarray) and a.ndim:
                    change = random.choice(["f4", "one-hot", "u1", None, None])
                    if change == "one-hot" and op.names[i] == "t" and a.ndim == 1 and a.dtype.kind == "i":
                        args[i] = np.eye(np.shape(args[0])[-1])[a % np.shape(args[0])[-1]]
                    elif change == "f4" and a.dtype == np.float64 or change == "u1" and op.names[i] == "t":
                        args[i] = a.astype(change)
            targets[:] = [a for a in args if isinstance(a, np.ndarray) and a.size]
            acting = bool(targets)
            try:
                getattr(load(name), op.name)(*args)
            except (ValueError, TypeError, IndexError, RuntimeError):
                pass
            acting = False
            calls += 1
print(calls)
"""


def test_shapes_that_change_amid_a_call():
    """Any new object may start a collection, and that somebody's code, which reshapes the arguments."""
    done = python(CHANGED_SHAPES)
    calls = 60 * len(OPS) * (len(fastnn.backends()) - 1)
    assert (done.returncode, done.stdout.strip()) == (0, str(calls)), done.stderr[-2000:]
