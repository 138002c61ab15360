"""The benchmark: what peers have is named after ops and layers, all that fastnn has is timed, and NumPy agrees."""

import ast
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import fastnn
from bench import layers, ops, ours, peers
from bench.measure import TOLERANCE
from bench.peers import of_numpy
from fastnn.layers import Layer
from fastnn.optable import OPS, as_tuple

SHAPE = (5, 4)
HOOKS = {"call", "gradient"}  # by which the benchmark calls a version

every_op = pytest.mark.parametrize("name", OPS)
every_layer = pytest.mark.parametrize("name", layers.LAYERS)
every_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


def defined(path):
    """The public names that a module gives a meaning to; the library need not be installed."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        for target in getattr(node, "targets", []):
            names += [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
        yield from (name for name in names if not name.startswith("_"))


def unknown(path):
    return {*defined(path)} - HOOKS - {*OPS} - {*layers.LAYERS}


@pytest.mark.parametrize("library", peers.LIBRARIES.values())
def test_versions_are_named_after_ops_and_layers(library):
    path = Path(peers.__file__).with_name(f"of_{library}.py")
    assert "call" in {*defined(path)}
    assert not unknown(path), f"{path.name} has what is neither an op nor a layer"


def test_every_file_is_a_librarys():
    names = {path.stem for path in Path(peers.__file__).parent.glob("*.py")}
    assert names == {"__init__", *(f"of_{library}" for library in peers.LIBRARIES.values())}


def test_a_typo_is_named(tmp_path):
    path = tmp_path / "of_numpy.py"
    path.write_text("import math\n_e, taanh = 1, 2\nrelu = sigmiod = math.exp\nclass Affin: ...\ndef call(): ...")
    assert unknown(path) == {"taanh", "sigmiod", "Affin"}


@every_op
def test_an_op_has_a_version_in_numpy(name):
    assert hasattr(of_numpy, name), f"bench/peers/of_numpy.py has no {name}"


@every_layer
def test_a_layer_has_a_version_in_numpy(name):
    assert isinstance(getattr(of_numpy, name, None), type), f"bench/numpy_layers.py has no class {name}"


def assert_close(result, expected, dtype):
    """All of the results, and nothing else."""
    for a, b in zip(as_tuple(result), as_tuple(expected), strict=True):
        assert np.shape(a) == np.shape(b)
        np.testing.assert_allclose(a, b, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * np.max(np.abs(b)))


@every_op
@every_dtype
def test_an_op_is_what_numpy_gives(name, dtype):
    calls = ops.calls(name, dtype, SHAPE, {"NumPy layers": of_numpy})
    assert [*calls] == ["fastnn", "NumPy layers"]
    assert_close(calls["NumPy layers"](), calls["fastnn"](), dtype)


@every_layer
@every_dtype
def test_a_layer_is_what_numpy_gives(name, dtype):
    calls = layers.calls(name, dtype, SHAPE, {"NumPy layers": of_numpy})
    assert [*calls] == ["fastnn", "NumPy layers"]
    for _ in range(2):  # the books' Relu writes into what it is given
        assert_close(calls["NumPy layers"](), calls["fastnn"](), dtype)


def test_contenders_write_into_arrays_of_their_own():
    calls = ops.calls("sgd", "float64", SHAPE, {"NumPy layers": of_numpy})
    first = calls["fastnn"]().copy()
    assert not np.array_equal(calls["fastnn"](), first)
    np.testing.assert_array_equal(calls["NumPy layers"](), first)


def test_arrays_begin_at_lines_of_their_own():
    given = [np.arange(12.0).reshape(3, 4)[:, ::2], np.array(True), np.ones(3, "f"), 0.5]
    placed = ours.placed(given)
    assert len({a.ctypes.data % ours.PAGE for a in placed[:3]}) == 3
    for a, b in zip(placed[:3], given, strict=False):
        assert a.ctypes.data % ours.LINE == 0 and a.flags.c_contiguous and not np.shares_memory(a, b)
        np.testing.assert_array_equal(a, b, strict=True)
    assert placed[3] == 0.5


def test_a_new_op_and_a_new_layer_are_there_by_themselves(monkeypatch):
    class Halved(Layer):
        op, parameters, kept = "halved", ("a",), ("x",)

        def forward(self, x, train_flg=True):
            return x / 2

        def backward(self, dout):
            return dout / 2

    row = replace(OPS["add_bias"], name="halved", shapes=((2, 3, 4, 4),), large=((9, 9, 9, 9),))
    monkeypatch.setitem(OPS, "halved", row)
    monkeypatch.setattr(fastnn.reference, "halved", lambda x, a, *, out=None: x / 2, raising=False)
    monkeypatch.setattr(fastnn.ops, "halved", fastnn.reference.halved, raising=False)
    monkeypatch.setattr(fastnn.layers, "Halved", Halved, raising=False)
    nobody = {"Nobody": SimpleNamespace(), "PyTorch": SimpleNamespace(gradient=None)}
    for kind, name in ((ops, "halved"), (layers, "Halved")):
        [shape, large] = ops.shapes(kind.op_of(name), [(1, 10), (256, 1024)])
        assert (shape, large) == ((2, 3, 4, 4), (9, 9, 9, 9))  # the benchmark's have other dimensions
        calls = kind.calls(name, "float32", shape, nobody)
        assert [*calls] == ["fastnn"] and calls["fastnn"]().shape == shape


def test_a_library_that_derives_gradients_needs_the_op_alone():
    def gradient(version, args, params, dout):
        return lambda: (version, len(args), len(params), dout is None)

    library = SimpleNamespace(affine="affine", softmax_cross_entropy="slow", SoftmaxWithLoss="fast", gradient=gradient)
    for name, expected in (("Affine", ("affine", 1, 2, False)), ("SoftmaxWithLoss", ("fast", 2, 0, True))):
        assert layers.calls(name, "float64", SHAPE, {"Library": library})["Library"]() == expected


# ---------------------------------------------------------------- the commands


@pytest.fixture
def rich():
    pytest.importorskip("rich")


@pytest.fixture
def one_thread():
    threads = fastnn.get_num_threads()
    fastnn.set_num_threads(1)
    yield
    fastnn.set_num_threads(threads)


@pytest.mark.usefixtures("rich")
def test_no_table_of_one_thread_where_more_processors_were_used(monkeypatch):
    from bench import report

    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    rows = [{"processors": {"fastnn": 1.0, "JAX": used}} for used in [1.0] * 90 + [1.9] * 10]
    report.refuse_if_busier(rows, 2)
    report.refuse_if_busier(rows[:94], 1)
    with pytest.raises(SystemExit, match="JAX used 1.90 processors"):
        report.refuse_if_busier(rows, 1)


@pytest.mark.usefixtures("rich", "one_thread")
def test_the_command(tmp_path, monkeypatch, capsys):
    from bench import __main__ as command

    monkeypatch.setattr(peers, "LIBRARIES", {"NumPy layers": "numpy", "PyTorch": "no_such_library"})
    file = tmp_path / "figures.json"
    command.main(command.parser.parse_args(["--quick", "--op", "tanh", "--json", str(file)]))
    figures = json.loads(file.read_text())
    assert figures["header"]["not installed"] == ["PyTorch"]
    assert {(row["op"], row["dtype"]) for row in figures["ops"]} == {("tanh", "float32"), ("tanh", "float64")}
    assert all({"fastnn", "NumPy layers"} <= {*row["seconds"]} for row in figures["ops"])
    assert "tanh" in capsys.readouterr().out


@pytest.mark.usefixtures("rich")
def test_rows_of_the_readme_are_ops_and_layers():
    from bench import report

    assert {name for name, _ in report.README_ROWS} <= {*ops.TIMED, *layers.LAYERS}


@pytest.mark.usefixtures("rich")
def test_two_environments_side_by_side():
    from bench import wheels

    with wheels.installed(sys.executable) as a, wheels.installed(sys.executable) as b:
        assert a("who") == b("who") and fastnn.__file__ in a("who")
        assert a("has", "relu", "Affine", "nothing") == ["relu", "Affine"]
        cells = [*wheels.op_cells(OPS, [SHAPE]), *wheels.layer_cells(layers.LAYERS, [SHAPE]), *wheels.step_cells()]
        for cell in cells:
            answer = a(*cell.request)
            cell.check(answer, b(*cell.request))
            with pytest.raises((AssertionError, ValueError)):
                cell.check(answer, tuple(2 * np.asarray(x) + 1 for x in as_tuple(answer)))
        rows = [(cell, *wheels.timed(a, b, batch=1e-5, rounds=3)) for cell in cells[-1:]]
        assert rows[0][1] > 0 and rows[0][2] > 0
        assert wheels.table("A training step", rows).row_count == 1
