"""What ``fastnn info`` reports and advises; no test depends on a time or on this machine's processor."""

import json
import sys

import numpy as np
import pytest
from processes import TIMEOUT, python

import fastnn
from fastnn import cli, info

SETS = ["x86-64-v4", "x86-64-v3", "x86-64-v2"]
MACHINE = {
    "fastnn": "0.1.0",
    "cpu": "a processor",
    "instruction sets": SETS,
    "backend": SETS[0],
    "backends": [*SETS, "reference"],
    "blas": "scipy-openblas 0.3",
    "blas core": "Haswell",
    "blas threads": 4,
}


@pytest.fixture
def machine(monkeypatch):
    """Stand in for this machine: its configuration, and how many times as fast a product gets by a setting."""
    for name in info.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    def pretend(core=1.0, thread=1.0, **config):
        gains = {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": thread}

        def seconds(products, setting):
            trial = info.AVX512_CORE if products == info.AVX512_CORE.products else info.ONE_THREAD
            return [1e-3 / (gains[trial.variable] if trial.variable in setting else 1.0) for _ in products]

        monkeypatch.setattr(info, "config", lambda: {**MACHINE, **config})
        monkeypatch.setattr(info, "seconds", seconds)

    return pretend


def advised(capsys):
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    return text[text.index("\nadvice") :].split(maxsplit=1)[1].strip().splitlines()


def test_a_faster_core_is_advised(machine, capsys):
    machine(core=1.74)
    line = "OPENBLAS_CORETYPE=SkylakeX  # matrix products 1.7 times as fast here (measured)"
    assert advised(capsys) == [line]
    assert info.report()["advice"] == [line]


def test_one_thread_is_advised_if_it_is_faster(machine, capsys):
    machine(thread=1.3)
    (line,) = advised(capsys)
    assert line.startswith("OPENBLAS_NUM_THREADS=1  # small matrix products 1.3 times as fast here (measured)")


def test_both_are_advised(machine, capsys):
    machine(core=2.0, thread=1.2)
    assert [line.split("=")[0] for line in advised(capsys)] == ["OPENBLAS_CORETYPE", " " * 17 + "OPENBLAS_NUM_THREADS"]


@pytest.mark.parametrize("gain", [0.5, 1.0, 1.09])
def test_nothing_is_advised_below_the_least_gain(gain, machine, capsys):
    machine(core=gain, thread=gain)
    assert advised(capsys) == ["none: nothing that could be tried is reliably 1.1 times as fast"]


def test_a_gain_in_some_rounds_only_is_said_and_not_advised(machine, monkeypatch, capsys):
    machine(**{"blas threads": 1})
    times = iter([[1.0], [2.0]] + [[2.0], [1.0]] * (info.ROUNDS - 1))
    monkeypatch.setattr(info, "seconds", lambda products, setting: next(times))
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert "2.00 times as fast, but not in every round" in text and "advice           none" in text


def test_a_setting_that_harms_another_product_is_not_advised(machine, monkeypatch, capsys):
    machine(**{"blas core": "SkylakeX"})
    monkeypatch.setattr(info, "seconds", lambda products, setting: [2.0, 2.0] if setting else [1.0, 9.0])
    assert advised(capsys)[0].startswith("none")


@pytest.mark.parametrize(
    "config, expected",
    [
        ({}, [info.AVX512_CORE, info.ONE_THREAD]),
        ({"blas core": "Zen", "blas threads": 1}, [info.AVX512_CORE]),
        ({"blas core": "Prescott", "blas threads": 1}, [info.AVX512_CORE]),
        ({"blas core": "SkylakeX"}, [info.ONE_THREAD]),
        ({"instruction sets": SETS[1:]}, [info.ONE_THREAD]),
        ({"instruction sets": ["generic"], "blas core": "neoversen1", "blas threads": 1}, []),
        ({"blas core": "unknown", "blas threads": "unknown"}, []),
    ],
)
def test_what_is_tried(config, expected):
    assert info.trials({**MACHINE, **config}) == expected


@pytest.mark.parametrize("blas", ["accelerate", "mkl 2025.0"])
def test_other_libraries_get_no_advice_and_it_says_so(blas, machine, capsys):
    machine(**{"blas": blas, "blas core": "unknown", "blas threads": "unknown"})
    (line,) = advised(capsys)
    assert line.startswith("none") and line.endswith(f"this NumPy has {blas}")


def test_nothing_to_try_is_said(machine, capsys):
    machine(**{"blas core": "SkylakeX", "blas threads": 1})
    assert advised(capsys) == ["none: nothing to try with OpenBLAS's SkylakeX kernels on one thread"]


@pytest.mark.parametrize(
    "child, said",
    [
        ("import sys; sys.exit('first line\\nno such core')", "no such core"),
        ("import os; os._exit(3)", "exit code 3"),
        ("print('no numbers')", "Expecting value"),
        ("import time; time.sleep(60)", "no answer within 0.5 s"),
    ],
)
def test_a_process_that_fails_is_one_line_and_no_advice(child, said, machine, monkeypatch, capsys):
    seconds = info.seconds
    machine(**{"blas core": "SkylakeX"})
    monkeypatch.setattr(info, "seconds", seconds)
    monkeypatch.setattr(info, "CHILD", child)
    monkeypatch.setattr(info, "TIMEOUT", 0.5 if "sleep" in child else TIMEOUT)
    assert cli.main(["info"]) == 0
    text = capsys.readouterr().out
    assert f"OPENBLAS_NUM_THREADS=1 could not be tried: {said}" in text and "advice           none" in text
    (measurement,) = info.report()["measurements"]
    assert said in measurement["failure"] and measurement["products"] == []


def test_no_interpreter_to_start_is_said(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert "/no/such/python" in info.measured(info.ONE_THREAD)["failure"]


def test_a_process_gets_its_setting_and_the_rest_of_the_environment(monkeypatch):
    monkeypatch.setenv("FASTNN_TEST_INFO", "kept")
    monkeypatch.setattr(
        info, "CHILD", "import json, os; print(json.dumps([os.environ[x] for x in ('FASTNN_TEST_INFO', 'THAT')]))"
    )
    assert info.seconds((), {"THAT": "set"}) == ["kept", "set"]


def test_the_products_are_timed(monkeypatch):
    monkeypatch.setattr(info, "TIMEOUT", TIMEOUT)
    products = info.Product(2, 3, 4, "float32"), info.Product(5, 6, 7, "float64")
    times = info.seconds(products, {"OPENBLAS_NUM_THREADS": "1"})
    assert len(times) == 2 and all(t > 0 for t in times)


@pytest.mark.parametrize(
    "variable, config, expected",
    [
        ("", {}, "the best that runs here"),
        ("x86-64-v4", {}, "chosen by FASTNN_BACKEND"),
        (
            "reference",
            {"backend": "reference"},
            "chosen by FASTNN_BACKEND; x86-64-v4 is the best that runs here",
        ),
        ("", {"backend": "x86-64-v2"}, "chosen by the program; x86-64-v4 is the best that runs here"),
        (
            "",
            {"instruction sets": SETS[1:], "backend": SETS[1], "backends": [*SETS[1:], "reference"]},
            "the best that runs here; x86-64-v4 needs AVX-512",
        ),
        (
            "",
            {"instruction sets": SETS[1:], "backend": SETS[2], "backends": [SETS[2], "reference"]},
            "the best that runs here; x86-64-v4 needs AVX-512; x86-64-v3 was not built",
        ),
        (
            "",
            {"instruction sets": ["generic"], "backend": "generic", "backends": ["generic", "reference"]},
            "the best that runs here",
        ),
    ],
)
def test_why_this_backend(variable, config, expected, monkeypatch):
    monkeypatch.setenv("FASTNN_BACKEND", variable)
    assert info.why({**MACHINE, **config}) == expected


def test_numpy_without_its_table_is_unknown(monkeypatch):
    assert set(info.numpy_simd()) == {"exp", "log"}
    monkeypatch.setitem(sys.modules, "numpy.lib.introspect", None)
    assert info.numpy_simd()["exp"] == {"float32": "unknown", "float64": "unknown"}


def test_the_text_and_the_json_tell_the_same(machine, monkeypatch, capsys):
    machine(core=1.5)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert cli.main(["info", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["version"] == 1 and report["config"] == MACHINE
    assert report["environment"] == {"OPENBLAS_CORETYPE": "Haswell"}
    assert report["cache"].keys() == fastnn.memory_stats().keys()
    core = report["measurements"][0]
    assert core["setting"] == "OPENBLAS_CORETYPE=SkylakeX"
    assert len(core["products"][0]["as is"]) == len(core["products"][0]["with it"]) == info.ROUNDS
    text = info.text(report)
    for words in ("a processor", "x86-64-v4: the best", "numpy exp", "MiB", "1.50 times as fast", *report["advice"]):
        assert words in text
    assert "OPENBLAS_CORETYPE=Haswell" in text


def test_the_command_needs_numpy_alone_and_prints_nothing_but_json():
    code = "import sys; sys.modules['rich'] = None; from fastnn.cli import main; sys.exit(main(['info', '--json']))"
    run = python(code)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["config"]["numpy"] == np.__version__ and report["version"] == 1
