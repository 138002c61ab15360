"""Times in one process: interleaved, after warm-up, the median of several batches, results checked equal first."""

from statistics import median
from time import perf_counter, process_time, sleep

import numpy as np

TOLERANCE = {"float32": 2e-4, "float64": 1e-11}  # of the largest number


def first_array(result):
    """A result of any peer as one float64 array, for the check."""
    if isinstance(result, tuple):
        result = result[-1] if getattr(result[0], "ndim", 0) == 0 else result[0]
    return np.asarray(result, dtype=np.float64)


def assert_equal(result, expected, dtype, what):
    result, expected = first_array(result), first_array(expected)
    if result.ndim == 0 < expected.ndim:
        return  # a peer that gives the loss alone
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(), err_msg=what)


def batch_seconds(call, number):
    start = perf_counter()
    for _ in range(number):
        call()
    return perf_counter() - start


def times(calls, *, batch, rounds, rest=0.0):
    """Seconds a call for each of `calls`, a dict of functions, in batches of about `batch` seconds.

    And how many processors each has used: the process's time over the time on the wall.

    With several threads a `rest` between them lets those of one library fall asleep before another's turn.
    """
    numbers = {}
    for name, call in calls.items():
        call()
        number = 1
        while (took := batch_seconds(call, number)) < batch / 4 and number < 1_000_000:
            number *= 4
        numbers[name] = max(1, round(number * batch / max(took, 1e-9)))
    samples, busy = {name: [] for name in calls}, dict.fromkeys(calls, 0.0)
    for _ in range(rounds):
        for name, call in calls.items():
            if rest:
                sleep(rest)
                batch_seconds(call, numbers[name])
            before = process_time()
            samples[name].append(batch_seconds(call, numbers[name]) / numbers[name])
            busy[name] += process_time() - before
    processors = {name: busy[name] / (numbers[name] * sum(samples[name])) for name in calls}
    return {name: median(values) for name, values in samples.items()}, processors
