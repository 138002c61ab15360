"""What is installed: its files, the order of its modules, and that others can build on its loops."""

import ast
import importlib.metadata
import importlib.util
import os
import re
import runpy
import sys
import sysconfig
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader
from pathlib import Path

import numpy as np
import processes
import pytest
from processes import python
from promises import PAGE, PROMISES, table

import fastnn
from fastnn import optable
from fastnn._kernels import cpu
from fastnn.optable import LOSS_CURVE, LOSS_CURVE_STEPS, OPS

PACKAGE = Path(fastnn.__file__).parent

# Each module may import only what stands above it.  FAMILY stands for the ops' families, which may import each other
# on their floor, though not in circles.
ORDER = """
    _kernels.arrays
    _kernels.lists
    _kernels.gates
    _kernels.last
    arguments
    _kernels.vmath
    _kernels.loops
    _kernels.loops.reductions
    _kernels.loops.FAMILY
    _kernels.cpu
    _kernels
    _kernels.memory
    _kernels.threads
    fallback
    reference.numbers
    reference.FAMILY
    reference
    optable.samples
    optable.base
    optable.sizes
    optable.refusals
    optable.kinds
    optable.FAMILY
    optable
    _kernels.boundary
    _kernels.targets
    _kernels.updates
    _kernels.products
    _kernels.chains
    _kernels.descents
    _kernels.FAMILY
    _kernels.dispatch
    backends
    ops
    functions
    layers.base
    layers.FAMILY
    layers
    pictures
    graph
    progress
    gradient
    npz
    architecture
    networks
    optimizers
    training
    data
    reports
    profiling
    info
    __init__
    trials.base
    trials.FAMILY
    trials.training
    trials
    dropin.states
    dropin.samples
    dropin.explain
    dropin.reach
    dropin.search
    dropin.kinds
    dropin.guards
    dropin.face
    dropin
    runner
    scripts
    examples
    examples.gradients
    examples.graph
    examples.layers
    examples.regression
    examples.volume2
    cli
    __main__
    _pyinstaller
    _pyinstaller.hook-fastnn
""".split()
FAMILIES = {family.__name__.rpartition(".")[2] for family in optable.FAMILIES}


def python_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{name.name}" for name in node.names)
            yield node.module


def cython_imports(path):
    """A module of a family names another that is compiled for the same instruction set relatively."""
    pattern = r"^from ((?:fastnn|\.)\S*) c?import (\([^)]+\)|[^#\n]+)|^c?import (fastnn\S*)"
    for module, names, plain in re.findall(pattern, path.read_text(encoding="utf-8"), re.MULTILINE):
        module = re.sub(r"^\.", "fastnn._kernels.", module or plain)
        yield module
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


def module_name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def floor(name):
    folder, _, last = name.rpartition(".")
    return ORDER.index(f"{folder}.FAMILY" if last in FAMILIES else name)


def reached(name, imports):
    """The modules on its own floor that one imports, and these import."""
    found, new = set(), {name}
    while new:
        new = {t for n in new for t in imports[n] if floor(t) == floor(name) and t != n} - found
        found |= new
    return found


def test_modules_import_only_what_stands_above_them():
    found = [path for suffix in ("py", "pyx", "pxd") for path in PACKAGE.rglob(f"*.{suffix}")]
    names = [module_name(path) for path in found]
    imports = {name: set() for name in names}
    for name, path in zip(names, found, strict=True):
        given = python_imports(path) if path.suffix == ".py" else cython_imports(path)
        targets = {target.removeprefix("fastnn.") for target in given}
        assert not [t for t in targets if re.match(r"(tests|bench)\b", t)], name
        imports[name] |= {target for target in targets if target in imports}
    for name, targets in imports.items():
        for target in targets - {name}:
            # The package is loaded with any of its modules, to say if they are missing.
            above = floor(target) < floor(name) or target == "_kernels"
            assert above or floor(target) == floor(name), f"{name} imports {target}, which stands below it"
        assert name not in reached(name, imports), f"{name} imports itself, in a circle"


def test_ops_are_reached_by_one_door():
    for path in PACKAGE.rglob("*.py"):
        families = {f"fastnn._kernels.{family}" for family in FAMILIES}
        assert not families & set(python_imports(path)), path


def test_layers_name_no_implementation():
    for path in (PACKAGE / "layers").glob("*.py"):
        assert not [m for m in python_imports(path) if m.startswith(("fastnn._kernels", "fastnn.reference"))], path


def installed_from_a_wheel():
    return not any("__editable__" in str(f) for f in importlib.metadata.files("fastnn-kernels"))


wheel = pytest.mark.skipif(not installed_from_a_wheel(), reason="an editable install holds the whole source folder")


@wheel
def test_the_package_is_the_installed_one():
    assert Path(sysconfig.get_path("platlib")) in PACKAGE.parents


@wheel
def test_the_wheel_holds_what_it_should_and_nothing_else():
    files = {f.as_posix() for f in importlib.metadata.files("fastnn-kernels") if "__pycache__" not in f.as_posix()}
    inside = {f.removeprefix("fastnn/") for f in files if f.startswith("fastnn/")}
    loops = {f"_kernels/loops/{family}.pxd" for family in FAMILIES}
    assert {"py.typed", "ops.pyi", "_kernels/vmath.pxd", "_kernels/cpu.pyi", "examples/layers.py", *loops} <= inside
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = {f.removesuffix(suffix) for f in inside if f.endswith(suffix)}
    sets = ["x86_64_v2", "x86_64_v3", "x86_64_v4"] if cpu.instruction_sets() != ("generic",) else ["generic"]
    once = "boundary chains cpu descents dispatch gates last lists memory products targets threads updates".split()
    expected = {*once, *(f"{instructions}/{family}" for instructions in sets for family in FAMILIES)}
    assert built == {f"_kernels/{name}" for name in expected}
    assert {Path(f).suffix for f in inside} == {".py", ".pyi", ".pxd", ".typed", Path(suffix).suffix}
    assert not any(f.startswith(("tests/", "bench/")) for f in files)


def test_every_promise_is_held_by_something():
    root = Path(__file__).parents[1]
    assert len(PROMISES) >= 20
    for row in PROMISES.values():
        assert row["held_by"], row
        for name in row["held_by"]:
            path, _, test = name.split(" ")[0].partition("::")
            file = root / path
            assert file.exists() and (not test or f"def {test}(" in file.read_text(encoding="utf-8")), name


def test_tests_read_the_figures_of_every_promise():
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    for name, row in PROMISES.items():
        figures = {key for key, value in row.items() if isinstance(value, int | float)}
        assert set(re.findall(r"{(\w+)", row["figure"])) == figures, name
        assert not figures or f'PROMISES["{name}"]' in tests, name


def test_the_package_has_the_promised_figures():
    agreement = [PROMISES["agreement"][kind] for kind in ("exponential", "sum", "perceptron")]
    assert [OPS[name].ulp for name in ("softmax", "bias_grad", "mlp_gradient")] == agreement
    assert {ulp for op in OPS.values() for ulp in np.atleast_1d(op.ulp)} == {0, *agreement}
    for op in OPS.values():
        if op.truth:
            assert [op.truth.ulp, op.truth.reference_ulp] == [PROMISES["truth"][kind] for kind in ("ulp", "reference")]
    assert {"steps": LOSS_CURVE_STEPS, **LOSS_CURVE}.items() <= PROMISES["training"].items()


def test_the_page_of_promises_is_written_from_them():
    assert table() in PAGE.read_text(encoding="utf-8"), "run `python tests/promises.py`"


def test_numpy_is_the_only_dependency_at_run_time():
    required = importlib.metadata.requires("fastnn-kernels")
    assert [r for r in required if "extra" not in r] == ["numpy>=2.0"]


def test_import_loads_nothing_heavy():
    code = "import sys, fastnn; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    run = python(code)
    assert run.returncode == 0
    assert not {"rich", "sklearn", "scipy", "Cython", "setuptools", "matplotlib", "torch"} & set(run.stdout.split())


# ---------------------------------------------------------------- frozen by PyInstaller


def hidden_imports():
    [entry] = importlib.metadata.entry_points(group="pyinstaller40", name="hook-dirs").select(value=HOOK)
    [folder] = entry.load()()
    return runpy.run_path(os.path.join(folder, "hook-fastnn.py"))["hiddenimports"]


HOOK = "fastnn._pyinstaller:hook_folders"


def test_the_hook_names_every_compiled_module():
    names = hidden_imports()
    folders = [name.replace("-", "_") for name in fastnn.backends() if name != "reference"]
    assert {f"fastnn._kernels.{folder}.{family}" for folder in folders for family in FAMILIES} <= set(names)
    assert len(names) == len([*PACKAGE.rglob(f"*{EXTENSION_SUFFIXES[0]}")])
    for name in names:
        assert isinstance(importlib.util.find_spec(name).loader, ExtensionFileLoader)


def test_what_compiled_modules_import_is_imported_by_others():
    """PyInstaller sees what Python modules import, from fastnn itself on, and not what compiled ones do."""
    python_modules = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    seen, new = set(), {"__init__"}
    while new:
        seen |= new
        found = {t.removeprefix("fastnn.") for name in new for t in python_imports(python_modules[name])}
        new = {name for name in found if name in python_modules} - seen
    for path in (PACKAGE / "_kernels").rglob("*.p[yx][xd]"):
        needed = {t.removeprefix("fastnn.") for t in cython_imports(path)}
        assert needed & python_modules.keys() <= seen, path


APP = """
import fastnn, numpy as np
network = fastnn.MLP([4, 5, 3], seed=0)
x, t = np.ones((20, 4)), np.zeros(20, int)
fastnn.Trainer(network, fastnn.Adam(), seed=0).fit(x, t, batch_size=5, epochs=2)
network.save("net.npz")
np.testing.assert_array_equal(fastnn.load("net.npz").predict(x), network.predict(x))
fastnn.show_config()
print(*fastnn.backends())
"""


@wheel
def test_a_frozen_program_has_the_kernels(tmp_path):
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text(APP)
    env = os.environ | {"PYINSTALLER_CONFIG_DIR": str(tmp_path / "cache")}
    # Without the extras, which take long.
    options = [f"--exclude-module={name}" for name in ("matplotlib", "rich", "sklearn")]
    run = processes.run(sys.executable, "-P", "-m", "PyInstaller", *options, "app.py", cwd=tmp_path, env=env)
    assert run.returncode == 0, run.stdout + run.stderr
    run = processes.run(tmp_path / "dist" / "app" / "app", cwd=tmp_path)
    assert run.stdout.splitlines()[-1].split() == list(fastnn.backends()) and not run.stderr, run.stdout + run.stderr


# ---------------------------------------------------------------- built upon


SETUP = """
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
setup(ext_modules=cythonize([Extension("theirs", ["theirs.pyx"])], quiet=True))
"""

THEIRS = """
from fastnn._kernels.loops cimport elementwise, softmax as by_rows
from fastnn._kernels.vmath cimport exp32

def relu(const double[::1] x, double[::1] y):
    elementwise.relu(&x[0], &y[0], x.shape[0])

def softmax(const float[:, ::1] x, float[:, ::1] y):
    with nogil:
        by_rows.softmax(&x[0, 0], &y[0, 0], x.shape[0], x.shape[1])

def exp(float x):
    return exp32(x)
"""

USE = """
import numpy as np, theirs, fastnn
x = np.linspace(-2, 2, 50)
y = np.empty_like(x)
theirs.relu(x, y)
assert (y == np.maximum(x, 0)).all()
x = np.random.default_rng(0).standard_normal((7, 33)).astype("f")
y = np.empty_like(x)
theirs.softmax(x, y)
np.testing.assert_allclose(y, fastnn.softmax(x), rtol=1e-6)
assert abs(theirs.exp(1.0) - np.e) < 1e-6 and theirs.exp(-200.0) == 0 and theirs.exp(200.0) == np.inf
"""


@wheel
def test_another_project_can_cimport_the_loops(tmp_path):
    pytest.importorskip("Cython")
    (tmp_path / "setup.py").write_text(SETUP)
    (tmp_path / "theirs.pyx").write_text("# cython: language_level=3\n" + THEIRS)
    for words in (["setup.py", "-q", "build_ext", "--inplace"], ["-c", USE]):
        run = processes.run(sys.executable, *words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""})
        assert run.returncode == 0, run.stdout + run.stderr
