"""Arrays in .npz files: written whole or not at all, read without pickles."""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastnn.arguments import Array

MOST_UNPACKED = 1 << 30

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


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
    """
    The arrays of those names, read-only.

    Takes no more memory than the file and what its compressed arrays hold, `MOST_UNPACKED` bytes at most each: nothing
    is believed that a header only claims.  ValueError, which names the file, if it is damaged, holds pickles or more
    than that, or has no array of a name.
    """
    content = io.BytesIO(Path(path).read_bytes())
    try:
        with zipfile.ZipFile(content) as file:
            return [_array(file, name) for name in names]
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise almost anything
        raise ValueError(f"{path} cannot be read: {error}") from error


def _array(file: zipfile.ZipFile, name: str) -> Array:
    if f"{name}.npy" not in file.namelist():
        raise ValueError(f"it has no array {name}")
    member = file.getinfo(f"{name}.npy")
    # The other methods, which NumPy does not write, zipfile unpacks without regard to how much is asked for.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by a method other than NumPy's")
    if member.compress_type == zipfile.ZIP_DEFLATED and member.file_size > MOST_UNPACKED:
        raise ValueError(f"{name} unpacks to {member.file_size} bytes, more than {MOST_UNPACKED}")
    with file.open(member) as unpacked:
        # At its end the checksum is compared.
        content = unpacked.read(member.file_size + 1)
    stream = io.BytesIO(content)
    header = _HEADERS.get(np.lib.format.read_magic(stream))
    if header is None:
        raise ValueError(f"{name} is in a version of the format that is not for numbers")
    shape, fortran_order, dtype = header(stream)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which would be unpickled")
    claimed, held = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if claimed != held:
        raise ValueError(f"{name} says {shape} of {dtype}, {claimed} bytes, but holds {held}")
    return np.ndarray(shape, dtype, content, stream.tell(), order="F" if fortran_order else "C")
