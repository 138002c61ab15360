"""Several threads at one op, and several callers at once."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.optable import OPS, as_tuple

SHAPES = [(1000003,), (100003, 10), (20001, 50), (601, 4099), (23, 50257)]


@pytest.fixture(autouse=True)
def own_threads():
    threads = fastnn.get_num_threads()
    yield
    fastnn.set_num_threads(threads)


def bits(result):
    return [np.asarray(a).tobytes() for a in as_tuple(result)]


def python(code, **environment):
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_do_not_depend_on_the_number_of_threads(kernels, rng, name, dtype):
    for shape in SHAPES:
        args = OPS[name].example(rng, shape, dtype)
        fastnn.set_num_threads(1)
        alone = bits(getattr(kernels, name)(*args))
        for threads in (2, 3, 8):
            fastnn.set_num_threads(threads)
            assert bits(getattr(kernels, name)(*args)) == alone, (shape, threads)


def test_a_row_does_not_depend_on_its_place(kernels, rng):
    fastnn.set_num_threads(2)
    x = rng.standard_normal((1, 10)).repeat(100000, axis=0)
    y = kernels.softmax(x)
    assert (y == y[0]).all()


def test_many_callers_get_what_one_gets(kernels, rng):
    fastnn.set_num_threads(3)
    x = [rng.standard_normal((700, 1000 + i)) for i in range(8)]
    t = [rng.integers(0, 1000, 700) for _ in x]
    expected = [bits(kernels.softmax_cross_entropy(a, b)) for a, b in zip(x, t, strict=True)]
    right = []

    def work(i):
        right.append(all(bits(kernels.softmax_cross_entropy(x[i], t[i])) == expected[i] for _ in range(20)))

    callers = [threading.Thread(target=work, args=(i,)) for i in range(len(x))]
    for caller in callers:
        caller.start()
    for n in range(40):
        fastnn.set_num_threads(1 + n % 5)
    for caller in callers:
        caller.join()
    assert right == [True] * len(x)


@pytest.mark.parametrize("start_method", ["fork", "spawn"], indirect=True)
def test_a_child_process_computes_with_threads_of_its_own(start_method, rng):
    fastnn.set_num_threads(2)
    x = rng.standard_normal((1000, 1000))
    expected = ops.softmax(x)
    stop = threading.Event()

    def work():
        while not stop.is_set():
            ops.softmax(x)

    busy = threading.Thread(target=work)  # the parent may be in the middle of a task when it forks
    busy.start()
    try:
        for _ in range(3):
            with multiprocessing.get_context(start_method).Pool(2) as pool:
                for y in pool.map_async(ops.softmax, [x] * 4).get(timeout=60):
                    np.testing.assert_array_equal(y, expected)
    finally:
        stop.set()
        busy.join()
    np.testing.assert_array_equal(ops.softmax(x), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="counts the system's threads under /proc")
def test_no_thread_before_there_is_work_for_it():
    code = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np, fastnn
count = lambda: len(os.listdir("/proc/self/task"))
fastnn.set_num_threads(3)
fastnn.ops.softmax(np.ones((100, 100)))
before = count()
fastnn.ops.softmax(np.ones((1000, 1000)))
print(before, count())
"""
    assert python(code).stdout.split() == ["1", "3"]


def test_the_environment_sets_the_number():
    code = "import fastnn; fastnn.show_config(); print(fastnn.get_num_threads())"
    lines = python(code, FASTNN_NUM_THREADS="7").stdout.splitlines()
    assert lines[-1] == "7" and ["threads", "7"] in [line.split() for line in lines]
    assert int(python(code, FASTNN_NUM_THREADS="").stdout.split()[-1]) >= 1


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "257"])
def test_a_bad_number_in_the_environment_is_refused(value):
    run = python("import fastnn", FASTNN_NUM_THREADS=value)
    assert run.returncode != 0 and "FASTNN_NUM_THREADS must be" in run.stderr and value in run.stderr


@pytest.mark.parametrize(
    "threads, error", [(0, ValueError), (-1, ValueError), (257, ValueError), (1.5, TypeError), ("2", TypeError)]
)
def test_a_bad_number_is_refused(threads, error):
    before = fastnn.get_num_threads()
    with pytest.raises(error, match="threads must be"):
        fastnn.set_num_threads(threads)
    assert fastnn.get_num_threads() == before


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_worker_takes_no_signal():
    code = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import signal, numpy as np, fastnn
fastnn.set_num_threads(4)
fastnn.ops.softmax(np.ones((1000, 1000)))
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)
print(signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1)
"""
    assert python(code).stdout.strip() == "True"
