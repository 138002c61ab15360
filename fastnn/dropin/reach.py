"""What the body of a function may read and change, beside its arguments: told from its code, without running it.

Only a function whose result is told by its arguments, by constants and by what can be watched may be replaced, and run
beside fastnn's without an effect of its own.
"""

from __future__ import annotations

import builtins
import dis
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

# What changes nothing and reads nothing but its arguments.
HARMLESS = {
    each
    for each in vars(builtins).values()
    if isinstance(each, type) and (issubclass(each, BaseException) or each in {bool, complex, float, int, str})
} | {
    abs, all, any, dict, divmod, enumerate, isinstance, issubclass, len, list, max, min, object, pow, range, reversed,
    round, set, sorted, sum, super, tuple, type, zip
}  # fmt: skip
NUMERIC = {"cmath", "math", "numpy", "scipy"}
CONSTANTS = bool, int, float, complex, str, bytes, type(None), type(Ellipsis), np.generic, np.dtype
# By NumPy's ways of naming: what writes, reads or sets something that is no argument.
BESIDE = re.compile(r"(save|load|set|show|print|seed|info|test).*|.*(file|txt|dump|memmap|errcall)")
# What a class may have of its own so that a copy of an object, or an attribute, is not all that there is to it.
ACCESS = "__getattribute__", "__getattr__", "__setattr__", "__delattr__", "__del__"
# What no kind tells of an array.
HIDDEN = {"base", "flags", "ctypes", "strides", "__array_interface__"}
SIZES = {"shape", "size", "ndim", "nbytes", "strides"}
DEEPEST = 6


@dataclass
class Reach:
    """
    What a function may read and change.

    Attributes
    ----------
    names : set of str
        Attributes that it may read or set of its first argument.
    methods : set of str
        Methods that it calls of its first argument, as the class has them.
    watched : list of (dict, str, object)
        Names of modules and classes that it reads, and what they stand for.
    floats : list of float
        The floats among its constants and among what is watched.
    by_shape : bool
        Whether shapes may decide what it does, or whether it raises.
    loops : bool
        Whether it has a loop whose end its numbers decide.
    has_parts : bool
        Whether it calls functions with gates of their own.
    reason : str
        Why it cannot be replaced, if so.
    """

    names: set[str] = field(default_factory=set)
    methods: set[str] = field(default_factory=set)
    watched: list[tuple[Mapping[str, Any], str, Any]] = field(default_factory=list)
    floats: list[float] = field(default_factory=list)
    by_shape: bool = False
    loops: bool = False
    has_parts: bool = False
    reason: str = ""


def of(code: CodeType, names: dict[str, Any], subject: Any = None) -> Reach:
    """The reach of a function with this code in a module with these names; `subject` is its `self`, if it has one."""
    reach = Reach()
    special = next((name for name in ACCESS if not _is_plain(type(subject), name)), None)
    if subject is not None and special:
        reach.reason = f"is of the class {type(subject).__name__}, which has {special}"
    _add(reach, plain(code), names, subject, set(), 0)
    return reach


def _is_plain(owner: type, name: str) -> bool:
    return getattr(owner, name, None) is getattr(object, name, None)


def _add(reach: Reach, code: CodeType, names: dict[str, Any], subject: Any, seen: set[CodeType], depth: int) -> None:
    if code in seen or reach.reason:
        return
    if depth > DEEPEST:
        reach.reason = "its calls go too deep to be followed"
        return
    seen.add(code)
    around = set(code.co_freevars) - {"__class__"}
    if around:
        reach.reason = f"reads {min(around)} of the function around it"
        return
    own = code.co_varnames[0] if subject is not None and code.co_argcount else None
    read, attributes, of_self = set[str](), set[str](), set[str]()
    for each in _codes(code):
        reach.floats += [c for c in each.co_consts if isinstance(c, float)]
        reach.reason = reach.reason or _scan(each, own, read, attributes, of_self)
        names_of = {i.opname for i in dis.get_instructions(each)}
        branches = any("_IF_" in name or name in ("COMPARE_OP", "CONTAINS_OP") for name in names_of)
        decides = (branches or read & {"min", "max"}) and (attributes & SIZES or "len" in read)
        decides = decides or any(_may_be_a_size(c) for c in each.co_consts)
        reach.by_shape |= bool(decides or names_of & {"RAISE_VARARGS", "LOAD_ASSERTION_ERROR"})
        reach.loops |= _loops(each)
    for name in sorted(attributes - of_self):
        if name in HIDDEN:
            reach.reason = reach.reason or f"looks at {name}"
        if BESIDE.fullmatch(name) and not hasattr(dict, name):
            reach.reason = reach.reason or f"calls {name}"
    for name in sorted(read):
        if reach.reason:
            return
        if name in names:
            _add_value(reach, names, name, attributes, seen, depth)
        elif not hasattr(builtins, name):
            reach.reason = f"reads {name}, which is not there"
        elif getattr(builtins, name) not in HARMLESS:
            reach.reason = f"calls {name}"
        else:
            reach.watched.append((names, name, None))
    for name in sorted(of_self):
        if reach.reason:
            return
        _add_attribute(reach, subject, name, seen, depth)


def _loops(code: CodeType) -> bool:
    """Whether there is a loop over no iterator, whose end its numbers decide."""
    instructions = [*dis.get_instructions(code)]
    heads = {each.offset for each in instructions if each.opname in ("FOR_ITER", "EXTENDED_ARG")}
    return any("JUMP_BACKWARD" in each.opname and each.argval not in heads for each in instructions)


def _may_be_a_size(constant: Any) -> bool:
    if isinstance(constant, tuple):
        return any(_may_be_a_size(each) for each in constant)
    return type(constant) is int and abs(constant) > 2  # the small ones are axes, powers and numbers of dimensions


def gate_of(code: CodeType) -> Any:
    """The gate that a guard in the code asks; None if there is none."""
    return next((constant for constant in code.co_consts if hasattr(constant, "serve")), None)


def plain(code: CodeType) -> CodeType:
    """The code as it was before a guard was put into it."""
    gate = gate_of(code)
    return code if gate is None else gate.code


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those of the functions within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _scan(code: CodeType, own: str | None, read: set[str], attributes: set[str], of_self: set[str]) -> str:
    """Collect what is read, and say what is changed beside the code's own names and the attributes of `own`."""
    loaded: Any = None  # the name that the instruction before has loaded last
    augmented, before = 0, ""  # of self.x += 1
    of_super = False  # whether super() is what has been called
    for instruction in dis.get_instructions(code):
        name, argument = instruction.opname, instruction.argval
        if name in ("CACHE", "NOP", "EXTENDED_ARG", "RESUME", "COPY_FREE_VARS", "MAKE_CELL"):
            continue
        if name == "COPY" and own is not None and loaded == own:
            augmented += 1
            continue
        if name == "STORE_ATTR" and before == "SWAP" and augmented:
            augmented, loaded = augmented - 1, own
        before = name
        is_attribute = name in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR", "LOAD_SUPER_ATTR")
        if own is not None and loaded == own and not is_attribute:
            return f"hands {own} on"
        if name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            return f"changes the global {argument}"
        if name == "STORE_DEREF" and argument in code.co_freevars and argument not in ("__class__",):
            return f"changes {argument} of the function around it"
        if name == "DELETE_ATTR" or (name == "STORE_ATTR" and (own is None or loaded != own)):
            return f"changes the attribute {argument} of another object"
        if name == "IMPORT_NAME" and argument.split(".")[0] not in NUMERIC:
            return f"imports {argument}"
        if name in ("YIELD_VALUE", "SEND", "GET_AWAITABLE") and code.co_name != "<genexpr>":
            return "is a generator"
        if is_attribute:
            attributes.add(argument)
            if of_super or name == "LOAD_SUPER_ATTR" or (own is not None and loaded == own):
                of_self.add(argument)
        elif of_super and name not in ("PRECALL", "CALL", "LOAD_DEREF", "LOAD_FAST"):
            return "hands super() on"
        of_super = of_super and not is_attribute
        if name in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(argument)
            of_super = argument == "super"
        pair = argument if isinstance(argument, tuple) else (argument,)
        if name.startswith(("LOAD_FAST", "LOAD_DEREF")):
            if own is not None and own in pair[:-1]:
                return f"hands {own} on"
            loaded = pair[-1]
        elif name == "STORE_FAST_LOAD_FAST":
            loaded = pair[-1]
        else:
            loaded = None
    return ""


def _add_value(
    reach: Reach, names: dict[str, Any], name: str, attributes: set[str], seen: set[CodeType], depth: int
) -> None:
    value = names[name]
    if isinstance(value, ModuleType):
        reach.watched.append((names, name, value))
        if _is_numeric(value.__name__):
            _add_numeric(reach, value, attributes, seen, depth)
            return
        if not _is_theirs(value):
            reach.reason = f"uses {name}"
            return
        for each in sorted(attributes & set(vars(value))):
            _add_value(reach, vars(value), each, attributes, seen, depth)
    elif _is_of_numpy(value):
        reach.watched.append((names, name, value))
        if BESIDE.fullmatch(value.__name__):
            reach.reason = f"calls {name}"
    elif isinstance(value, FunctionType):
        reach.watched.append((names, name, value))
        reach.has_parts |= gate_of(value.__code__) is not None
        if value.__closure__ or _remembers(value, attributes):
            reach.reason = f"calls {name}, which has a memory of its own"
        else:
            _add(reach, plain(value.__code__), value.__globals__, None, seen, depth + 1)
    elif isinstance(value, CONSTANTS) or (isinstance(value, tuple) and all(isinstance(v, CONSTANTS) for v in value)):
        reach.watched.append((names, name, value))
        reach.by_shape |= _may_be_a_size(value)
        if isinstance(value, float):
            reach.floats.append(value)
    elif isinstance(value, BuiltinFunctionType):
        if value not in HARMLESS:
            reach.reason = f"calls {name}"
    elif isinstance(value, type):
        if value not in HARMLESS and not issubclass(value, BaseException):
            reach.reason = f"uses the class {name}"
    else:
        reach.reason = f"reads {name}, which may change"


def _is_numeric(module: str) -> bool:
    return module.split(".")[0] in NUMERIC


def _is_of_numpy(value: Any) -> bool:
    """Whether something is a function or a class of NumPy or the like, and none that calls somebody else's."""
    if isinstance(value, np.ufunc):
        return any(set(types) - set("O->") for types in value.types)
    module = getattr(value, "__module__", None) or ""
    return _is_numeric(module) and getattr(sys.modules.get(module), getattr(value, "__name__", ""), None) is value


def _add_numeric(reach: Reach, module: ModuleType, attributes: set[str], seen: set[CodeType], depth: int) -> None:
    """What is used of NumPy and the like, which may have been replaced, or may be later."""
    for each in sorted(attributes & set(vars(module))):
        value = vars(module)[each]
        if isinstance(value, BuiltinFunctionType) or _is_of_numpy(value):
            reach.watched.append((vars(module), each, value))
        else:
            _add_value(reach, vars(module), each, attributes - {each}, seen, depth)


def _remembers(function: FunctionType, attributes: set[str]) -> bool:
    """Whether a function has a default that may change, or attributes that are read."""
    defaults = *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()
    return not attributes.isdisjoint(vars(function)) or not all(
        isinstance(each, CONSTANTS) or _is_of_numpy(each) for each in defaults
    )


def _add_attribute(reach: Reach, subject: Any, name: str, seen: set[CodeType], depth: int) -> None:
    """What an attribute of `self` brings: its own, its class's, or a method."""
    reach.names.add(name)
    if name in getattr(subject, "__dict__", ()):
        return
    holders = type(subject).__mro__[:-1]
    for holder in holders:  # all of them, since super() reads on
        value = vars(holder).get(name)
        if isinstance(value, staticmethod):
            value = value.__func__
        if isinstance(value, FunctionType):
            if name in reach.names:
                reach.names.discard(name)
                reach.methods.add(name)
                # What a class has can be set anew, and what it has not can be set.
                reach.watched += [(vars(each), name, vars(each).get(name)) for each in holders]
            reach.has_parts |= gate_of(value.__code__) is not None
            if _remembers(value, set()):
                reach.reason = f"calls {name}, which has a memory of its own"
            _add(reach, plain(value.__code__), value.__globals__, subject, seen, depth + 1)
        elif name in vars(holder) and hasattr(type(value), "__get__") and not isinstance(value, CONSTANTS):
            if type(value).__name__ != "member_descriptor":
                reach.reason = reach.reason or f"reads {name}, which its class computes"


def _is_theirs(module: ModuleType) -> bool:
    """Whether a module is no part of Python or of an installed package."""
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__":
        return True
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return file is not None and module.__name__ not in sys.stdlib_module_names and not file.startswith(tuple(folders))
