"""The recording proxy."""

import numpy as np
import pytest

import fastnn
from fastnn import ops, profiling
from fastnn.backends import active


def test_it_counts_and_times_each_op(backend):
    before = active()
    with profiling.record() as recorder:
        assert fastnn.get_backend() == backend
        for _ in range(3):
            ops.relu(np.ones((4, 4)))
        ops.bias_grad(np.ones((2, 2)))
    assert active() is before
    assert list(recorder.times) == ["relu", "bias_grad"]
    assert recorder.times["relu"].calls == 3 and recorder.times["relu"].seconds > 0
    ops.relu(np.ones(3))
    assert recorder.times["relu"].calls == 3


def test_calls_that_raise_are_counted_too():
    with profiling.record() as recorder, pytest.raises(TypeError):
        ops.relu(np.array(["a"]))
    assert recorder.times["relu"].calls == 1


def test_it_shows_what_the_kernels_hand_over(kernels, rng):
    with fastnn.use_backend(kernels.compiled_for), profiling.record() as recorder:
        ops.relu(np.ones(4))
        ops.relu(np.ones(4, np.float16))
        ops.sigmoid(np.ones(4, np.int32))
        ops.sigmoid_backward(np.ones(4), np.ones(4, np.float32))
        ops.cross_entropy_error(np.ones((2, 2), np.float16), [0, 1])
        ops.softmax_cross_entropy_backward(np.ones((2, 2), np.float32), np.eye(2))
    by_reference = {name: time.by_reference for name, time in recorder.times.items()}
    assert by_reference == {
        "relu": 1,
        "sigmoid": 1,
        "sigmoid_backward": 1,
        "cross_entropy_error": 1,
        "softmax_cross_entropy_backward": 1,
    }


def test_layers_are_recorded():
    layer, loss = fastnn.Affine(np.ones((3, 2)), np.zeros(2)), fastnn.SoftmaxWithLoss()
    with profiling.record() as recorder:
        loss.forward(layer.forward(np.ones((4, 3))), [0, 1, 0, 1])
        layer.backward(loss.backward())
    assert {name: time.calls for name, time in recorder.times.items()} == {
        "softmax_cross_entropy": 1,
        "softmax_cross_entropy_backward": 1,
        "affine": 1,
        "affine_backward": 1,
    }
