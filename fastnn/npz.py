"""Arrays in .npz files: written whole or not at all, read without pickles."""

from __future__ import annotations

import io
import math
import os
import stat
import threading
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
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}.unfinished")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: str | os.PathLike[str], names: list[str]) -> list[Array]:
    """
    The arrays of those names, read-only.

    Together they hold `MOST_UNPACKED` bytes at most, or no more than the file: nothing is believed that a header only
    claims.  ValueError, which names the file, if it is damaged or a device, holds more than that or anything but
    numbers, or has no array of a name.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} cannot be read: it is not a regular file")
    content = Path(path).read_bytes()
    most = max(MOST_UNPACKED, len(content))
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = [_member(file, name) for name in names]
            size = sum(member.file_size for member in members)
            if size > most:
                raise ValueError(f"its arrays unpack to {size} bytes, more than {most}")
            return [_array(file, name, member) for name, member in zip(names, members, strict=True)]
    except Exception as error:  # a damaged archive makes zipfile and NumPy raise almost anything
        raise ValueError(f"{path} cannot be read: {error}") from error


def _member(file: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    if f"{name}.npy" not in file.namelist():
        raise ValueError(f"it has no array {name}")
    member = file.getinfo(f"{name}.npy")
    # The other methods, which NumPy does not write, zipfile unpacks without regard to how much is asked for.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by a method other than NumPy's")
    return member


def _array(file: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> Array:
    with file.open(member) as unpacked:
        # At its end the checksum is compared.
        content = unpacked.read(member.file_size + 1)
    stream = io.BytesIO(content)
    header = _HEADERS.get(np.lib.format.read_magic(stream))
    if header is None:
        raise ValueError(f"{name} is in a version of the format that is not for numbers")
    shape, fortran_order, dtype = header(stream)
    # Objects would be unpickled, and a dtype of no bytes makes NumPy divide by zero.
    if dtype.kind not in "biufc":
        raise ValueError(f"{name} holds {dtype}, which are no numbers")
    claimed, held = math.prod(shape) * dtype.itemsize, len(content) - stream.tell()
    if claimed != held:
        raise ValueError(f"{name} says {shape} of {dtype}, {claimed} bytes, but holds {held}")
    return np.ndarray(shape, dtype, content, stream.tell(), order="F" if fortran_order else "C")
