"""Losses, with every kind of target that they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnn.layers import Layer
from fastnn.optable import OPS
from fastnn.trials.base import M, N, Trial, arguments, of_layer, positional

Given = Callable[[np.random.Generator, str], dict[str, Any]]

# Functions that take what an op of another name takes.
LIKE = {"softmax_loss": "softmax_cross_entropy", "sum_squared_error": "mean_squared_error"}


def is_loss(ours: Any) -> bool:
    if isinstance(ours, type):
        return issubclass(ours, Layer) and ours.is_loss
    return "t" in positional(ours)


def trials(ours: Any) -> list[Trial]:
    if not is_loss(ours):
        return []
    if hasattr(ours, "op"):
        return [of_layer(ours, given, f" with {kind}") for kind, given in _given(ours.op)]
    return [partial(_function, given, kind) for kind, given in _given(LIKE.get(ours.__name__, ours.__name__))]


def _given(op: str) -> list[tuple[str, Given]]:
    """Arguments of an op of the op table, by the kind of their targets."""
    if op not in OPS:
        return []
    if op.startswith("sigmoid"):  # a logit for each sample
        return [("two classes", partial(arguments, op, shape=(N,)))]
    t = arguments(op, np.random.default_rng(0), "float64")["t"]
    if t.dtype.kind == "f":
        return [("numbers", partial(arguments, op))]
    return [("class indices", partial(arguments, op)), ("one-hot targets", partial(_one_hot, op))]


def _one_hot(op: str, rng: np.random.Generator, dtype: str) -> dict[str, Any]:
    given = arguments(op, rng, dtype)
    return given | {"t": np.eye(M, dtype=dtype)[given["t"]]}


def _function(
    given: Given, kind: str, function: Any, rng: np.random.Generator, dtype: str
) -> Iterator[tuple[str, Any]]:
    yield f"the value with {kind}", function(*given(rng, dtype).values())
