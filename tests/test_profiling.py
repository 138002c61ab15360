"""The recording proxy."""

import json
import re

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import active


def test_it_counts_and_times_each_op(backend):
    before = active()
    with fastnn.profile() as recorder:
        assert fastnn.get_backend() == backend
        for _ in range(3):
            ops.relu(np.ones((4, 4)))
        ops.bias_grad(np.ones((2, 2)))
    assert active() is before
    assert set(recorder.times) == {"relu", "bias_grad"}
    assert recorder.times["relu"].calls == 3 and recorder.times["relu"].seconds > 0
    ops.relu(np.ones(3))
    assert recorder.times["relu"].calls == 3


def test_calls_that_raise_are_counted_too():
    with fastnn.profile() as recorder, pytest.raises(TypeError):
        ops.relu(np.array(["a"]))
    assert recorder.times["relu"].calls == 1


def test_it_shows_where_the_kernels_fall_back(kernels, rng):
    with fastnn.use_backend(kernels.compiled_for), fastnn.profile() as recorder:
        ops.relu(np.ones(4))
        ops.relu(np.ones(4, np.float16))
        ops.sigmoid(np.ones(4, np.int32))
        ops.sigmoid_backward(np.ones(4), np.ones(4, np.float32))
        ops.sigmoid_backward(np.ones(4), np.ones(4, np.longdouble))
        ops.cross_entropy_error(np.ones((2, 2), np.float16), [0, 1])
        ops.softmax_cross_entropy_backward(np.ones((2, 2), np.float32), np.eye(2))
    by_reference = {name: time.by_reference for name, time in recorder.times.items()}
    assert by_reference == {
        "relu": 1,
        "sigmoid": 1,
        "sigmoid_backward": 1,
        "cross_entropy_error": 1,
        "softmax_cross_entropy_backward": 0,
    }


def test_layers_are_recorded():
    layer, loss = fastnn.Affine(np.ones((3, 2)), np.zeros(2)), fastnn.SoftmaxWithLoss()
    with fastnn.profile() as recorder:
        loss.forward(layer.forward(np.ones((4, 3))), [0, 1, 0, 1])
        layer.backward(loss.backward())
    assert {name: time.calls for name, time in recorder.times.items()} == {
        "softmax_cross_entropy": 1,
        "softmax_cross_entropy_backward": 1,
        "affine": 1,
        "affine_backward": 1,
    }


def test_lines_are_by_layer_op_and_shape_and_add_up():
    layer, x = fastnn.Affine(np.ones((3, 2)), np.zeros(2)), np.ones((4, 3))
    with fastnn.profile() as p:
        for rows in (4, 4, 2):
            layer.forward(x[:rows])
        fastnn.MLP([3, 2, 2], seed=0).loss_and_gradient(x, np.array([0, 1, 0, 1]))
        fastnn.SGD().update([np.ones((5, 2))], [np.ones((5, 2))])
        ops.relu([[1.0, 2.0]])
    lines = {(line.layer, line.op, line.shape): line.calls for line in p.lines}
    assert lines == {
        ("Affine.forward", "affine", (4, 3)): 2,
        ("Affine.forward", "affine", (2, 3)): 1,
        ("Sequential.loss_and_gradient", "mlp_gradient", (4, 3)): 1,
        ("SGD.update", "sgd", (5, 2)): 1,
        ("", "relu", (1, 2)): 1,
    }
    run = p.run()
    assert 0 < run.in_lines < p.seconds == run.seconds
    assert run.in_lines + sum(run.parts.values()) == pytest.approx(p.seconds)


@pytest.mark.demo
def test_a_profile_shows_itself(tmp_path):
    with fastnn.profile() as p:
        fastnn.Relu().forward(np.ones((2, 3), np.float16))
    for word in ("Relu.forward", "relu_with_mask", "2 x 3", "1*", "everything else", "blas core", p.compiled_for):
        assert word in str(p)
    report = json.loads(p.to_json(tmp_path / "p.json"))
    assert report == json.loads((tmp_path / "p.json").read_text())
    assert report["version"] == 1 and report["speed-up"] is None
    assert report["runs"][0]["lines"][0]["shape"] == [2, 3] and report["config"]["backend"] == p.compiled_for
    p.to_html(tmp_path / "p.html")
    assert "relu_with_mask" in (tmp_path / "p.html").read_text(encoding="utf-8")
    p.plot(tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_compare_times_every_backend(rng):
    x = rng.standard_normal((5, 4))
    comparison = fastnn.compare(lambda: (ops.softmax(x), {"loss": ops.mean_squared_error(x, x)}, "words", None))
    assert tuple(comparison.seconds) == fastnn.backends() and min(comparison.seconds.values()) > 0
    assert "reference" in str(comparison) and "us a call" in comparison.table()
    assert list(fastnn.compare(lambda: 1, backends=("reference",)).seconds) == ["reference"]


@pytest.mark.parametrize(
    "results, said",
    [
        ((np.ones(2), np.ones(3)), "the result is float64 (2,) and float64 (3,)"),
        ((np.ones(2, np.float32), np.ones(2)), "the result is float32 (2,) and float64 (2,)"),
        (((0.0, 1.0), (0.0, 1.0 + 1e-8)), r"the result[1] differs by up to 1e-08, in float64"),
        (({"a": np.float32(1)}, {"a": np.float32(1.001)}), "the result['a'] differs by up to 0.001"),
        (((1,), (1, 2)), "the result has 1 and 2 items"),
        (({"a": 1}, {"b": 1}), "the result has the keys 'a' and 'b'"),
        ((np.array([1.0, np.nan]), np.array([1.0, 2.0])), "the result differs"),
        ((3, 4), "the result is not the same"),
    ],
)
def test_compare_says_what_differs(results, said):
    best, *_, last = fastnn.backends()
    with pytest.raises(ValueError, match=re.escape(f"{best} and {last} disagree: {said}")):
        fastnn.compare(lambda: results[fastnn.get_backend() == last], backends=(best, last))


def test_compare_refuses_what_it_cannot_compare():
    with pytest.raises(ValueError, match="usable here"):
        fastnn.compare(lambda: 1, backends=("fastest",))
    with pytest.raises(ValueError, match="names none"):
        fastnn.compare(lambda: 1, backends=())
