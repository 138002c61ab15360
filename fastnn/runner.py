"""A script run as Python runs it, but for the code that its files are compiled to."""

from __future__ import annotations

import atexit
import builtins
import os
import pkgutil
import runpy
import site
import sys
import sysconfig
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from copy import copy
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NoReturn
from zipimport import zipimporter

from fastnn._kernels import last

__all__ = ["Compile", "run"]

Compile = Callable[[bytes, str, str], CodeType]  # of a source, its file's name and its module's


def run(
    program: str | os.PathLike[str],
    argv: Sequence[str],
    compile: Compile,
    *,
    as_module: bool = False,
    at_end: Callable[[], None] | None = None,
) -> NoReturn:
    """
    Run a program as ``python program *argv`` would, as the last thing that this process does.

    What the caller and its callers have left to do is not done: an exception ends them, which none of them may catch,
    and the program starts when they are gone.

    Parameters
    ----------
    program : path
        A script, or a folder or zip file with a ``__main__.py``.
    argv : sequence of str
        Its arguments.
    compile : callable
        ``compile(source, filename, name)`` gives the code of the program and of every module that it imports from
        elsewhere than Python, the installed packages and fastnn.  What it raises an error for runs as it stands.
    as_module : bool, optional
        `program` is the name of a module, as for ``python -m``.
    at_end : callable, optional
        Called when the process has done all else, but not in a process that the program has forked.

    Raises
    ------
    OSError
        The program cannot be read.
    """
    program = os.fspath(program)
    is_script = not as_module and pkgutil.get_importer(_absolute(program)) is None
    source = Path(program).read_bytes() if is_script else b""
    if at_end:
        atexit.register(_report, at_end, os.getpid())
    names = {program, f"{program}.__main__"} if as_module else {"__main__"}
    sys.meta_path.insert(0, _Finder(compile, () if is_script else names))
    main = ModuleType("__main__")
    if "__annotations__" in vars(sys.modules["__main__"]):  # until Python 3.14
        main.__annotations__ = {}
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    sys.argv = ["-m" if as_module else program, *argv]
    file = _absolute(program)
    first = os.getcwd() if as_module else os.path.dirname(os.path.realpath(program)) if is_script else file
    if not sys.flags.safe_path:
        sys.path[0] = first
    elif not as_module and not is_script:
        sys.path.insert(0, first)
    if not is_script:
        last.call(runpy._run_module_as_main, program if as_module else "__main__", as_module)  # type: ignore[attr-defined]
    code = None
    with suppress(Exception):
        code = compile(source, file, "__main__")
    if code is None:
        last.call(last.run_file, program, os.fsencode(file))
    vars(main).update(__loader__=SourceFileLoader("__main__", file), __file__=file, __cached__=None)
    last.call(code, vars(main))


def _absolute(path: str) -> str:
    """As Python makes it of a path that it is started with."""
    if sys.platform == "win32":
        return os.path.abspath(path)
    return os.getcwd() if path == "." else os.path.join(os.getcwd(), path)


def _report(at_end: Callable[[], None], process: int) -> None:
    if os.getpid() == process:
        with suppress(Exception):  # the interpreter says so if it cannot be
            sys.stdout.flush()
        at_end()


class _Finder:
    """Finds what the next finders find, and has the program's own modules compiled."""

    def __init__(self, compile: Compile, main: Collection[str]) -> None:
        self._compile, self._main = compile, main
        self._made: dict[str, tuple[bytes, CodeType]] = {}  # until it is run
        paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        paths += [*site.getsitepackages(), site.getusersitepackages(), os.path.dirname(__file__)]
        self._not_theirs = tuple(os.path.join(path, "") for path in paths)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        others = [finder for finder in sys.meta_path[sys.meta_path.index(self) + 1 :] if hasattr(finder, "find_spec")]
        spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        if spec is None or type(spec.loader) not in (SourceFileLoader, zipimporter):
            return spec
        if not str(spec.origin).endswith(".py") or str(spec.origin).startswith(self._not_theirs):
            return spec
        called = name
        if name in self._main and spec.submodule_search_locations is None:
            called, self._main = "__main__", ()
        loader: Any = copy(spec.loader)

        def get_code(fullname: str) -> CodeType:
            file = loader.get_filename(fullname)
            source = loader.get_data(file)
            before, code = self._made.pop(fullname, (None, None))
            if code is None or before != source:
                code = self._compile(source, file, called if fullname == name else fullname)
            return code

        # What cannot be compiled is left to Python.  To know it now keeps this file out of the tracebacks.
        with suppress(Exception):
            code = get_code(name)
            self._made[name] = loader.get_data(spec.origin), code
            vars(loader)["get_code"] = get_code
            spec.loader = loader
        return spec
