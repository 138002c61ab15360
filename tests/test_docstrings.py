"""The examples in the documentation run and print what they say, on every backend."""

import doctest
import importlib
import pkgutil
import sys
from importlib.util import find_spec

import pytest
from conftest import DEMO

import fastnn


def modules():
    """Of the package, but for programs and for kernels that this machine may not be able to run."""
    for module in pkgutil.walk_packages(fastnn.__path__, "fastnn."):
        source = find_spec(module.name).origin.endswith(".py")
        if (source or module.name in sys.modules) and not module.name.endswith("__main__"):
            yield pytest.param(module.name, marks=[pytest.mark.demo] if needs_demo(module.name) else [])


def needs_demo(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] in DEMO:
            return True
        raise
    return False


@pytest.mark.parametrize("name", [*modules()])
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where they may write
    examples = doctest.DocTestFinder().find(importlib.import_module(name))
    for backend in fastnn.backends():
        printed = []
        with fastnn.use_backend(backend):
            for example in examples:
                doctest.DocTestRunner().run(example, out=printed.append, clear_globs=False)
        assert not printed, f"{backend}: {''.join(printed)}"
