"""What is measured against a limit rather than against a peer: memory bandwidth, the call itself, threads, memory."""

import multiprocessing
import sys
from pathlib import Path

import numpy as np

import fastnn
from bench import layers, measure, numpy_layers
from fastnn import ops

BEYOND_THE_CACHES = (16384, 1024)
STEPS, BATCH = 10, 8192


def figure(what, value, unit, limit="", met=None):
    return {"what": what, "value": value, "unit": unit, "limit": limit, "met": met}


def bandwidth(dtype, pace):
    """Bytes a second of a loop, over those of a copy; both into memory that is used again."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal(BEYOND_THE_CACHES).astype(dtype) for _ in range(2))
    out, mask = np.zeros_like(x), x < 0
    moved = {  # bytes read and written
        "copy": (lambda: np.copyto(out, x), 2 * x.nbytes),
        "relu": (lambda: ops.relu(x, out=out), 2 * x.nbytes),
        "relu_backward": (lambda: ops.relu_backward(x, mask, out=out), 2 * x.nbytes + mask.nbytes),
        "sigmoid_backward": (lambda: ops.sigmoid_backward(x, y, out=out), 3 * x.nbytes),
        "bias_grad": (lambda: ops.bias_grad(x), x.nbytes),
    }
    seconds = measure.times({name: call for name, (call, _) in moved.items()}, **pace)
    speed = {name: moved[name][1] / seconds[name] for name in moved}
    for name in list(moved)[1:]:
        ratio = speed[name] / speed["copy"]
        yield figure(f"{name} {dtype}, bandwidth over a copy's", ratio, "", ">= 0.85", ratio >= 0.85)


def small_calls(peers, pace):
    x = np.linspace(-1, 1, 10, dtype=np.float32)[np.newaxis]
    calls = {"fastnn": lambda: ops.relu(x)}
    if "PyTorch" in peers:
        calls["PyTorch"] = peers["PyTorch"]("relu", (x,))
    seconds = measure.times(calls, **pace)
    ours = 1e6 * seconds["fastnn"]
    yield figure("relu (1, 10), whole call", ours, "us", "<= 0.35", ours <= 0.35)
    if "PyTorch" in seconds:
        ratio = seconds["PyTorch"] / seconds["fastnn"]
        yield figure("relu (1, 10), PyTorch's call over ours", ratio, "", ">= 4", ratio >= 4)


def kernels_of(name, x, dout, t, params):
    """The ops that a layer's forward and backward are made of."""
    kernels = fastnn.ops.process.backend
    if name == "Relu":
        return lambda: kernels.relu_backward(dout, kernels.relu_with_mask(x)[1])
    if name == "Sigmoid":
        return lambda: kernels.sigmoid_backward(dout, kernels.sigmoid(x))
    if name == "Softmax":
        return lambda: kernels.softmax_backward(dout, kernels.softmax(x))
    if name == "SoftmaxWithLoss":
        return lambda: kernels.softmax_cross_entropy_backward(kernels.softmax_cross_entropy(x, t)[1], t)
    W, b = params
    return lambda: (kernels.affine(x, W, b), kernels.affine_backward(dout, x, W))


def layer_overhead(pace):
    for name in layers.LAYERS:
        args = layers.arguments(name, np.float32, (1, 10))
        calls = {"layer": layers.calls(name, np.float32, (1, 10), ())["fastnn"], "kernels": kernels_of(name, *args)}
        seconds = measure.times(calls, **pace)
        more = 1e6 * (seconds["layer"] - seconds["kernels"])
        yield figure(f"{name} (1, 10), forward and backward over its kernels", more, "us", "<= 0.5", more <= 0.5)


def network(module):
    """A step of training with results of 32 MB and more, in the layers of either kind."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((BATCH, 64)).astype(np.float32), rng.integers(0, 10, BATCH)
    sizes = [(64, 1024), (1024, 64), (64, 1024), (1024, 10)]
    params = [((0.05 * rng.standard_normal(s)).astype(np.float32), np.zeros(s[1], np.float32)) for s in sizes]
    affines = [module.Affine(W, b) for W, b in params]
    chain = [affines[0], module.Relu(), affines[1], module.Relu(), affines[2], module.Sigmoid(), affines[3]]
    last = module.SoftmaxWithLoss()

    def step():
        y = x
        for layer in chain:
            y = layer.forward(y)
        last.forward(y, t)
        dout = last.backward()
        for layer in reversed(chain):
            dout = layer.backward(dout)

    return step


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
    for dtype in ("float32", "float64"):
        yield from bandwidth(dtype, pace)
    yield from memory()
