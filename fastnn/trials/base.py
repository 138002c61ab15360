"""Somebody's class or function and fastnn's side by side, on random input of the right kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from fastnn import reference
from fastnn.layers import Layer
from fastnn.optable import OPS

# One part in so many: between two orders of a sum, not between two formulas.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
N, D, M = 6, 4, 3

# Called with theirs or ours, random numbers and a dtype, it yields what comes out, each thing with what it is.
Trial = Callable[[Any, np.random.Generator, str], Iterator[tuple[str, Any]]]


def difference(trials: Sequence[Trial], theirs: Any, ours: Any) -> str:
    """How the results of the two differ, or why they could not be compared; empty if they agree."""
    compared, error = 0, ""
    for trial in trials:
        for dtype in TOLERANCE:
            expected, failure = _results(trial, theirs, dtype)
            if failure:
                error = failure
            if not expected:
                continue  # what theirs cannot do need not be done by ours
            results, failure = _results(trial, ours, dtype)
            for key, value in expected.items():
                if key not in results:
                    return f"fastnn's has no {key[0]}: {failure}"
                reason = _compare(key[0], value, results[key], dtype)
                if reason:
                    return reason
            compared += 1
    return "" if compared else f"could not be tried: {error}"


def numbers(rng: np.random.Generator, dtype: str, *shape: int) -> Any:
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    x.flat[0] = 0  # where the derivative of ReLU is a matter of choice
    return x


def positional(function: Any) -> list[str]:
    """The names of a function's arguments, without those that are given by name alone."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def arguments(op: str, rng: np.random.Generator, dtype: str, shape: tuple[int, ...] = (N, M)) -> dict[str, Any]:
    """What the op table has for an op, by name; arguments with a default are left out."""
    values = OPS[op].example(rng, shape, dtype)
    return dict(zip(positional(getattr(reference, op)), values, strict=False))


def of_layer(ours: type[Layer], given: Callable[[np.random.Generator, str], dict[str, Any]], what: str = "") -> Trial:
    """Forward and backward, twice; `given` makes arguments of the constructor and of forward, by name."""

    def trial(layer_class: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
        params = given(rng, dtype)
        layer = layer_class(*(params[name] for name in ours.parameters))
        grads = [*layer.grads] if hasattr(layer, "grads") and hasattr(layer, "params") else None
        for _ in range(2):
            inputs = [value for name, value in given(rng, dtype).items() if name not in ours.parameters]
            y = layer.forward(*inputs)
            yield f"forward{what}", y
            dout = () if ours.is_loss else (numbers(rng, dtype, *np.shape(y)),)
            yield f"backward{what}", layer.backward(*dout)
            for i, name in enumerate(ours.parameters):
                yield f"d{name}{what}", getattr(layer, f"d{name}") if grads is None else grads[i]

    return trial


def _results(trial: Trial, subject: Any, dtype: str) -> tuple[dict[tuple[str, int], Any], str]:
    """By what they are and how often that has come before."""
    found: dict[tuple[str, int], Any] = {}
    times: dict[str, int] = {}
    try:
        with undisturbed():
            for what, value in trial(subject, np.random.default_rng(0), dtype):
                times[what] = times.get(what, -1) + 1
                found[what, times[what]] = np.array(value, copy=True)
    except Exception as error:
        return found, f"{type(error).__name__}: {error}"
    return found, ""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Their code may draw from NumPy's global generator, and may warn."""
    state = np.random.get_state()  # noqa: NPY002, theirs is what is kept
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _compare(what: str, expected: Any, result: Any, dtype: str) -> str:
    if expected.shape != result.shape:
        return f"{what} has shape {expected.shape}, fastnn's {result.shape}"
    if expected.dtype.kind != result.dtype.kind and {expected.dtype.kind, result.dtype.kind} - set("iufb"):
        return f"{what} is of dtype {expected.dtype}, fastnn's of {result.dtype}"
    a, b = expected.astype(np.float64), result.astype(np.float64)
    both_nan = np.isnan(a) & np.isnan(b)
    distance = np.where(both_nan, 0.0, np.abs(a - b))
    limit = TOLERANCE[dtype] * max(1.0, float(np.max(np.abs(a[np.isfinite(a)]), initial=0)))
    if not np.all(distance <= limit):
        return f"{what} differs from fastnn's by up to {np.max(distance):.3g}, in {dtype}"
    return ""
