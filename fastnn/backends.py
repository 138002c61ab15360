"""Which implementation runs: list, choose, force, refuse.

A backend has the ops of `fastnn.optable` as its functions.  The reference is a module; a compiled one is put together
from a module for each family of ops.  They live side by side in one process; a compiled one is imported when it is
first chosen, and only if this machine can run it.
"""

from __future__ import annotations

import os
import platform
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from fastnn import _kernels, reference
from fastnn._kernels import cpu, threads

VARIABLE = "FASTNN_BACKEND"


def _families(name: str) -> list[str]:
    """The names of the modules that were built for an instruction set."""
    folders = [os.path.join(folder, name.replace("-", "_")) for folder in _kernels.__path__]
    return [module.name for module in iter_modules(folders)]


@cache
def backends() -> tuple[str, ...]:
    """The names of the backends usable on this machine, best first; the last is the NumPy reference."""
    built = [name for name in (*cpu.instruction_sets(), "generic") if _families(name)]
    return (*dict.fromkeys(built), "reference")


@cache
def load(name: str) -> Any:
    """
    The module of a backend.

    Parameters
    ----------
    name : str
        One of `backends()`.

    Raises
    ------
    ValueError
        The name is unknown or this machine cannot run it.
    """
    if name not in backends():
        raise ValueError(f"no backend {name!r} on this machine; usable here: {', '.join(backends())}")
    if name == "reference":
        return reference
    backend = ModuleType(f"fastnn._kernels.{name.replace('-', '_')}")
    for family in _families(name):
        module = import_module(f"{backend.__name__}.{family}")
        vars(backend).update({key: value for key, value in vars(module).items() if key[0] != "_"})
    return backend


def name_of(backend: Any) -> str:
    """The name of a backend's module, as `backends` lists it."""
    return "reference" if backend is reference else str(backend.compiled_for)


def _at_start() -> Any:
    name = os.environ.get(VARIABLE)
    if not name:
        if backends() == ("reference",):
            runs = ", ".join(cpu.instruction_sets()) or "none of the instruction sets that there are kernels for"
            warnings.warn(
                f"fastnn runs on NumPy, many times slower: it finds no kernels for this processor, which runs {runs}. "
                "A frozen program may lack the modules in fastnn/_kernels, which fastnn's hook for PyInstaller names. "
                f"{VARIABLE}=reference asks for NumPy without this warning.",
                RuntimeWarning,
                stacklevel=2,
            )
        return load(backends()[0])
    try:
        return load(name)
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: {error}") from None


# What ops.py reads at every call: the choice of this thread or task if it has made one, else that of the process.
chosen: ContextVar[Any] = ContextVar("fastnn_backend")
process = SimpleNamespace(backend=_at_start())


def active() -> Any:
    """The module that runs the ops here and now."""
    return chosen.get(process.backend)


def get_backend() -> str:
    """The name of the backend that runs the ops in this thread or task."""
    return name_of(active())


def set_backend(name: str) -> None:
    """
    Choose the backend for the whole process, outside `use_backend` blocks.

    Parameters
    ----------
    name : str
        One of `backends()`; anything else is a ValueError.
    """
    process.backend = load(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """
    Choose the backend for a ``with`` block, in this thread or task only.

    Parameters
    ----------
    name : str
        One of `backends()`; anything else is a ValueError.
    """
    with use(load(name)):
        yield


@contextmanager
def use(backend: Any) -> Iterator[None]:
    """Run the ops of a ``with`` block on an object with the ops as attributes, in this thread or task only."""
    token = chosen.set(backend)
    try:
        yield
    finally:
        chosen.reset(token)


def config() -> dict[str, Any]:
    """What `show_config` prints, as a dict of plain values."""
    from importlib.metadata import version  # costs more than the rest of the import

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "fastnn": version("fastnn-kernels"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "system": f"{sys.platform} {platform.machine()}",
        "cpu": cpu.model() or platform.processor() or "unknown",
        "instruction sets": list(cpu.instruction_sets()),
        "backend": get_backend(),
        "backends": list(backends()),
        "threads": threads.get_num_threads(),
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        **_openblas(),
    }


def _openblas() -> dict[str, Any]:
    # NumPy's wheels carry OpenBLAS, which tells the kernels it chose; other BLAS libraries have no such call.
    import ctypes
    from pathlib import Path

    root = Path(np.__file__).parent
    for path in [*root.parent.glob("numpy.libs/*openblas*"), *root.glob(".dylibs/*openblas*")]:
        library = ctypes.CDLL(str(path))
        for name in ("scipy_openblas_get_{}64_", "openblas_get_{}64_", "openblas_get_{}"):
            core, threads = (getattr(library, name.format(what), None) for what in ("corename", "num_threads"))
            if core is not None and threads is not None:
                core.restype = ctypes.c_char_p
                return {"blas core": core().decode(), "blas threads": threads()}
    return {"blas core": "unknown", "blas threads": "unknown"}


def show_config() -> None:
    """Print versions, processor, backend, threads and BLAS, for bug reports and benchmark headers."""
    for key, value in config().items():
        print(f"{key:16} {', '.join(value) if isinstance(value, list) else value}")
