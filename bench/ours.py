"""How fastnn is called where it is timed: an op, a layer forward and backward, a training step.

As a program it times the fastnn that is installed where it runs, older versions, too: `bench.wheels` starts it in two
environments.  So it needs nothing else.  Requests and answers are pickled, one after the other; the argument is the
processor to stay on.
"""

import gc
import os
import pickle
import sys
from functools import partial
from time import perf_counter

import numpy as np

import fastnn

PAGE, LINE = 4096, 64
LR = 1e-15  # so small that a network stays as it is, however often its step is timed


def placed(args):
    """Copies of the arrays, each at the start of a cache line and no two at the same line of their pages.

    NumPy's arrays begin anywhere.  A loop over several of them may take three times as long for that, by chance.
    """
    return [copied(a, 9 * i * LINE) if isinstance(a, np.ndarray) else a for i, a in enumerate(args)]


def copied(array, offset):
    memory = np.empty(array.nbytes + offset + PAGE, np.uint8)
    start = -memory.ctypes.data % PAGE + offset
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def op(name, args, written):
    """The result goes into the first arguments, if any are written: so many."""
    args = placed(args)
    out = {"out": args[0] if written == 1 else tuple(args[:written])} if written else {}
    return partial(getattr(fastnn.ops, name), *args, **out)


def layer(layer_class, args, params, dout):
    """The gradient of the input, of a class as the books have it, which may be anybody's; a loss has None as `dout`."""
    made, (*args, dout) = layer_class(*placed(params)), placed([*args, dout])
    forward = partial(made.forward, *args)
    backward = made.backward if dout is None else partial(made.backward, dout)

    def both():
        forward()
        return backward()

    return both


def trainer(sizes, loss, Ws, bs):
    network = fastnn.MLP(sizes, loss=loss, dtype=Ws[0].dtype)
    for layer, W, b in zip(network.layers[::2], Ws, bs, strict=True):
        layer.W[...], layer.b[...] = W, b
    return fastnn.Trainer(network, fastnn.SGD(LR), seed=0, show=False)


def step(sizes, loss, Ws, bs, x, t):
    """Of a Trainer; gives the gradient of the first bias."""
    made = trainer(sizes, loss, Ws, bs)

    def one():
        made.step(x, t)
        return made.network.grads[1]

    return one


def fit(sizes, loss, Ws, bs, x, t, steps):
    """So many steps of Trainer.fit, over copies of a batch in a random order; gives the same of the last step."""
    made = trainer(sizes, loss, Ws, bs)
    samples = [np.concatenate([a] * steps) for a in (x, t)]

    def all_steps(shuffle=True):
        made.losses.clear()
        made.fit(*samples, batch_size=len(x), shuffle=shuffle)
        return made.network.grads[1]

    return all_steps


# ---------------------------------------------------------------- as a program


REQUESTS = {"op": op, "layer": lambda name, *case: layer(getattr(fastnn, name), *case), "step": step, "fit": fit}


def seconds(call, number):
    call()
    start = perf_counter()
    for _ in range(number):
        call()
    return perf_counter() - start


def main(processor):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {processor})
    gc.disable()
    call = None
    while True:
        try:
            request, *given = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        if request == "who":
            answer = f"fastnn {fastnn.__version__}, {fastnn.get_backend()}, NumPy {np.__version__}, {fastnn.__file__}"
        elif request == "has":
            answer = [name for name in given if hasattr(fastnn.ops, name) or hasattr(fastnn, name)]
        elif request == "seconds":
            answer = seconds(call, *given)
        else:
            call = REQUESTS[request](*given)
            answer = call()
        pickle.dump(answer, sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
