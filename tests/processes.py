"""Processes that tests start."""

import os
import subprocess
import sys

TIMEOUT = 900  # seconds after which one hangs, however slow and busy the machine is


def run(*words, **options):
    """A command with its output."""
    return subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=TIMEOUT, check=False, **options)


def python(code, **environment):
    """Code in an interpreter of its own, with variables beside those of this process."""
    return run(sys.executable, "-P", "-c", code, env=os.environ | environment)
