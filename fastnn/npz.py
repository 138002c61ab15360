"""Arrays in .npz files: written whole or not at all, read without pickles."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastnn.arguments import Array


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays under their names.  A file of that name is replaced once the new one is complete."""
    target = Path(path)
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], names: list[str]) -> list[Array]:
    """The arrays of those names; ValueError, which names the file, if it is damaged or has none of that name."""
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with zipfile.ZipFile(content) as file:
            return [_array(file, name) for name in names]
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise almost anything
        raise ValueError(f"{path} cannot be read: {error}") from error


def _array(file: zipfile.ZipFile, name: str) -> Array:
    if f"{name}.npy" not in file.namelist():
        raise ValueError(f"it has no array {name}")
    with file.open(f"{name}.npy") as member:
        array: Array = np.lib.format.read_array(member, allow_pickle=False)
        # The checksum is compared at the end of the member, which this reaches.
        if member.read(1):
            raise ValueError(f"{name} is longer than its header says")
    return array
