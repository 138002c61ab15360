"""Optimizers, in both dialects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnn.optimizers import Optimizer
from fastnn.trials.base import D, M, Trial, numbers


def trials(ours: Any) -> list[Trial]:
    if not isinstance(ours, type) or not issubclass(ours, Optimizer):
        return []
    return [partial(_steps, lambda arrays: dict(zip("Wb", arrays, strict=True))), partial(_steps, list)]


def _steps(
    form: Callable[[list[Any]], Any], optimizer_class: Any, rng: np.random.Generator, dtype: str
) -> Iterator[tuple[str, Any]]:
    optimizer = optimizer_class()
    arrays = [numbers(rng, dtype, D, M), numbers(rng, dtype, M)]
    for _ in range(3):
        grads = [numbers(rng, dtype, D, M), numbers(rng, dtype, M)]
        params = form(arrays)
        optimizer.update(params, form(grads))
        arrays = [*params.values()] if isinstance(params, dict) else [*params]
        yield "a parameter", arrays[0]
        yield "a parameter", arrays[1]
