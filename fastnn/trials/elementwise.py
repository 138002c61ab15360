"""Activations: what takes x alone and has a gradient, by what fastnn's layers declare."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from fastnn import functions, layers, ops
from fastnn.trials.base import Rule, floats, mask

MASK = "_with_mask"


def rules() -> Iterator[Rule]:
    for layer in (getattr(layers, name) for name in layers.__all__):
        if layer.rowwise and layer.op and not layer.parameters and not layer.is_loss:
            yield from _of_layer(layer)
    yield Rule("step_product", ("relu",), (floats,), _with_its_step, partial(_into, _with_its_step), bends=True)
    yield Rule("step_product", ("relu",), (floats,), _with_step, bends=True)
    yield Rule(
        "step_product", ("relu",), (floats, floats), ops.step_product, partial(_into, ops.step_product), bends=True
    )
    for name in functions.__all__:
        word = name.removesuffix("_grad")
        if word != name:
            yield Rule(name, (word,), (floats,), getattr(functions, name), bends=True)


def _of_layer(layer: Any) -> Iterator[Rule]:
    name = layer.op.removesuffix(MASK)
    words, op = (name,), getattr(ops, name)
    forward, backward = getattr(ops, layer.op), getattr(ops, f"{name}_backward")
    yield Rule(name, words, (floats,), op, partial(_into, op), bends=True)
    into = partial(_into, backward)
    if layer.op == name:
        yield Rule(f"{name}_backward", words, (floats, floats), backward, into, bends=True, domain="kept")
        if layer.elementwise:
            of_input = partial(_of_input, op, backward)
            yield Rule(f"{name}_backward", words, (floats, floats), of_input, bends=True)
        return
    yield Rule(name, words, (floats,), forward, bends=True)
    yield Rule(name, words, (floats,), partial(_with_positive, forward), bends=True)
    yield Rule(f"{name}_backward", words, (floats, mask), backward, into, bends=True)
    for masked in (_not, _not_above_0):
        kind = mask if masked is _not else floats
        gradient = partial(_by, backward, masked)
        yield Rule(f"{name}_backward", words, (floats, kind), gradient, partial(_into, gradient), bends=True)


def _into(op: Any, x: Any, *operands: Any) -> Any:
    return op(x, *operands, out=x)


def _of_input(op: Any, backward: Any, dout: Any, x: Any) -> Any:
    y = op(x)
    return backward(dout, y, out=y)


def _with_its_step(x: Any, out: Any = None) -> Any:
    return ops.step_product(x, x, out=out)


def _with_step(x: Any) -> Any:
    return ops.step_product(x, x), x > 0


def _with_positive(forward: Any, x: Any) -> Any:
    y, not_above = forward(x)
    return y, np.logical_not(not_above, out=not_above)


def _by(backward: Any, masked: Any, dout: Any, kept: Any, out: Any = None) -> Any:
    return backward(dout, masked(kept), out=out)


def _not(above: Any) -> Any:
    return ~above


def _not_above_0(x: Any) -> Any:
    return x <= 0
