"""What takes x alone: element-wise layers and functions, and softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.layers import Layer
from fastnn.trials.base import D, N, Trial, numbers, of_layer, positional


def trials(ours: Any) -> list[Trial]:
    if not isinstance(ours, type):
        return [_function] if positional(ours) == ["x"] else []
    if issubclass(ours, Layer) and ours.rowwise and not ours.parameters:
        return [of_layer(ours, lambda rng, dtype: {"x": numbers(rng, dtype, N, D)})]
    return []


def _function(function: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
    for shape in ((D,), (N, D)):
        yield f"x of shape {shape}", function(numbers(rng, dtype, *shape))
