"""Several threads at one op, and several callers at once."""

import contextlib
import hashlib
import multiprocessing
import sys
import threading

import numpy as np
import pytest
from conftest import KERNELS
from layer_cases import LAYERS, name_of, op_of, whole, with_dout
from processes import TIMEOUT, python

import fastnn
from fastnn import ops
from fastnn.optable import OPS, as_tuple


@pytest.fixture(autouse=True)
def own_threads():
    threads = fastnn.get_num_threads()
    yield
    fastnn.set_num_threads(threads)


def bits(result):
    return [np.asarray(a).tobytes() for a in as_tuple(result)]


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_do_not_depend_on_the_number_of_threads(rng, op, dtype):
    for shape in op.large:
        args = op.example(rng, shape, dtype)
        for name, kernels in KERNELS.items():
            fastnn.set_num_threads(1)
            alone = bits(getattr(kernels, op.name)(*args))
            for threads in (2, 3, 8):
                fastnn.set_num_threads(threads)
                assert bits(getattr(kernels, op.name)(*args)) == alone, (name, shape, threads)


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


def test_other_threads_run_during_many_small_steps(kernels, rng):
    # So few numbers that NumPy itself keeps the others waiting.
    x, t, order = rng.standard_normal((100, 2)), rng.integers(0, 3, 100), rng.integers(0, 100, 400)
    started, seen = threading.Event(), []

    def see():
        started.wait()
        seen.append(True)

    other, interval = threading.Thread(target=see), sys.getswitchinterval()
    other.start()
    try:
        sys.setswitchinterval(1000)  # seconds after which a thread is asked to let the others run
        started.set()
        for _ in range(20_000):
            if seen:
                break
            kernels.mlp_descent(x, t, order, 1, 0.01, np.ones((2, 3)), np.zeros(3))
        assert seen
    finally:
        sys.setswitchinterval(interval)
        other.join()


def digest(result):
    return [hashlib.sha1(np.ascontiguousarray(a)).digest() for a in as_tuple(result)]


@pytest.mark.parametrize("rounds", [1, pytest.param(50, marks=pytest.mark.slow)])
def test_eight_threads_get_what_one_gets(rng, rounds, figure):
    """Every op and layer on every backend, amid failing calls, while settings change and the cache is emptied."""
    given = {name: (getattr(ops, name), op, op.example) for name, op in OPS.items()}
    given |= {name_of(layer): (whole(layer), op_of(layer), with_dout(layer)) for layer in LAYERS}
    cases = [
        (name, function, example(rng, shape, dtype))
        for name, (function, op, example) in given.items()
        for shape, dtype in ((op.shapes[0], "float32"), (op.shapes[0], "float64"), (op.large[0], "float64"))
    ]
    expected = {}
    for backend in fastnn.backends():
        with fastnn.use_backend(backend):
            expected[backend] = [digest(function(*args)) for _, function, args in cases]
    before = fastnn.memory_stats()
    done, wrong = [], []

    def work(i):
        backend = fastnn.backends()[i % len(fastnn.backends())]
        with fastnn.use_backend(backend), fastnn.profile() as profile:
            for k in range(rounds * len(cases)):
                case = (k + 11 * i) % len(cases)
                name, function, args = cases[case]
                if digest(function(*args)) != expected[backend][case]:
                    wrong.append((name, backend))
                with contextlib.suppress(TypeError):
                    function(*args, out="no array")
                    wrong.append((name, backend, "no error"))
                done.append(i)
        if sum(time.calls for time in profile.times.values()) < rounds * len(cases):
            wrong.append((backend, "calls were not counted"))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    changes = 0
    while any(thread.is_alive() for thread in threads):
        changes += 1
        fastnn.set_num_threads(1 + changes % 5)
        fastnn.set_cache_limit((changes % 7) << 21)
        fastnn.empty_cache()
        threads[changes % 8].join(0.001)
    fastnn.set_cache_limit(before["limit_bytes"])
    assert not wrong and len(done) == 8 * rounds * len(cases)
    assert fastnn.memory_stats()["allocated_bytes"] == before["allocated_bytes"]
    figure(f"8 threads at once, {len(done)} results as with one, {changes} changes of settings meanwhile")


@pytest.mark.skipif(sys.platform != "linux", reason="Windows has no fork, and macOS's own libraries do not bear one")
@pytest.mark.parametrize("forks", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_forks_amid_ops(forks, figure):
    """Children compute, whatever threads of the parent were at when it forked."""
    code = f"""
import os
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import signal, sys, threading, warnings, numpy as np, fastnn
from fastnn import ops
warnings.simplefilter("ignore")  # of forks beside threads
fastnn.set_num_threads(3)
x = np.random.default_rng(0).standard_normal((600, 600))
expected = ops.softmax(x)
stop = threading.Event()
def work(i):
    n = 0
    while not stop.is_set():
        n += 1
        y = ops.sigmoid(x[: 200 + 37 * (n % 10)]) if i else ops.softmax(x)
        if n % 5 == 0:
            fastnn.set_num_threads(2 + n % 3)
            fastnn.set_cache_limit((n % 4) << 21)
            fastnn.empty_cache()
threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
for thread in threads:
    thread.start()
good = 0
for _ in range({forks}):
    child = os.fork()
    if not child:
        signal.alarm({TIMEOUT})  # ends a child that hangs
        good = (ops.softmax(x) == expected).all()
        fastnn.set_num_threads(4)
        good &= (ops.softmax(x) == expected).all()
        fastnn.empty_cache()
        good &= fastnn.memory_stats()["cached_blocks"] == 0
        threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 4
        os._exit(0 if good and threads == 4 else 1)  # threads of its own
    good += os.waitpid(child, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
print(good, (ops.softmax(x) == expected).all())
"""
    run = python(code)
    assert run.stdout.split() == [str(forks), "True"], run.stdout + run.stderr
    figure(f"{forks} forks amid ops of 3 threads, {forks} children computed")


def test_a_program_ends_while_threads_are_at_work():
    """Workers and callers are still busy, an array outlives the module, and exit handlers compute."""
    code = """
import atexit, sys, threading, time, numpy as np, fastnn
from fastnn import ops
fastnn.set_num_threads(3)
x = np.ones((1000, 1000))
sys.kept = ops.relu(x)
def forever():
    while True:
        ops.softmax(x)
for _ in range(3):
    threading.Thread(target=forever, daemon=True).start()
atexit.register(lambda: print(ops.softmax(x).sum().round(), sys.kept.sum(), flush=True))
time.sleep(0.05)
"""
    for _ in range(3):
        run = python(code)
        assert (run.returncode, run.stdout.split(), run.stderr) == (0, ["1000.0", "1000000.0"], "")


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
                for y in pool.map_async(ops.softmax, [x] * 4).get(TIMEOUT):
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
    assert python(code, FASTNN_NUM_THREADS=" 7 ").stdout.splitlines() == lines
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
