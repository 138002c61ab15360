"""The numerical gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.gradient import numerical_gradient
from fastnn.trials.base import Trial, numbers


def trials(ours: Any) -> list[Trial]:
    return [_numerical] if ours is numerical_gradient else []


def _numerical(function: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
    if dtype == "float64":
        yield "the gradient", np.round(function(lambda x: np.sum(x**2), numbers(rng, dtype, 5)), 6)
