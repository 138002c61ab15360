"""The fastnn that is installed where this runs, timed on request: `bench.wheels` starts it in two environments.

It needs nothing else and runs with older versions, too.  Requests and answers are pickled, one after the other.  The
argument is the processor to stay on.
"""

import gc
import os
import pickle
import sys
from functools import partial
from time import perf_counter

import numpy as np

import fastnn


def op(name, args, options):
    return partial(getattr(fastnn.ops, name), *args, **options)


def layer(name, args, params, dout):
    made, upstream = getattr(fastnn, name)(*params), () if dout is None else (dout,)

    def both():
        return made.forward(*args), made.backward(*upstream)

    return both


def step(sizes, loss, params, x, t):
    network = fastnn.MLP(sizes, loss=loss, dtype=x.dtype)
    for p, given in zip(network.params, params, strict=True):
        p[...] = given
    trainer = fastnn.Trainer(network, fastnn.SGD(1e-15), show=False)

    def one():
        trainer.step(x, t)
        return tuple(network.grads)

    return one


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
            call = {"op": op, "layer": layer, "step": step}[request](*given)
            answer = call()
        pickle.dump(answer, sys.stdout.buffer, protocol=5)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
