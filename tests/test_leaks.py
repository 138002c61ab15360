"""Calls leave nothing behind, those that fail neither: no memory, no block of the cache, no reference."""

import contextlib
import ctypes
import gc
import os
import sys

import numpy as np
import pytest
from layer_cases import LAYERS, dout_for, made, name_of, op_of
from promises import PROMISES

import fastnn
from fastnn import MLP, Affine, Relu, Sequential, Sigmoid, optimizers
from fastnn.optable import OPS, as_tuple
from fastnn.optable.refusals import replaced

LEFT = PROMISES["leaks"]
# More for a few calls, amid other tests that leave their holes in the heap.
RSS = {1000: 8 << 20, LEFT["calls"]: LEFT["mebibytes"] << 20}
REFERENCES = LEFT["references"]
# The interpreter's own caches come and go; a single call that loses an object each time loses at least calls / MOST.
OBJECTS, MOST = 300, 140
DTYPES = np.float64, np.float32
# AddressSanitizer keeps freed memory for a while.
sanitized = "libasan" in os.environ.get("LD_PRELOAD", "")
pytestmark = pytest.mark.usefixtures("only_new_objects")
numbers_of_calls = pytest.mark.parametrize("calls", [1000, pytest.param(LEFT["calls"], marks=pytest.mark.slow)])


class Failing:
    """An argument whose own code fails."""

    def __array__(self, dtype=None, copy=None):
        raise ZeroDivisionError("no array")

    def __float__(self):
        raise ZeroDivisionError("no float")

    __index__ = __float__


def references_kept_by_numpy(calls=100):
    """How many references to a dtype a product of NumPy's own leaves: one a call in NumPy 2.5 with CPython 3.12."""
    x, dtype = np.ones((2, 2)), np.dtype("f8")
    before = sys.getrefcount(dtype)
    for _ in range(calls):
        np.dot(x, x)
    return sys.getrefcount(dtype) - before


NUMPY_KEEPS_DTYPES = references_kept_by_numpy() > REFERENCES


class Calls:
    """Calls, and what is counted before and after them."""

    def __init__(self):
        self.calls = []
        self.failing = 0

    def add(self, function, *args, **kwargs):
        """As it is called at the first time, it fails or succeeds ever after."""
        self.calls.append((function, args, kwargs))
        self.failing += not self.succeeds(len(self.calls) - 1)

    def succeeds(self, i):
        function, args, kwargs = self.calls[i]
        try:
            function(*args, **kwargs)
        except (ArithmeticError, IndexError, TypeError, ValueError, RuntimeError):
            return False
        return True

    def all(self):
        for i in range(len(self.calls)):
            self.succeeds(i)

    def references(self):
        objects = {id(a): a for a in (np.float32, np.float64, ValueError, TypeError, IndexError)}
        dtypes = ("?", "q") if NUMPY_KEEPS_DTYPES else ("f4", "f8", "?", "q")
        objects |= {id(d): d for d in map(np.dtype, dtypes)}
        for _, args, kwargs in self.calls:
            for value in (*args, *kwargs.values()):
                objects |= {id(a): a for a in as_tuple(value)}
        return [sys.getrefcount(a) for a in objects.values() if a is not None]


def run(calls, small, large, what):
    """Each of the small ones at least calls / MOST times; every 100th call is one of the large ones."""
    small.all(), large.all()
    gc.collect()
    references, blocks = small.references() + large.references(), fastnn.memory_stats()["allocated_bytes"]
    objects, nones, rss = sys.getallocatedblocks(), sys.getrefcount(None), resident()
    for i in range(calls * -(-len(small.calls) // MOST)):
        if i % 100:
            small.succeeds(i % len(small.calls))
        else:
            large.succeeds(i // 100 % len(large.calls))
    small.all(), large.all()  # layers remember now what they remembered before
    gc.collect()
    more_objects, more_rss = sys.getallocatedblocks() - objects, resident() - rss
    more_nones, allowed = sys.getrefcount(None) - nones, OBJECTS + calls // 400
    more_references = np.subtract(small.references() + large.references(), references)
    assert np.abs(more_references).max() <= REFERENCES, f"{what}: {more_references} references more"
    assert abs(more_nones) <= allowed, f"{what}: {more_nones} references to None more"
    assert fastnn.memory_stats()["allocated_bytes"] == blocks, what
    assert more_objects <= allowed, f"{what}: {more_objects} objects more"
    assert sanitized or more_rss <= RSS[calls], f"{what}: {more_rss} bytes more"
    return more_objects, more_rss


def resident():
    """Resident memory but for what malloc keeps for later, as far as the system tells."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(AttributeError):  # of other C libraries than GNU's
        ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def variants(function, op, rng, shape, dtypes):
    """Calls of an op: layouts and dtypes, with and without `out`, and whatever can be wrong."""
    for dtype in dtypes:
        args = op.example(rng, shape, dtype)
        yield args, {}
        yield replaced(args, 0, np.asfortranarray(args[0])), {}
        if op.out:
            yield args, {"out": op.as_out([np.array(y) for y in op.received(function(*args))])}
        for i, value in enumerate(args):
            yield replaced(args, i, Failing()), {}
            if isinstance(value, np.ndarray):
                for wrong in (value[1:], value[..., np.newaxis, np.newaxis], value * -1000):
                    yield replaced(args, i, wrong), {}
        for name, parameter in op.parameters.items():
            if parameter.default is not parameter.empty:
                yield args, {name: Failing()}
        yield args, {"nothing": 1}
        yield (), {}


def by_the_reference(op, rng):
    half = op.example(rng, op.shapes[0], np.float16)
    yield half, {}
    yield tuple(a.tolist() if isinstance(a, np.ndarray) else a for a in half), {}


def refused(op, rng):
    """Of what the op table says is refused, a call for each message, in turns of this and that dtype."""
    calls = [{call.match: call for call in op.wrong(rng, dtype)} for dtype in DTYPES]
    for i, match in enumerate(calls[0]):
        call = calls[i % 2].get(match, calls[0][match])
        yield call.args, call.kwargs


@numbers_of_calls
def test_ops_leave_nothing_behind(module, rng, calls, figure):
    left, failing = [], []
    for op in OPS.values():
        function, small, large = getattr(module, op.name), Calls(), Calls()
        usual = variants(function, op, rng, op.shapes[0], DTYPES)
        for args, kwargs in (*usual, *by_the_reference(op, rng), *refused(op, rng)):
            small.add(function, *args, **kwargs)
        for args, kwargs in [*variants(function, op, rng, op.large[0], DTYPES[:1])][::2]:  # they take long
            large.add(function, *args, **kwargs)
        assert small.failing >= 10
        left.append(run(calls, small, large, op.name))
        failing.append(small.failing / len(small.calls))
    objects, rss = np.max(left, axis=0)
    figure(
        f"{getattr(module, 'compiled_for', 'reference')}: {calls} calls of each of {len(OPS)} ops, "
        f"{np.mean(failing):.0%} of them failing, leave at most {objects} objects and {rss // 1024} KiB"
    )


def of_layer(layer_class, rng, shape, dtypes):
    """Calls of a layer, right and wrong; if it has parameters, with and without buffers for their gradients."""
    calls = Calls()
    for dtype in dtypes:
        for buffered in (False, True) if layer_class.parameters else (False,):
            layer, inputs = made(layer_class, rng, shape, dtype)
            if buffered:
                layer.grads  # noqa: B018, which makes them
            calls.add(layer.backward, *dout_for(layer_class, rng, inputs[0]))
            calls.add(layer.forward, *inputs)
            y = layer.forward(*inputs)
            calls.add(layer.backward, *dout_for(layer_class, rng, y))
            for wrong in ([1.0], None, Failing()) if layer_class.is_loss else (y[1:], None, Failing()):
                calls.add(layer.backward, wrong)
            for i, value in enumerate(inputs):
                for wrong in (None, Failing(), value.astype("M8[s]"), value[1:], value * -1000 - 1):
                    calls.add(layer.forward, *replaced(inputs, i, wrong))
            calls.add(layer.forward)
            calls.add(layer_class, nothing=1)
    return calls


@numbers_of_calls
def test_layers_leave_nothing_behind(backend, rng, calls, figure):
    left = []
    for layer_class in LAYERS:
        op = op_of(layer_class)
        small = of_layer(layer_class, rng, op.shapes[0], DTYPES)
        large = of_layer(layer_class, rng, op.large[0], DTYPES[:1])
        assert small.failing >= 10
        left.append(run(calls, small, large, name_of(layer_class)))
    objects, rss = np.max(left, axis=0)
    most = f"at most {objects} objects and {rss // 1024} KiB"
    figure(f"{backend}: {calls} calls of each of {len(LAYERS)} layers leave {most}")


def of_networks(rng, N, dtypes):
    """Calls of the gradient of networks, in one call and layer by layer, and of the optimizers."""
    calls = Calls()
    for dtype in dtypes:
        x, t = rng.standard_normal((N, 12)).astype(dtype), rng.integers(0, 5, N)
        affine = Affine(rng.standard_normal((12, 5)).astype(dtype), np.zeros(5, dtype))
        for network in (MLP([12, 7, 5], seed=0, dtype=dtype), Sequential([affine, Relu(), Sigmoid()])):
            for wrong in (t, t[1:], t + 1000, None, Failing()):
                calls.add(network.gradient, x, wrong)
            for wrong in (x[:, 1:], None, Failing()):
                calls.add(network.predict, wrong)
            for name in optimizers.__all__:
                update, grads = getattr(optimizers, name)(1e-9).update, network.gradient(x, t)
                calls.add(update, network.params, grads)
                calls.add(update, network.params, grads[1:])
                calls.add(update, network.params, [*grads[1:], grads[0]])
                calls.add(update, network.params, None)
    return calls


@numbers_of_calls
def test_networks_and_optimizers_leave_nothing_behind(backend, rng, calls, figure):
    small, large = of_networks(rng, 16, DTYPES), of_networks(rng, 16384, DTYPES[:1])
    objects, rss = run(calls, small, large, "networks")
    figure(
        f"{backend}: {calls} calls of networks and optimizers, {small.failing / len(small.calls):.0%} of them "
        f"failing, leave {objects} objects and {rss // 1024} KiB"
    )
