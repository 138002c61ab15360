"""Which implementation runs."""

import asyncio
import os
import re
import sys
import threading

import numpy as np
import processes
import pytest
from processes import python

import fastnn
from fastnn import reference
from fastnn._kernels import cpu
from fastnn.backends import load
from fastnn.optable import OPS

NAMES = fastnn.backends()


@pytest.fixture
def restored():
    name = fastnn.get_backend()
    yield
    fastnn.set_backend(name)


def test_the_reference_is_last_and_a_compiled_one_first():
    assert NAMES[-1] == "reference" and len(NAMES) >= 2
    assert len(set(NAMES)) == len(NAMES)


def test_modules_were_compiled_for_what_their_folder_says(kernels):
    assert kernels.compiled_for in NAMES
    assert kernels.__name__ == "fastnn._kernels." + kernels.compiled_for.replace("-", "_")
    families = [m for name, m in sys.modules.items() if name.startswith(f"{kernels.__name__}.")]
    assert {module.compiled_for for module in families} == {kernels.compiled_for}


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", NAMES)
def test_set_backend(name):
    fastnn.set_backend(name)
    assert fastnn.get_backend() == name


@pytest.mark.parametrize("name", ["no-such", "", "x86_64_v3", "REFERENCE"])
def test_unknown_names_are_refused(name):
    before = fastnn.get_backend()
    with pytest.raises(ValueError, match=f"no backend '{name}'.*usable here: {', '.join(NAMES)}"):
        fastnn.set_backend(name)
    with pytest.raises(ValueError, match="no backend"), fastnn.use_backend(name):
        pass
    assert fastnn.get_backend() == before


def test_use_backend_nests_and_ends_after_an_exception():
    before = fastnn.get_backend()
    with fastnn.use_backend(NAMES[0]):
        with pytest.raises(KeyError), fastnn.use_backend("reference"):
            assert fastnn.get_backend() == "reference"
            raise KeyError
        assert fastnn.get_backend() == NAMES[0]
    assert fastnn.get_backend() == before


@pytest.mark.usefixtures("restored")
def test_use_backend_is_the_threads_own_and_set_backend_everybodys():
    fastnn.set_backend(NAMES[0])
    seen = []
    with fastnn.use_backend("reference"):
        thread = threading.Thread(target=lambda: seen.append(fastnn.get_backend()))
        thread.start()
        thread.join()
    fastnn.set_backend("reference")
    thread = threading.Thread(target=lambda: seen.append(fastnn.get_backend()))
    thread.start()
    thread.join()
    # An interpreter may be told to hand the context on to new threads.
    inherits = getattr(sys.flags, "thread_inherit_context", False)
    assert seen == ["reference" if inherits else NAMES[0], "reference"]


def test_use_backend_is_the_tasks_own():
    async def task(name):
        with fastnn.use_backend(name):
            await asyncio.sleep(0)
            return fastnn.get_backend()

    async def both():
        return await asyncio.gather(task(NAMES[0]), task("reference"))

    assert asyncio.run(both()) == [NAMES[0], "reference"]


@pytest.mark.parametrize("name", NAMES)
def test_the_forced_backend_is_the_one_that_runs(name):
    # Only its modules are loaded, so nothing else can have computed.
    code = """
import sys, numpy as np, fastnn
fastnn.relu(np.ones((4, 4))), fastnn.Sigmoid().forward(np.ones((4, 4), np.float32))
loaded = [m for name, m in sys.modules.items() if name.startswith("fastnn._kernels.") and hasattr(m, "compiled_for")]
print(fastnn.get_backend(), *[m.compiled_for for m in loaded])
"""
    active, *loaded = python(code, FASTNN_BACKEND=name).stdout.split()
    assert active == name
    assert set(loaded) == (set() if name == "reference" else {name})


@pytest.mark.parametrize("name", ["fastest", "x86-64-v9"])
def test_an_unknown_name_in_the_environment_is_refused(name):
    run = python("import fastnn", FASTNN_BACKEND=name)
    assert run.returncode != 0
    assert f"FASTNN_BACKEND: no backend '{name}' on this machine; usable here: {', '.join(NAMES)}" in run.stderr


def test_without_the_variable_the_best_runs():
    assert python("import fastnn; print(fastnn.get_backend())", FASTNN_BACKEND="").stdout.strip() == NAMES[0]


def test_a_warning_says_that_there_are_no_kernels():
    """As in a program that was frozen without them."""
    code = """
import pkgutil
pkgutil.iter_modules = lambda *args: iter(())
import fastnn, fastnn.cli
print(fastnn.backends())
"""
    run = python(code, FASTNN_BACKEND="")
    assert run.stdout.strip() == "('reference',)"
    found = re.findall(r"RuntimeWarning: fastnn runs on NumPy.*, which runs (.*?)\.", run.stderr)
    assert found == [", ".join(cpu.instruction_sets())]
    assert not python(code, FASTNN_BACKEND="reference").stderr


def test_a_warning_says_that_the_processor_is_too_old(monkeypatch):
    monkeypatch.delenv("FASTNN_BACKEND", raising=False)
    module = sys.modules["fastnn.backends"]  # whose name is a function's, too
    monkeypatch.setattr(module, "backends", lambda: ("reference",))
    monkeypatch.setattr(cpu, "instruction_sets", tuple)
    with pytest.warns(RuntimeWarning, match="which runs none of the instruction sets that there are kernels for"):
        assert module._at_start() is reference


def test_show_config(capsys):
    fastnn.show_config()
    text = capsys.readouterr().out
    for word in (np.__version__, fastnn.get_backend(), "blas", "cpu", "threads"):
        assert word in text


def test_load_gives_the_reference():
    assert load("reference") is reference


def test_a_compiled_backend_is_not_the_reference(kernels):
    # or else the parity tests would compare the reference with itself
    for name in OPS:
        assert getattr(kernels, name) is not getattr(reference, name)
        assert type(getattr(kernels, name)).__name__ == "cython_function_or_method"


def test_an_import_leaves_the_process_as_it_was(tmp_path):
    code = """
import os, sys, threading
import numpy as np

def state():
    threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else threading.active_count()
    return dict(os.environ), threads, os.getcwd(), sorted(os.listdir()), dict(np.geterr())

before = state()
import fastnn
assert state() == before
tiny = np.array([5e-324, 1e-310]), np.array([1e-45, 1e-40], np.float32)
for x in tiny:
    assert (x * 1 > 0).all() and (x / 1 > 0).all() and (x + 0 > 0).all()
fastnn.Sigmoid().forward(np.ones((3, 3)))
assert state() == before
"""
    environment = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    run = processes.run(sys.executable, "-c", code, cwd=tmp_path, env=os.environ | environment)
    assert run.returncode == 0, run.stderr
