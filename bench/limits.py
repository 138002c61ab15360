"""What is measured against a limit rather than against a peer: memory bandwidth, the call itself, threads, memory."""

import multiprocessing
import sys
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import fastnn
from bench import layers, measure, numpy_layers, ops
from fastnn import dropin
from fastnn.backends import active, use
from fastnn.optable import OPS, as_tuple

BEYOND_THE_CACHES = (16384, 1024)
MEMORY = 2**26  # bytes moved by an op that the memory's bandwidth limits
STEPS, BATCH = 10, 8192


def figure(what, value, unit, limit="", met=None):
    return {"what": what, "value": value, "unit": unit, "limit": limit, "met": met}


@cache
def seconds_a_byte():
    """Of a copy of arrays beyond the caches, into memory that is used again: each is read once and written once."""
    x = np.random.default_rng(0).standard_normal(BEYOND_THE_CACHES)
    out = np.empty_like(x)
    seconds, _ = measure.times({"copy": partial(np.copyto, out, x)}, batch=0.1, rounds=7)
    return seconds["copy"] / (2 * x.nbytes)


def seconds_of_a_copy(call, result):
    """Of as many bytes as an op reads and writes, where they are beyond the caches; None elsewhere, and for layers."""
    given = call.args if isinstance(call, partial) else ()
    moved = sum(a.nbytes for a in (*given, *as_tuple(result)) if isinstance(a, np.ndarray))
    return moved * seconds_a_byte() if given and moved >= MEMORY else None


def bandwidth(dtype, pace):
    """Bytes a second of a loop, over those of a copy; both into memory that is used again."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(BEYOND_THE_CACHES).astype(dtype) for _ in range(2))
    out, mask = np.zeros_like(x), x < 0
    moved = {  # bytes read and written
        "copy": (lambda: np.copyto(out, x), 2 * x.nbytes),
        "relu": (lambda: fastnn.ops.relu(x, out=out), 2 * x.nbytes),
        "relu_backward": (lambda: fastnn.ops.relu_backward(x, mask, out=out), 2 * x.nbytes + mask.nbytes),
        "sigmoid_backward": (lambda: fastnn.ops.sigmoid_backward(x, y, out=out), 3 * x.nbytes),
        "bias_grad": (lambda: fastnn.ops.bias_grad(x), x.nbytes),
    }
    seconds, _ = measure.times({name: call for name, (call, _) in moved.items()}, **pace)
    speed = {name: moved[name][1] / seconds[name] for name in moved}
    for name in list(moved)[1:]:
        ratio = speed[name] / speed["copy"]
        yield figure(f"{name} {dtype}, bandwidth over a copy's", ratio, "", ">= 0.85", ratio >= 0.85)


def small_calls(peers, pace):
    beside = {name: module for name, module in peers.items() if name == "PyTorch"}
    seconds, _ = measure.times(ops.calls("relu", "float32", (1, 10), beside), **pace)
    ours = 1e6 * seconds["fastnn"]
    yield figure("relu (1, 10), whole call", ours, "us", "<= 0.35", ours <= 0.35)
    if "PyTorch" in seconds:
        ratio = seconds["PyTorch"] / seconds["fastnn"]
        yield figure("relu (1, 10), PyTorch's call over ours", ratio, "", ">= 4", ratio >= 4)


def kernels_of(call):
    """The kernels that a call comes to, with their arguments, in one function."""
    kernels, found = active(), []

    def recorded(kernel):
        def record(*args, **kwargs):
            found.append(partial(kernel, *args, **kwargs))
            return found[-1]()

        return record

    with use(SimpleNamespace(**{name: recorded(getattr(kernels, name)) for name in OPS})):
        call()

    def alone():
        for kernel in found:
            kernel()

    return alone


def layer_overhead(pace):
    for name in layers.LAYERS:
        layer = layers.calls(name, "float32", (1, 10), {})["fastnn"]
        seconds, _ = measure.times({"layer": layer, "kernels": kernels_of(layer)}, **pace)
        more = 1e6 * (seconds["layer"] - seconds["kernels"])
        yield figure(f"{name} (1, 10), forward and backward over its kernels", more, "us", "<= 0.5", more <= 0.5)


class Direct:
    """A layer that calls the op itself."""

    def forward(self, x):
        y, self.mask = fastnn.ops.relu_with_mask(x)
        return y


def served_calls(pace):
    """What it costs that fastnn serves a function of somebody's, over one that calls the op itself."""
    x, layer, direct = np.ones((1, 10)), numpy_layers.Relu(), Direct()
    with dropin.patch(numpy_layers):
        calls = {
            "softmax, a function": (lambda: numpy_layers.softmax(x), lambda: fastnn.ops.softmax(x)),
            "Relu.forward, a method": (lambda: layer.forward(x), lambda: direct.forward(x)),
        }
        for name, (served, op) in calls.items():
            for _ in range(3):
                served()
            seconds, _ = measure.times({"served": served, "op": op}, **pace)
            more = 1e6 * (seconds["served"] - seconds["op"])
            yield figure(f"{name} of somebody's, (1, 10), served, over the op", more, "us", "<= 0.3", more <= 0.3)


def network(module):
    """A step of training with results of 32 MB and more, in the layers of either kind."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((BATCH, 64)).astype(np.float32), rng.integers(0, 10, BATCH)
    sizes = [(64, 1024), (1024, 64), (64, 1024), (1024, 10)]
    params = [((0.05 * rng.standard_normal(s)).astype(np.float32), np.zeros(s[1], np.float32)) for s in sizes]
    first, second, third, fourth = (module.Affine(W, b) for W, b in params)
    chain = [first, module.Relu(), second, module.Relu(), third, module.Sigmoid(), fourth]
    return partial(numpy_layers.forward_backward, chain, module.SoftmaxWithLoss(), x, t)


def _peak_so_far():
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _peak(name, connection):
    step = network({"fastnn": fastnn, "NumPy layers": numpy_layers}[name])
    before = _peak_so_far()
    for _ in range(STEPS):
        step()
    connection.send(_peak_so_far() - before)


def peak_memory(name):
    """MiB by which training raises the peak of a fresh process (Linux)."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_peak, args=(name, there))
    process.start()
    peak = here.recv()
    process.join()
    return peak


def memory():
    step = network(fastnn)
    for _ in range(3):
        step()
    before = fastnn.memory_stats()["misses"]
    for _ in range(STEPS):
        step()
    asked = fastnn.memory_stats()["misses"] - before
    yield figure(f"large blocks asked of the system in {STEPS} steps, after 3", asked, "", "= 0", asked == 0)
    if sys.platform == "linux":
        ours, theirs = peak_memory("fastnn"), peak_memory("NumPy layers")
        yield figure("peak memory of training, NumPy layers", theirs, "MiB")
        yield figure("peak memory of training, fastnn", ours, "MiB", "<= NumPy's", ours <= theirs)


def all_of(peers, pace):
    yield from small_calls(peers, pace)
    yield from layer_overhead(pace)
    yield from served_calls(pace)
    for dtype in ("float32", "float64"):
        yield from bandwidth(dtype, pace)
    yield from memory()
