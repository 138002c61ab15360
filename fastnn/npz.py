"""Arrays in .npz files: written whole or not at all where that can be, read without pickles."""

from __future__ import annotations

import errno
import io
import math
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from fastnn.arguments import Array

MOST_UNPACKED = 1 << 30
TEXT, MOST_TEXT = "architecture.json", 1 << 22

# How a system refuses to put another file in the place of one that may well be written.
NOT_REPLACED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array], text: str) -> None:
    """
    Write arrays under their names, and a text beside them.

    A link is followed.  An old file keeps its mode, its owner, its attributes and its other names, and is replaced at
    once when the new one is complete.  Only where it cannot be replaced, it is changed in place, so that half of it is
    there for a while: one with several hard links, a mounted one, one in a folder that may not be written.

    IsADirectoryError or ValueError, which names the file, if it is not a regular one.
    """
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    with zipfile.ZipFile(content, "a") as file:
        file.writestr(zipfile.ZipInfo(TEXT), text)  # a date would make two files of what is the same
    old = _old(path)
    if not _replace(path, content.getbuffer(), old):
        with open(path, "r+b") as file:
            file.write(content.getbuffer())
            file.truncate()


def _old(path: str | os.PathLike[str]) -> os.stat_result | None:
    """What is known of the file that is to be written over, if there is one and it may be."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(old.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(old.st_mode):
        raise ValueError(f"{path} cannot be written: it is not a regular file")
    with open(path, "r+b"):
        return old


def _replace(path: str | os.PathLike[str], content: memoryview, old: os.stat_result | None) -> bool:
    """Put a new file in the place of the old one, if there is one; False if that must be changed in place."""
    if old is not None and old.st_nlink > 1:
        return False
    target = Path(os.path.realpath(path))
    unfinished = target.with_name(f".{os.urandom(8).hex()}.unfinished")
    try:
        try:
            with unfinished.open("xb") as file:
                file.write(content)
                new = os.fstat(file.fileno())
            if old is not None:
                if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
                    os.chown(unfinished, old.st_uid, old.st_gid)
                shutil.copystat(target, unfinished)
                os.utime(unfinished)
            os.replace(unfinished, target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        if old is not None and error.errno in NOT_REPLACED:
            return False
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
    return True


class Archive:
    """
    An .npz file, read at once.

    ValueError, which names the file, if it is damaged or a device, here and in all methods.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{path} cannot be read: it is not a regular file")
        self.path, content = path, Path(path).read_bytes()
        self.most = max(MOST_UNPACKED, len(content))
        with self.named():
            self.file = zipfile.ZipFile(io.BytesIO(content))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Make of any exception one that names the file."""
        try:
            yield
        except Exception as error:  # a damaged archive makes zipfile and NumPy raise almost anything
            raise ValueError(f"{self.path} cannot be read: {error}") from error

    @property
    def names(self) -> list[str]:
        """Those of the arrays."""
        return [name.removesuffix(".npy") for name in self.file.namelist() if name.endswith(".npy")]

    @property
    def text(self) -> str | None:
        """What stands beside the arrays, if anything does."""
        if TEXT not in self.file.namelist():
            return None
        with self.named():
            member = _member(self.file, TEXT)
            if member.file_size > MOST_TEXT:
                raise ValueError(f"{TEXT} unpacks to {member.file_size} bytes, more than {MOST_TEXT}")
            return _unpacked(self.file, member).decode()

    def arrays(self, names: list[str]) -> list[Array]:
        """
        The arrays of those names, read-only.

        Together they hold `MOST_UNPACKED` bytes at most, or no more than the file: nothing is believed that a header
        only claims.  ValueError, too, if they hold more than that or anything but numbers, or there is none of a name.
        """
        with self.named():
            members = [_member(self.file, f"{name}.npy") for name in names]
            size = sum(member.file_size for member in members)
            if size > self.most:
                raise ValueError(f"its arrays unpack to {size} bytes, more than {self.most}")
            return [_array(self.file, name, member) for name, member in zip(names, members, strict=True)]


def _member(file: zipfile.ZipFile, filename: str) -> zipfile.ZipInfo:
    name = filename.removesuffix(".npy")
    if filename not in file.namelist():
        raise ValueError(f"it has no array {name}")
    member = file.getinfo(filename)
    # The other methods, which NumPy does not write, zipfile unpacks without regard to how much is asked for.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed by a method other than NumPy's")
    return member


def _unpacked(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with file.open(member) as unpacked:
        # At its end the checksum is compared.
        return unpacked.read(member.file_size + 1)


def _array(file: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> Array:
    content = _unpacked(file, member)
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
