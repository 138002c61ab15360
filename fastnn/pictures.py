"""Pictures through matplotlib, which is imported for them only."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

DPI = 144


def draw(paint: Callable[[Any], None], path: str | os.PathLike[str] | None, **figure: Any) -> None:
    """
    Have a figure painted and write it to `path`, in the format of the suffix, or show it without one.

    Parameters
    ----------
    paint : callable
        ``paint(figure)``.
    path : path or None
    **figure
        For `matplotlib.figure.Figure`.
    """
    if path is None:
        from matplotlib import pyplot

        paint(pyplot.figure(**figure))
        pyplot.show()
    else:
        from matplotlib.figure import Figure

        # Apart from pyplot, which would keep it.
        made = Figure(**figure)
        paint(made)
        made.savefig(path, dpi=DPI)
