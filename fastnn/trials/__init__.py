"""How likeness is tried: somebody's layers, functions and optimizers beside fastnn's.

Each family has trials for what it knows by what fastnn's says of itself: a layer by its declarations, a function by its
arguments.
"""

from __future__ import annotations

from typing import Any

from fastnn.trials.affine import keeps_axes
from fastnn.trials.affine import trials as affine
from fastnn.trials.base import Trial, difference
from fastnn.trials.elementwise import trials as elementwise
from fastnn.trials.gradient import trials as gradient
from fastnn.trials.losses import is_loss
from fastnn.trials.losses import trials as losses
from fastnn.trials.steps import trials as steps

__all__ = ["difference", "is_loss", "keeps_axes", "of"]

FAMILIES = affine, elementwise, gradient, losses, steps


def of(ours: Any) -> list[Trial]:
    """The trials of fastnn's class or function; LookupError if it has none."""
    found = [trial for trials in FAMILIES for trial in trials(ours)]
    if not found:
        modules = ", ".join(trials.__module__ for trials in FAMILIES)
        raise LookupError(f"{ours.__name__} has no trial: none of {modules} knows it by what it declares")
    return found
