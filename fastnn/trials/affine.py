"""Affine maps, in which the volumes differ where x has more than two dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnn import ops
from fastnn.trials.base import Rule, matrix, rows, vector

WORDS = "affine", "linear", "dense", "fullyconnected"


def rules() -> Iterator[Rule]:
    for forward in (ops.affine, _flat):
        yield Rule("affine", WORDS, (rows, matrix, vector), forward, summed=True)
    yield Rule("affine", WORDS, (rows, matrix, row), _with_a_row, summed=True)
    for backward in (ops.affine_backward, _flat_backward, _of_rows_backward, _with_a_row_backward):
        yield Rule("affine_backward", WORDS, (rows, rows, matrix), backward, summed=True)


def row(leaf: Any) -> bool:
    return matrix(leaf) and len(leaf) == 1


def _with_a_row(x: Any, W: Any, b: Any) -> Any:
    return ops.affine(x, W, b[0])


def _with_a_row_backward(dout: Any, x: Any, W: Any) -> Any:
    dx, dW, db = ops.affine_backward(dout, x, W)
    return dx, dW, db.reshape(1, -1)


def _flat(x: Any, W: Any, b: Any) -> Any:
    """y, and x as it was multiplied."""
    flat = x.reshape(x.shape[0], -1)
    return ops.affine(flat, W, b), flat


def _flat_backward(dout: Any, x: Any, W: Any) -> Any:
    return ops.affine_backward(dout, x.reshape(x.shape[0], -1), W)


def _of_rows_backward(dout: Any, x: Any, W: Any) -> Any:
    """Of many rows, whose leading dimensions the gradient keeps."""
    D, M = W.shape
    dx, dW, db = ops.affine_backward(dout.reshape(-1, M), x.reshape(-1, D), W)
    return dx.reshape(*dout.shape[:-1], D), dW, db
