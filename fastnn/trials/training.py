"""What is done to lists of parameters and gradients between a gradient and a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from fastnn import training
from fastnn.trials.base import Binding, Call, Path, Rule, constant, floats, number

# So small numbers are not clipped.
SMALL = 1e-2, 1e-4, 1e-6, 1e-9


def rules() -> Iterator[Rule]:
    for clipped in (_clipped, _clipped_and_norm):
        yield ListRule("clip_grads", ("clip",), (_gradients, number, constant), clipped, summed=1, sizes=SMALL)
    operands = _with_transposes, _with_transposes
    yield ListRule(
        "remove_duplicate", ("duplicate",), operands, training.remove_duplicate, summed=1, bends=True, loops=True
    )


@dataclass(frozen=True)
class ListRule(Rule):
    """Of lists of arrays, each of them an operand, whose arrays are changed."""

    def bindings(self, call: Call) -> Iterator[Binding]:
        lists: dict[Path, Any] = {}
        for path, leaf in call.given.items():
            if len(path) > 1 and isinstance(path[-1], tuple):
                lists.setdefault(path[:-1], []).append(leaf)
        for binding in super().bindings(replace(call, given=call.given | lists)):
            yield replace(binding, whole=True)


def _gradients(leaf: Any) -> bool:
    return type(leaf) is list and all(floats(each) for each in leaf)


def _with_transposes(leaf: Any) -> bool:
    """Where there is something to compare."""
    return _gradients(leaf) and any(a.ndim == 2 and a.T.shape == b.shape for a, b in permutations(leaf, 2))


def _clipped(grads: Any, max_norm: Any, eps: Any) -> None:
    _clipped_and_norm(grads, max_norm, eps)


def _clipped_and_norm(grads: Any, max_norm: Any, eps: Any) -> Any:
    norm = np.sqrt(training.sum_of_squares(grads))
    if type(grads) is not list or not np.isfinite(norm):
        raise ValueError("what comes of it is a matter of theirs")
    training.scale_down(grads, float(norm), float(max_norm), float(eps))
    return norm
