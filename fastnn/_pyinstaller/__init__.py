"""What PyInstaller is told, which freezes a program with all that it imports: where the hook beside this file lies."""

from __future__ import annotations

import os


def hook_folders() -> list[str]:
    """What the entry point `pyinstaller40` gives."""
    return [os.path.dirname(__file__)]
