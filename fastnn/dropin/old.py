"""fastnn's classes and functions in place of somebody else's, without an edit of their files.

What is found under a name that fastnn has too is replaced if its signature is fastnn's and if it gives the same numbers
when both are tried side by side; anything else stays as it is and is reported.
"""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from fastnn import functions, layers, optimizers, trials
from fastnn.gradient import numerical_gradient

__all__ = ["Finding", "Patch", "patch", "run_script", "unpatch"]

OURS: dict[str, Any] = {
    **{name: getattr(layers, name) for name in layers.__all__},
    **{name: getattr(functions, name) for name in functions.__all__},
    **{name: getattr(optimizers, name) for name in optimizers.__all__},
    "numerical_gradient": numerical_gradient,
}
TRIALS = {name: trials.of(ours) for name, ours in OURS.items()}

Chooser = Callable[[str, Any], tuple[Any, str]]


class _LastAxisAffine(layers.Affine):
    """Volume 2's way with more than two dimensions: the last axis is what `W` multiplies, whatever the others are."""

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        x = np.asarray(x)
        y = super().forward(x.reshape(-1, x.shape[-1]) if x.ndim > 2 else x, train_flg)
        if train_flg and self.training:
            self._shape = x.shape
        return y.reshape(*x.shape[:-1], y.shape[-1]) if x.ndim > 2 else y

    def backward(self, dout: Any) -> Any:
        dout = np.asarray(dout)
        if self.x is None or len(self._shape) <= 2:
            return super().backward(dout)
        return super().backward(dout.reshape(-1, dout.shape[-1])).reshape(self._shape)


_LastAxisAffine.__name__ = _LastAxisAffine.__qualname__ = "Affine"


@dataclass(frozen=True)
class Finding:
    """What was found under a name that fastnn has too.

    Attributes
    ----------
    module, name : str
        Where.
    reason : str
        Why it was left as it is; empty if it was replaced.
    """

    module: str
    name: str
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}: {self.reason or 'replaced'}"


@dataclass
class Patch:
    """
    What `patch` has done; a context manager that undoes it at its end.

    Attributes
    ----------
    replaced, left : list of Finding
    """

    findings: list[Finding] = field(default_factory=list)
    _changes: list[tuple[dict[str, Any], str, Any, Any]] = field(default_factory=list, repr=False)

    @property
    def replaced(self) -> list[Finding]:
        return [f for f in self.findings if not f.reason]

    @property
    def left(self) -> list[Finding]:
        return [f for f in self.findings if f.reason]

    def undo(self) -> None:
        """Put everything back that is still where it was put."""
        while self._changes:
            names, name, old, new = self._changes.pop()
            if names.get(name) is new:
                names[name] = old

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __str__(self) -> str:
        return "\n".join(map(str, self.findings))


_patches: list[Patch] = []


def patch(
    module: ModuleType | str,
    *,
    only: Collection[str] | None = None,
    dialect: str | int = "auto",
    verify: bool = True,
) -> Patch:
    """
    Replace what a module has under fastnn's names, there and wherever it was imported to.

    Parameters
    ----------
    module : module or str
        A module, or its dotted name, which is imported.
    only : collection of str, optional
        Consider these names only.
    dialect : {"auto", 1, 2}, optional
        Whose layers they are, where the volumes differ: `Affine` with more than two dimensions.  "auto" tries.
    verify : bool, optional
        Run theirs and ours side by side on random input and leave what does not agree.  Their code is run for it.

    Returns
    -------
    Patch
        What was replaced and what was left.  Layers that were made before stay as they are.
    """
    if isinstance(module, str):
        module = importlib.import_module(module)
    _check_arguments(only, dialect)
    return _patch(module, OURS if only is None else only, partial(choose, dialect=dialect, verify=verify))


def _patch(module: ModuleType, names: Collection[str], chooser: Chooser) -> Patch:
    done = Patch()
    for name in [n for n in OURS if n in vars(module) and n in names]:
        theirs = vars(module)[name]
        ours, reason = chooser(name, theirs)
        if ours is not theirs:
            for holder, held_as in _holders(theirs):
                done._changes.append((holder, held_as, theirs, ours))
                holder[held_as] = ours
        if ours is not theirs or reason:
            done.findings.append(Finding(module.__name__, name, reason))
    _patches.append(done)
    return done


def unpatch() -> None:
    """Undo every `patch` that has not been undone, the last one first."""
    while _patches:
        _patches.pop().undo()


def choose(name: str, theirs: Any, *, dialect: str | int = "auto", verify: bool = True) -> tuple[Any, str]:
    """What to use under `name`: fastnn's, or `theirs` and the reason (none if it is fastnn's already)."""
    ours = OURS[name]
    if theirs is ours or getattr(theirs, "__module__", "").split(".")[0] == "fastnn":
        return theirs, ""
    reason = _difference(theirs, ours)
    if reason:
        return theirs, reason
    if name == "Affine" and (dialect == 2 or (dialect == "auto" and trials.keeps_axes(theirs))):
        ours = _LastAxisAffine
    if verify:
        reason = trials.difference(TRIALS[name], theirs, ours)
    return (theirs, reason) if reason else (ours, "")


def _check_arguments(only: Collection[str] | None, dialect: str | int) -> None:
    if dialect not in ("auto", 1, 2):
        raise ValueError(f'dialect must be "auto", 1 or 2, not {dialect!r}')
    unknown = sorted(set(only or ()) - set(OURS))
    if unknown:
        raise ValueError(f"only has {', '.join(unknown)}, which fastnn has not")


def _holders(held: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """Every name in every module that stands for an object."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if isinstance(names, dict) and not str(names.get("__name__")).startswith("fastnn."):
            for name, value in list(names.items()):
                if value is held:
                    yield names, name


def methods(ours: type) -> tuple[str, ...]:
    """What is called of a class of fastnn's."""
    return ("forward", "backward") if issubclass(ours, layers.Layer) else ("update",)


# ---------------------------------------------------------------- signatures


def _difference(theirs: Any, ours: Any) -> str:
    """Why calls of theirs are no calls of ours, if so."""
    if isinstance(ours, type) != isinstance(theirs, type):
        return "is a class" if isinstance(theirs, type) else "is no class"
    if not callable(theirs):
        return "cannot be called"
    if not isinstance(ours, type):
        return _signature_difference(theirs, ours, "")
    for name, method in vars(theirs).items():
        if callable(method) and not name.startswith("_"):
            if not callable(getattr(ours, name, None)):
                return f"has a method {name}, which fastnn's has not"
            reason = _signature_difference(method, getattr(ours, name), f"{name} ")
            if reason:
                return reason
    for name in methods(ours):
        if not callable(getattr(theirs, name, None)):
            return f"has no method {name}"
    constructor = inspect.getattr_static(theirs, "__init__")
    own = constructor is not object.__init__
    return _signature_difference(constructor, inspect.getattr_static(ours, "__init__"), "") if own else ""


def _signature_difference(theirs: Any, ours: Any, what: str) -> str:
    try:
        given, wanted = (list(inspect.signature(f).parameters.values()) for f in (theirs, ours))
    except (TypeError, ValueError):
        return f"{what}has no readable signature"
    wanted = [p for p in wanted if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names, our_names = ([p.name for p in parameters if p.name != "self"] for parameters in (given, wanted))
    text = f"{what}takes ({', '.join(names)}), fastnn's ({', '.join(our_names)})"
    if any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in given):
        return f"{what}takes * or keyword-only arguments"
    if names != our_names[: len(names)] or any(p.default is p.empty for p in wanted[len(given) :]):
        return text
    for p, q in zip(given, wanted, strict=False):
        if p.default is not p.empty and (q.default is q.empty or p.default != q.default):
            return f"{what}has {p.name}={p.default!r}, fastnn's {'no default' if q.default is q.empty else q.default!r}"
    return ""


# ---------------------------------------------------------------- scripts

HOOK = "__fastnn_choose__"


def run_script(
    path: str | os.PathLike[str], argv: Sequence[str], *, verify: bool = True, chooser: Chooser | None = None
) -> tuple[int, list[Finding]]:
    """
    Run a script as ``python path *argv`` would, with fastnn's layers in place of its own.

    Modules that it imports from its own folders are patched once they are imported; classes and functions of the script
    itself where they are defined.

    Parameters
    ----------
    path : path
    argv : sequence of str
        The script's own arguments.
    verify : bool, optional
        As in `patch`.
    chooser : callable, optional
        ``chooser(name, theirs)`` in place of `choose`: what to use under a name, and why it is theirs if it is.

    Returns
    -------
    code : int
        The exit code.
    findings : list of Finding
    """
    path = os.fspath(path)
    source = Path(path).read_bytes()
    chooser = chooser or partial(choose, verify=verify)
    finder = _Finder(chooser)

    def chosen(theirs: Any) -> Any:
        ours, reason = chooser(theirs.__name__, theirs)
        finder.findings.append(Finding("__main__", theirs.__name__, reason))
        return ours

    main = ModuleType("__main__")
    file = os.path.abspath(path)
    main.__dict__.update({"__file__": file, "__builtins__": __builtins__, HOOK: chosen})
    kept = sys.argv, sys.path[:], sys.modules.get("__main__")
    sys.argv = [path, *argv]
    folder = os.path.dirname(os.path.realpath(path))
    if sys.flags.safe_path:
        sys.path.insert(0, folder)
    else:
        sys.path[0] = folder
    sys.modules["__main__"] = main
    sys.meta_path.insert(0, finder)
    try:
        code = compile(_marked(ast.parse(source, file)), file, "exec")
        exec(code, main.__dict__)
        return 0, finder.findings
    except SystemExit as leaving:
        return _exit_code(leaving), finder.findings
    except BaseException as error:
        # As the interpreter shows it, without the frames of this module.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, ast.__file__):
            trace = trace.tb_next
        traceback.print_exception(type(error), error, trace)
        return 130 if isinstance(error, KeyboardInterrupt) else 1, finder.findings
    finally:
        sys.meta_path.remove(finder)
        sys.argv, sys.path[:] = kept[0], kept[1]
        if kept[2] is not None:
            sys.modules["__main__"] = kept[2]


def _exit_code(leaving: SystemExit) -> int:
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    print(leaving.code, file=sys.stderr)
    return 1


def _marked(tree: ast.Module) -> ast.Module:
    """With a decorator that chooses, on every definition under a name that fastnn has."""
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name in OURS:
            statement.decorator_list.insert(0, ast.copy_location(ast.Name(HOOK, ast.Load()), statement))
    return tree


class _Finder(importlib.abc.MetaPathFinder):
    """Has every module that is no part of Python or of an installed package patched after its import."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.findings: list[Finding] = []
        installed = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
        self.not_theirs = tuple(os.path.join(folder, "") for folder in {*installed, os.path.dirname(__file__)})

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        for finder in sys.meta_path:
            if finder is not self:
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    break
        else:
            return None
        is_theirs = spec.origin and spec.origin.endswith(".py") and not spec.origin.startswith(self.not_theirs)
        if spec.loader is not None and is_theirs:
            spec.loader = _Loader(spec.loader, self)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._finder.findings += _patch(module, OURS, self._finder.chooser).findings
