"""Somebody's layers, functions and optimizers and fastnn's side by side, on random input of the right kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# One part in so many: between two orders of a sum, not between two formulas.
TOLERANCE = {"float64": 1e-9, "float32": 1e-3}
N, D, M = 6, 4, 3

Trial = Callable[[Any, np.random.Generator, str], Iterator[tuple[str, Any]]]


def difference(name: str, theirs: Any, ours: Any) -> str:
    """How the results of the two differ, or why they could not be compared; empty if they agree."""
    compared, error = 0, ""
    for trial in TRIALS[name]:
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


def keeps_axes(affine: Any) -> bool:
    """Whether an Affine class multiplies the last axis of x of shape (N, 1, D), instead of flattening (volume 2)."""
    try:
        with _undisturbed():
            return bool(np.ndim(affine(np.ones((D, M)), np.zeros(M)).forward(np.ones((N, 1, D)))) == 3)
    except Exception:
        return False


def _results(trial: Trial, subject: Any, dtype: str) -> tuple[dict[tuple[str, int], Any], str]:
    """By what they are and how often that has come before."""
    found: dict[tuple[str, int], Any] = {}
    times: dict[str, int] = {}
    try:
        with _undisturbed():
            for what, value in trial(subject, np.random.default_rng(0), dtype):
                times[what] = times.get(what, -1) + 1
                found[what, times[what]] = np.array(value, copy=True)
    except Exception as error:
        return found, f"{type(error).__name__}: {error}"
    return found, ""


@contextmanager
def _undisturbed() -> Iterator[None]:
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


# ---------------------------------------------------------------- trials


def _x(rng: np.random.Generator, dtype: str, *shape: int) -> Any:
    x = (3 * rng.standard_normal(shape)).astype(dtype)
    x.flat[0] = 0  # where the derivative of ReLU is a matter of choice
    return x


def _plain_layer(layer_class: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
    layer = layer_class()
    for _ in range(2):
        x, dout = _x(rng, dtype, N, D), _x(rng, dtype, N, D)
        yield "forward", layer.forward(x)
        yield "backward", layer.backward(dout)


def _affine(layer_class: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
    layer = layer_class(_x(rng, dtype, D, M), _x(rng, dtype, M))
    grads = [*layer.grads] if hasattr(layer, "grads") and hasattr(layer, "params") else None
    for shape in ((N, D), (N, 2, 2), (N, 2, D), (N, 1, D)):
        rng = np.random.default_rng(shape)
        try:
            y = layer.forward(_x(rng, dtype, *shape))
            dx = layer.backward(_x(rng, dtype, *np.shape(y)))
        except Exception:
            if shape == (N, D):
                raise
            continue
        yield f"forward of {shape}", y
        yield f"backward of {shape}", dx
        for name, value in zip(("dW", "db"), grads or (layer.dW, layer.db), strict=True):
            yield f"{name} of {shape}", value


def _loss_layer(targets: str) -> Trial:
    def trial(layer_class: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
        layer = layer_class()
        for _ in range(2):
            x, t = _with_targets(targets, rng, dtype)
            yield f"forward with {targets}", layer.forward(x, t)
            yield f"backward with {targets}", layer.backward()

    return trial


def _probabilities(targets: str) -> Trial:
    def trial(layer_class: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
        layer = layer_class()
        x, t = _with_targets(targets, rng, dtype)
        yield f"forward with {targets}", layer.forward(_softmax(x), t)
        yield f"backward with {targets}", layer.backward()

    return trial


def _with_targets(targets: str, rng: np.random.Generator, dtype: str) -> tuple[Any, Any]:
    x = _x(rng, dtype, N, M)
    labels = rng.integers(0, M, N)
    given = {
        "class indices": labels,
        "one-hot targets": np.eye(M, dtype=dtype)[labels],
        "numbers": _x(rng, dtype, N, M),
    }
    if targets == "two classes":
        return x[:, 0].copy(), labels % 2
    return x, given[targets]


def _softmax(x: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _elementwise(function: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
    for shape in ((D,), (N, D)):
        yield f"x of shape {shape}", function(_x(rng, dtype, *shape))


def _of_two(targets: str, probabilities: bool) -> Trial:
    def trial(function: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
        y, t = _with_targets(targets, rng, dtype)
        yield f"the value with {targets}", function(_softmax(y) if probabilities else y, t)

    return trial


def _numerical(function: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
    if dtype == "float64":
        yield "the gradient", np.round(function(lambda x: np.sum(x**2), _x(rng, dtype, 5)), 6)


def _optimizer(form: Callable[[list[Any]], Any]) -> Trial:
    def trial(optimizer_class: Any, rng: np.random.Generator, dtype: str) -> Iterator[tuple[str, Any]]:
        optimizer = optimizer_class()
        arrays = [_x(rng, dtype, D, M), _x(rng, dtype, M)]
        for _ in range(3):
            grads = [_x(rng, dtype, D, M), _x(rng, dtype, M)]
            params = form(arrays)
            optimizer.update(params, form(grads))
            arrays = [*params.values()] if isinstance(params, dict) else [*params]
            yield "a parameter", arrays[0]
            yield "a parameter", arrays[1]

    return trial


_LABELS = "class indices", "one-hot targets"
TRIALS: dict[str, list[Trial]] = {
    **{name: [_plain_layer] for name in ("Relu", "Sigmoid", "Softmax")},
    "Affine": [_affine],
    "CrossEntropyError": [_probabilities(targets) for targets in _LABELS],
    "SoftmaxWithLoss": [_loss_layer(targets) for targets in _LABELS],
    "SigmoidWithLoss": [_loss_layer("two classes")],
    "IdentityWithLoss": [_loss_layer("numbers")],
    **{
        name: [_elementwise]
        for name in ("identity_function", "relu", "relu_grad", "sigmoid", "sigmoid_grad", "softmax", "step_function")
    },
    "cross_entropy_error": [_of_two(targets, True) for targets in _LABELS],
    "softmax_loss": [_of_two(targets, False) for targets in _LABELS],
    "mean_squared_error": [_of_two("numbers", False)],
    "sum_squared_error": [_of_two("numbers", False)],
    "numerical_gradient": [_numerical],
    **{
        name: [_optimizer(lambda arrays: dict(zip("Wb", arrays, strict=True))), _optimizer(list)]
        for name in ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
    },
}
