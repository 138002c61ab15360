"""Every op stands on every floor, under one name: reference, op table, kernels, `ops`; what one lacks is named."""

import inspect
import re

import numpy as np
import pytest
from conftest import KERNELS

from fastnn import ops, optable, reference
from fastnn.optable import OPS

SECTIONS = "Parameters", "Returns", "Raises", "References", "Examples"


def functions(module):
    """The public ones, compiled or not."""
    return {n for n, f in vars(module).items() if inspect.isroutine(f) and not n.startswith("_")}


def signature(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def lacking(name):
    """What is missing of an op."""
    if name not in functions(reference):
        yield "a function in fastnn/reference"
        return
    function = getattr(reference, name)
    family = function.__module__.rpartition(".")[2]
    rows = {module.__name__.rpartition(".")[2]: [op.name for op in module.OPS] for module in optable.FAMILIES}
    if name not in rows.get(family, []):
        yield f"a row in fastnn/optable/{family}.py"
    for place, module in {**KERNELS, "fastnn.ops": ops}.items():
        if not hasattr(module, name):
            yield f"a function in {place}"
        elif signature(getattr(module, name)) != signature(function):
            yield f"the reference's signature in {place}"
    if getattr(getattr(ops, name, None), "__doc__", None) != function.__doc__:
        yield "the reference's documentation in fastnn.ops"
    text = inspect.getdoc(function) or ""
    for section in SECTIONS:
        if not re.search(rf"^{section}\n-{{{len(section)}}}$", text, re.MULTILINE):
            yield f"the section {section} of its documentation"
    if "``" not in text.partition("Parameters")[0]:
        yield "a formula in its documentation"
    if ">>> " not in text.partition("Examples")[2]:
        yield "an example in its documentation"


@pytest.mark.parametrize("name", sorted(functions(reference) | set(OPS) | set.union(*map(functions, KERNELS.values()))))
def test_an_op_is_on_every_floor(name):
    missing = [*lacking(name)]
    assert not missing, f"{name} lacks {'; '.join(missing)}"


def test_what_is_missing_is_named(monkeypatch):
    def half(x, *, out=None):
        """``y = x / 2``

        Parameters
        ----------
        x : array_like
        """

    assert [*lacking("half")] == ["a function in fastnn/reference"]
    half.__module__ = "fastnn.reference.elementwise"
    monkeypatch.setattr(reference, "half", half, raising=False)
    assert [*lacking("half")] == [
        "a row in fastnn/optable/elementwise.py",
        *(f"a function in {place}" for place in (*KERNELS, "fastnn.ops")),
        "the reference's documentation in fastnn.ops",
        *(f"the section {section} of its documentation" for section in SECTIONS[1:]),
        "an example in its documentation",
    ]


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_a_row_goes_with_its_signature(rng, op):
    assert len(op.names) == len(op.example(rng, op.shapes[0], np.float64))
    assert bool(op.out) == ("out" in op.parameters)
    assert {name for names in op.out.values() for name in names} <= set(op.names)
