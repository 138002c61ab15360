"""The block cache."""

import gc
import multiprocessing
import pickle
import threading

import numpy as np
import pytest
from processes import TIMEOUT

import fastnn
from fastnn import MLP, SGD, ops

MiB = 1 << 20


@pytest.fixture(autouse=True)
def own_limit(only_new_objects):
    gc.collect()  # what another test left may still hold arrays
    limit = fastnn.memory_stats()["limit_bytes"]
    fastnn.empty_cache()
    yield
    fastnn.set_cache_limit(limit)
    fastnn.empty_cache()


def change(before, name):
    return fastnn.memory_stats()[name] - before[name]


@pytest.mark.parametrize("nbytes, page", [(MiB // 4, 4096), (4 * MiB, 2 * MiB), (5 * MiB, 2 * MiB)])
def test_a_large_result_begins_a_page(kernels, nbytes, page):
    assert kernels.relu(np.ones(nbytes // 8)).ctypes.data % page == 0


def test_a_large_result_is_made_in_memory_that_a_dead_array_left(kernels):
    x = np.ones((1024, 1024))
    before = fastnn.memory_stats()
    y = kernels.relu(x)
    address = y.ctypes.data
    assert change(before, "misses") == 1 and change(before, "allocated_bytes") == 8 * MiB
    del y
    assert change(before, "allocated_bytes") == 0 and fastnn.memory_stats()["cached_bytes"] == 8 * MiB
    y = kernels.sigmoid(x)
    assert y.ctypes.data == address and change(before, "hits") == 1 and change(before, "misses") == 1


def test_a_view_keeps_the_memory(kernels):
    x = np.ones((1024, 1024))
    view = kernels.relu(x)[3:5]
    other = kernels.relu(-x)
    assert not np.shares_memory(view, other)
    np.testing.assert_array_equal(view, 1)


def test_small_results_stay_with_numpy(kernels):
    before = fastnn.memory_stats()
    kernels.relu(np.ones(1000))
    assert fastnn.memory_stats() == before


def test_results_are_ordinary_arrays(kernels):
    y = kernels.relu(np.ones((1024, 1024), np.float32))
    assert y.flags.owndata and y.base is None and y.flags.writeable and y.ctypes.data % 64 == 0
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(y)), y)
    y[...] = np.arange(y.size).reshape(y.shape)
    y.resize((2048, 1024), refcheck=False)
    np.testing.assert_array_equal(y[:1024].reshape(-1), np.arange(MiB, dtype=np.float32))
    y.resize((512, 1024), refcheck=False)
    np.testing.assert_array_equal(y.reshape(-1), np.arange(MiB // 2, dtype=np.float32))
    before = fastnn.memory_stats()
    assert np.ones((1024, 1024)).sum() == MiB  # NumPy's own arrays do not come here
    assert fastnn.memory_stats() == before


def test_the_limit_is_kept_under_random_sizes(kernels, rng):
    fastnn.set_cache_limit(40 * MiB)
    alive, ones = [], np.ones(2 * MiB)
    for size in rng.integers(MiB // 8, 2 * MiB, 1000):
        alive.append(kernels.relu(ones[:size]))
        if len(alive) > 5:
            alive.pop(rng.integers(5))
        assert fastnn.memory_stats()["cached_bytes"] <= 40 * MiB
    fastnn.set_cache_limit(3 * MiB)
    assert fastnn.memory_stats()["cached_bytes"] <= 3 * MiB
    alive.clear()
    fastnn.empty_cache()
    stats = fastnn.memory_stats()
    assert stats["cached_bytes"] == stats["cached_blocks"] == stats["allocated_bytes"] == 0


def test_a_limit_of_0_keeps_nothing(kernels):
    fastnn.set_cache_limit(0)
    kernels.relu(np.ones(MiB))
    assert fastnn.memory_stats()["cached_bytes"] == 0


@pytest.mark.parametrize("nbytes, error", [(-1, ValueError), (1.5, TypeError), (None, TypeError), (2**70, ValueError)])
def test_a_bad_limit_is_refused(nbytes, error):
    before = fastnn.memory_stats()
    with pytest.raises(error, match="nbytes must be"):
        fastnn.set_cache_limit(nbytes)
    assert fastnn.memory_stats() == before


def test_steady_training_asks_the_system_for_nothing(kernels, rng):
    x, t = rng.standard_normal((4096, 64)), rng.integers(0, 10, 4096)
    with fastnn.use_backend(kernels.compiled_for):
        network, sgd = MLP([64, 256, 256, 10], seed=0), SGD(0.1)
        for step in range(12):
            if step == 4:
                before = fastnn.memory_stats()
            sgd.update(network.params, network.gradient(x, t))
    assert change(before, "misses") == 0 and change(before, "hits") > 0


def test_an_exception_loses_no_block(kernels):
    x = np.ones((1024, 1024))
    before = fastnn.memory_stats()
    for _ in range(3):
        with pytest.raises(ValueError, match="dout has shape"):
            kernels.sigmoid_backward(x, x[:5])
        with pytest.raises(MemoryError):
            kernels.relu(np.broadcast_to(1.0, 2**45))
    assert change(before, "allocated_bytes") == 0


def test_threads_share_the_cache(kernels):
    x = [np.full(MiB, i, np.float64) for i in range(4)]
    wrong = []

    def work(i):
        for _ in range(40):
            y = kernels.relu(x[i])
            if not (y == i).all():
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and fastnn.memory_stats()["allocated_bytes"] == 0


@pytest.mark.parametrize("start_method", ["fork", "spawn"], indirect=True)
def test_a_child_process_computes(start_method):
    x = np.full(MiB, -1.0)
    ops.relu(x)
    with multiprocessing.get_context(start_method).Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply_async(ops.relu, (x,)).get(TIMEOUT), 0)
