"""What may stand for functions, methods and optimizers of somebody's, family by family.

A rule names an op, what its operands look like, and the words in a name that say to try it.  What a function is, is
told by trial.
"""

from __future__ import annotations

from functools import cache

from fastnn.trials import affine, elementwise, losses, steps, training
from fastnn.trials.base import Binding, Rule

__all__ = ["Binding", "Rule", "of"]


@cache
def _all() -> tuple[Rule, ...]:
    return tuple([rule for family in (elementwise, affine, losses, steps, training) for rule in family.rules()])


def of(of_class: str, name: str) -> list[Rule]:
    """The rules to try on a function or a method by its name and its class's; those with the longest words first."""
    text = f"{of_class}.{name}".lower().replace("_", "")
    found = {rule: max((len(word) for word in rule.words if word in text), default=0) for rule in _all()}
    return sorted([rule for rule, length in found.items() if length], key=lambda rule: -found[rule])
