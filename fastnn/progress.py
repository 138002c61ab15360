"""How far a long work has come: a bar if rich is installed, lines of text otherwise, nothing in the first seconds.

In a notebook rich draws by ipywidgets: without these there are lines, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from time import monotonic
from typing import Any

WAIT, INTERVAL = 2.0, 0.2  # seconds before anything is shown, and between two changes of it


@contextmanager
def bar(description: str, total: int | None, *, show: bool = True) -> Iterator[Callable[[int, str], None]]:
    """
    Show progress on the standard error stream.

    Parameters
    ----------
    description : str
    total : int or None
        Steps of the whole work, if that is known.
    show : bool, optional

    Yields
    ------
    advanced : callable
        ``advanced(steps, text)``, to be told how many steps are done in all, with a few words beside.
    """
    if not show:
        yield lambda steps, text: None
        return
    shown = _Bar(description, total)
    try:
        yield shown.advanced
    finally:
        shown.close()


class _Bar:
    def __init__(self, description: str, total: int | None) -> None:
        self.description, self.total = description, total
        self.due = monotonic() + WAIT
        self.interval = INTERVAL
        self.show: Callable[[int, str], None] | None = None
        self.close: Callable[[], None] = lambda: None

    def advanced(self, steps: int, text: str = "") -> None:
        now = monotonic()
        if now >= self.due:
            if self.show is None:
                self.show = self.opened()
            self.show(steps, text)
            self.due = now + self.interval

    def opened(self) -> Callable[[int, str], None]:
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            console = Console(stderr=True)
            if console.is_jupyter:
                import_module("ipywidgets")
        except ImportError:
            self.interval = WAIT
            return self.line
        # What is printed meanwhile is put above a bar on the same terminal; what goes elsewhere is left alone.
        out, err = _is_terminal(sys.stdout), _is_terminal(sys.stderr)
        words = TextColumn("{task.description}"), TextColumn("{task.fields[text]}")
        columns = words[0], BarColumn(), MofNCompleteColumn(), words[1], TimeRemainingColumn()
        progress = Progress(*columns, console=console, transient=True, redirect_stdout=out, redirect_stderr=err)
        task = progress.add_task(self.description, total=self.total, text="")
        progress.start()
        self.close = progress.stop
        return lambda steps, text: progress.update(task, completed=steps, text=text)

    def line(self, steps: int, text: str) -> None:
        of = f" of {self.total}" if self.total else ""
        print(f"{self.description}: {steps}{of} {text}".rstrip(), file=sys.stderr)


def _is_terminal(stream: Any) -> bool:
    """Of a standard stream, which may be None or somebody's own object."""
    return bool(getattr(stream, "isatty", bool)())
