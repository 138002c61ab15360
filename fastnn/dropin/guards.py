"""Guards in somebody's source: a function so guarded asks, before its own body runs, whether fastnn serves the call.

    def relu(x):                            def relu(x):
        y = x.copy()                            if (answer := gate.serve(x)) is not ...:
        y[x <= 0] = 0                               return answer
        return y                                del answer
                                                y = x.copy()
                                                y[x <= 0] = 0
                                                return gate.returned(y)

Nothing else changes: the function is the user's own, in its own place, whoever holds it, under whatever decorators, and
its body runs in its own frame with its own line numbers.  The gate stands among the code's constants, so no name is
taken.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from fastnn._kernels.gates import Gate

COMPILERS = {"numba"}  # compile functions from their bytecode, in which a guard is no thing that they know
ANSWER = "__fastnn_answer__"
Definition = ast.FunctionDef
# Told the class's name, or "", the function's and its code without a guard: its gate, or None where it shall have none.
Chooser = Callable[[str, str, CodeType], Gate | None]


def compile_guarded(source: Any, filename: str, choose: Chooser) -> CodeType:
    """A module's code, compiled as Python does it, with guards in the functions that are chosen."""
    code = compile(source, filename, "exec", dont_inherit=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the first compilation has said them
        tree = ast.parse(source, filename)
    if any(_imports(node) & COMPILERS for node in ast.walk(tree)):
        return code
    gates: dict[str, Gate] = {}
    codes = _by_place(code)
    for of_class, definition in _definitions(tree):
        plain = codes.get(_place(definition))
        if plain is not None and _can_be_guarded(definition, plain):
            gate = choose(of_class, definition.name, plain)
            if gate is not None:
                mark = f"fastnn's gate {len(gates)} {filename}"
                gates[mark] = gate
                _guard(definition, mark)
    if not gates:
        return code
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _with_gates(compile(tree, filename, "exec", dont_inherit=True), gates)


def _imports(node: ast.AST) -> set[str]:
    names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
    names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
    return {name.split(".")[0] for name in names}


def _definitions(tree: ast.AST, of_class: str = "") -> Iterator[tuple[str, Definition]]:
    """All functions, each with the class that it is a method of."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield of_class, node
        yield from _definitions(node, node.name if isinstance(node, ast.ClassDef) else "")


def _place(definition: Definition) -> tuple[str, int]:
    return definition.name, min([definition.lineno, *(each.lineno for each in definition.decorator_list)])


def _by_place(code: CodeType) -> dict[tuple[str, int], CodeType]:
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found[constant.co_name, constant.co_firstlineno] = constant
            found.update(_by_place(constant))
    return found


def gates_by_place(code: CodeType) -> dict[tuple[str, int], CodeType]:
    """The guarded codes within a module's, by qualified name and line."""
    found = {}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if any(isinstance(each, Gate) for each in constant.co_consts):
                found[constant.co_qualname, constant.co_firstlineno] = constant
            found.update(gates_by_place(constant))
    return found


def _can_be_guarded(definition: Definition, code: CodeType) -> bool:
    arguments = definition.args
    return (
        bool(arguments.posonlyargs or arguments.args)
        and not (arguments.vararg or arguments.kwarg)
        and not set(code.co_freevars) - {"__class__"}
        and not any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(definition))
    )


def _guard(definition: Definition, mark: str) -> None:
    """Put the guard before the body, which keeps its docstring, and a mark for the gate into its place."""
    arguments = definition.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    body, start = definition.body, int(ast.get_docstring(definition, clean=False) is not None)
    _Returns(mark).visit_body(body)
    last = body[-1]
    if not isinstance(last, ast.Return | ast.Raise):
        body.append(_at(last, f"return {mark!r}.returned(None)"))
    first = body[start]
    served = f"{mark!r}.serve({', '.join(names)})"
    body[start:start] = [
        _at(first, f"if ({ANSWER} := {served}) is not ...:\n    return {ANSWER}"),
        _at(first, f"del {ANSWER}"),
    ]


def _at(node: ast.stmt, text: str) -> ast.stmt:
    function: Any = ast.parse(f"def f():\n    {text.replace(chr(10), chr(10) + '    ')}").body[0]
    statement: ast.stmt = function.body[0]
    for each in ast.walk(statement):
        if hasattr(each, "lineno"):
            ast.copy_location(each, node)
    return statement


class _Returns(ast.NodeTransformer):
    """What is returned goes through the gate."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def visit_body(self, body: list[ast.stmt]) -> None:
        body[:] = [self.visit(statement) for statement in body]

    def visit_Return(self, node: ast.Return) -> ast.Return:
        value = node.value or ast.copy_location(ast.Constant(None), node)
        gate = ast.copy_location(ast.Constant(self.mark), value)
        returned = ast.copy_location(ast.Attribute(gate, "returned", ast.Load()), value)
        node.value = ast.copy_location(ast.Call(returned, [value], []), value)
        return node

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _leave


def _with_gates(code: CodeType, gates: dict[str, Gate]) -> CodeType:
    """With each mark among the constants replaced by its gate."""

    def place(constant: Any) -> Any:
        if isinstance(constant, CodeType):
            return _with_gates(constant, gates)
        return gates.get(constant, constant) if isinstance(constant, str) else constant

    constants = tuple([place(constant) for constant in code.co_consts])
    return code.replace(co_consts=constants)
