import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from promises import PROMISES

import fastnn
from fastnn import backends as usable_backends
from fastnn.backends import load

sys.path.append(str(Path(__file__).parents[1]))  # for bench; at the end, so that fastnn is the installed one
SLOW = [HealthCheck.too_slow]  # which a busy machine is
COMPILED = [name for name in usable_backends() if name != "reference"]
# For tests that hold every backend against one computation of the reference's.
KERNELS = {name: load(name) for name in COMPILED}
MODULES = {name: load(name) for name in usable_backends()}

DEMO = "matplotlib", "rich", "sklearn"  # what the extra of this name installs

# The number of examples is that of each test.  pytest --hypothesis-profile=nightly chooses the longer one.
settings.register_profile("suite", max_examples=50, derandomize=True, deadline=None, suppress_health_check=SLOW)
nightly = PROMISES["any_input"]["examples"]
settings.register_profile("nightly", max_examples=nightly, print_blob=True, deadline=None, suppress_health_check=SLOW)


def pytest_configure(config):
    # Again what was asked for: in a process of pytest-xdist this file may be read after the plugin has chosen.
    settings.load_profile(config.getoption("--hypothesis-profile", None) or "suite")


@pytest.fixture
def rng():
    return np.random.default_rng(20260101)


@pytest.fixture(params=COMPILED)
def kernels(request):
    """Each compiled backend of this machine, as a module."""
    return load(request.param)


@pytest.fixture(params=usable_backends())
def module(request):
    """Each backend of this machine, the reference too, as a module."""
    return load(request.param)


@pytest.fixture(params=usable_backends())
def backend(request):
    """Each backend of this machine, active during the test."""
    with fastnn.use_backend(request.param):
        yield request.param


@pytest.fixture(scope="module")
def only_new_objects():
    """A collection of garbage looks at what the module's tests made, not at all that was there before."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def start_method(request):
    """A way to start a process, by its name."""
    if request.param == "fork" and sys.platform != "linux":
        pytest.skip("Windows has no fork, and macOS's own libraries do not bear one")
    return request.param


@pytest.fixture
def figure(record_property):
    """A function that has a measured figure printed at the end of a run with --figures."""
    return lambda text: record_property("figure", text)


def pytest_addoption(parser, pluginmanager):
    parser.addoption("--figures", action="store_true", help="print at the end what was measured, a line each")
    if not pluginmanager.hasplugin("xdist"):  # -p no:xdist, which does not know what pyproject.toml tells it
        for name in ("--numprocesses", "--dist"):
            parser.addoption(name, help="for pytest-xdist")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs):
    """Of parallel processes each has its share of the processors for matrix products, too."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(specs))))


def pytest_collection_modifyitems(items):
    missing = [name for name in DEMO if find_spec(name) is None]
    for item in items:
        if missing and item.get_closest_marker("demo"):
            item.add_marker(pytest.mark.skip(reason=f"needs the demo extra; not installed: {', '.join(missing)}"))


def pytest_terminal_summary(terminalreporter, config):
    if not config.getoption("figures"):
        return
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]
    for text in [text for report in reports for name, text in report.user_properties if name == "figure"]:
        terminalreporter.write_line(f"figure: {text}")
