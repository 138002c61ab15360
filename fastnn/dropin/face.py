"""What is replaced where: the definitions of a script or module, and what became of each."""

from __future__ import annotations

import gc
import importlib
import linecache
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, ModuleType, TracebackType
from typing import Any

from fastnn import trials
from fastnn._kernels.gates import Gate
from fastnn.dropin.guards import compile_guarded, gates_by_place
from fastnn.dropin.kinds import Definition
from fastnn.dropin.reach import gate_of
from fastnn.dropin.search import UNLIKE

WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """
    What became of a function or method under a name that fastnn may have, too.

    Attributes
    ----------
    where : str
        Its module, class and name.
    ours : tuple of str
        The ops that serve it.
    reasons : tuple of str
        Why its own body serves some of its calls, or all.
    """

    where: str
    ours: tuple[str, ...]
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, definition: Definition) -> Finding:
        called = [outcome for outcome in definition.kinds if outcome.kind.calls or len(definition.kinds) == 1]
        ours = dict.fromkeys(outcome.ours for outcome in called if outcome.ours)
        reasons = dict.fromkeys(outcome.reason for outcome in called if outcome.reason)
        if definition.has_parts:  # these are told of
            reasons.pop(UNLIKE, None)
        return cls(str(definition), tuple(ours), (*reasons, *filter(None, [definition.closed])))

    @property
    def is_left(self) -> bool:
        """Whether it was called and fastnn served none of its calls."""
        return bool(self.reasons) and not self.ours

    def __str__(self) -> str:
        also = f" (its own where it {'; '.join(self.reasons)})" if self.ours and self.reasons else ""
        return f"{self.where}: {' or '.join(self.ours) or '; '.join(self.reasons)}{also}"


def told(findings: Sequence[Finding]) -> str:
    """What became of all functions that were called, for people: once each, in lines of at most 80 columns."""
    served = {finding.where: finding for finding in findings if finding.ours}
    left: dict[str, list[str]] = {}
    for finding in findings:
        if finding.is_left and finding.where not in served:
            left.setdefault("; ".join(finding.reasons), []).append(finding.where)
    if not served and not left:
        return "No function was called whose name says that fastnn may have it, too."
    lines = ["Served by fastnn:"] if served else []
    for finding in served.values():
        lines += textwrap.wrap(str(finding), WIDTH, initial_indent="  ", subsequent_indent="      ")
    lines += ["Left as they are:"] if left else []
    for reason, where in left.items():
        text = f"{', '.join(dict.fromkeys(where))}: {reason}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False)
    return "\n".join(lines)


class Replacer:
    """
    Puts guards into sources, and knows what became of each guarded definition.

    Attributes
    ----------
    definitions : list of Definition
        In the order of the sources.
    around : callable
        Gives a context for whatever is no work of the script's: `contextlib.nullcontext`.
    """

    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __init__(self) -> None:
        self._by_gate: dict[Gate, Definition] = {}

    @property
    def definitions(self) -> list[Definition]:
        return [*self._by_gate.values()]

    def compile(self, source: Any, filename: str, module: str) -> CodeType:
        """A module's code, with guards; what cannot be parsed fails as Python's own does."""
        return compile_guarded(source, filename, partial(self.gate, module))

    def gate(self, module: str, of_class: str, name: str, code: CodeType) -> Gate | None:
        """A gate for a definition; None where no rule could serve it."""
        is_special = name.startswith("__") and name != "__call__"
        if is_special or not trials.of(of_class, name):
            return None
        definition = Definition(module, of_class, name, around=self.around)
        gate = definition.gate(code)
        self._by_gate[gate] = definition
        return gate

    def keep(self, gates: Collection[Gate]) -> None:
        """Forget all definitions but those of some gates."""
        self._by_gate = {gate: definition for gate, definition in self._by_gate.items() if gate in gates}

    @property
    def findings(self) -> list[Finding]:
        return [Finding.of(definition) for definition in self.definitions]


class Patch:
    """
    What `patch` has done; a context manager that undoes it at its end.

    Attributes
    ----------
    findings : list of Finding
        What became of each function, by now.
    """

    def __init__(self, replacer: Replacer, changed: list[tuple[FunctionType, CodeType, CodeType]]) -> None:
        self._replacer, self._changed = replacer, changed

    @property
    def findings(self) -> list[Finding]:
        return self._replacer.findings

    def undo(self) -> None:
        """Give every function its own code back, unless somebody has given it another."""
        while self._changed:
            function, plain, guarded = self._changed.pop()
            if function.__code__ is guarded:
                function.__code__ = plain

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def __str__(self) -> str:
        return told(self.findings)


_patches: list[Patch] = []


def patch(module: ModuleType | str) -> Patch:
    """
    Let fastnn serve the calls of a module's functions and methods that it can serve.

    The functions stay the objects that they are, wherever they have been imported to or are held.

    Parameters
    ----------
    module : module or str
        A module, or its dotted name, which is imported.  "__main__" in a notebook.

    Returns
    -------
    Patch
    """
    if isinstance(module, str):
        module = importlib.import_module(module)
    replacer = Replacer()
    changed = []
    sources: dict[str, dict[tuple[str, int], CodeType]] = {}
    for function in _functions(module):
        code = function.__code__
        if gate_of(code) is not None:
            continue
        if code.co_filename not in sources:
            sources[code.co_filename] = _guarded(replacer, code.co_filename, module.__name__)
        guarded = sources[code.co_filename].get((code.co_qualname, code.co_firstlineno))
        if guarded is not None and gate_of(guarded).code == code:  # and not of a file that was changed meanwhile
            function.__code__ = guarded
            changed.append((function, code, guarded))
    replacer.keep([gate_of(guarded) for _, _, guarded in changed])
    _patches.append(Patch(replacer, changed))
    return _patches[-1]


def unpatch() -> None:
    """Undo every `patch` that has not been undone, the last one first."""
    while _patches:
        _patches.pop().undo()


def _functions(module: ModuleType) -> Iterator[FunctionType]:
    """All of a module's functions, whoever holds them."""
    for each in gc.get_objects():
        if type(each) is FunctionType and each.__globals__ is vars(module):
            yield each


def _guarded(replacer: Replacer, filename: str, module: str) -> dict[tuple[str, int], CodeType]:
    """The guarded codes of a source by name and line; none where it cannot be read."""
    source = "".join(linecache.getlines(filename))
    try:
        return gates_by_place(replacer.compile(source, filename, module))
    except (SyntaxError, ValueError):
        return {}
