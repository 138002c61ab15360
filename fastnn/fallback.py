"""Who is told of a call that a compiled backend leaves to the reference: the profiler, while it records."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

# Called with the name of the op.
fell_back: ContextVar[Callable[[str], None] | None] = ContextVar("fell_back", default=None)
