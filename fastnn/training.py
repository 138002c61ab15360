"""Training: gradient descent over mini-batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fastnn.arguments import Array
from fastnn.networks import Sequential

__all__ = ["count_steps", "descend"]


def count_steps(N: int, *, batch_size: int, epochs: int) -> int:
    """How many steps `descend` takes over N samples."""
    return epochs * -(-N // batch_size)


def descend(
    network: Sequential,
    optimizer: Any,
    x: Array,
    t: Array,
    *,
    batch_size: int,
    epochs: int,
    seed: int | None = None,
) -> Iterator[Any]:
    """
    Train by mini-batch descent, one step for each value drawn from the iterator.

    Parameters
    ----------
    network : Sequential
    optimizer : object with ``update(params, grads)``
    x : ndarray, shape (N, ...)
    t : ndarray, length N
    batch_size : int
        Samples in a step; the last step of an epoch takes what is left.
    epochs : int
        Passes over the data, each in a new order.
    seed : int, optional
        For the orders.

    Yields
    ------
    loss : NumPy scalar
        On the step's batch, before its update.
    """
    if len(x) != len(t) or not len(x):
        raise ValueError(f"x has {len(x)} samples and t has {len(t)}: they must be as many, and at least one")
    if batch_size < 1 or epochs < 0:
        raise ValueError(f"batch_size must be at least 1 and epochs at least 0, not {batch_size} and {epochs}")
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for first in range(0, len(x), batch_size):
            batch = order[first : first + batch_size]
            grads = network.gradient(x[batch], t[batch])
            optimizer.update(network.params, grads)
            yield network.loss_layer.loss
