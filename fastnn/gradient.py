"""Numerical gradients, to hold the analytic ones against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn.arguments import Array

__all__ = ["numerical_gradient"]


def numerical_gradient(f: Callable[[Array], Any], x: Array, *, h: float = 1e-4) -> Array:
    """
    Gradient of `f` with respect to `x`, by central differences.

    ``g_i = (f(x_i + h) - f(x_i - h)) / (2 h)``, with 2 `x.size` calls of `f`.

    Parameters
    ----------
    f : callable
        ``f(x)`` is a number; `f` may as well read the same array elsewhere, as a network reads its parameters.
    x : ndarray
        Changed element by element while `f` runs, and left as it was, also after an exception.
    h : float, optional
        The step, in the units of `x`.

    Returns
    -------
    g : ndarray, shape and dtype of `x`

    References
    ----------
    "Deep Learning from Scratch", section 4.4.
    """
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        raise TypeError(f"x must be an ndarray of floats, not {getattr(x, 'dtype', type(x).__name__)}")
    g = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        try:
            x[i] = kept + h
            above = f(x)
            x[i] = kept - h
            below = f(x)
        finally:
            x[i] = kept
        g[i] = (above - below) / (2 * h)
    return g
