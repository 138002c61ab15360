"""Optimizers, in both dialects: ``update(params, grads)`` takes dicts (volume 1) or lists (volume 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnn.arguments import Array

__all__ = ["SGD"]


class SGD:
    """
    Stochastic gradient descent.

    ``p = p - lr dp``

    Parameters
    ----------
    lr : float, optional
        Learning rate.

    References
    ----------
    "Deep Learning from Scratch", section 6.1.2.
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: Any, grads: Any) -> None:
        """
        Change every parameter in place.

        Parameters
        ----------
        params, grads : dict or list of ndarray
            The same keys, or the same length.
        """
        for p, dp in _pairs(params, grads):
            p -= self.lr * dp


def _pairs(params: Any, grads: Any) -> Iterator[tuple[Array, Array]]:
    if isinstance(params, dict):
        if params.keys() != grads.keys():
            raise ValueError(f"params has the keys {[*params]}, but grads has {[*grads]}")
        return ((params[key], grads[key]) for key in params)
    if len(params) != len(grads):
        raise ValueError(f"params has {len(params)} arrays, but grads has {len(grads)}")
    return zip(params, grads, strict=True)
