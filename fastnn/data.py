"""Data sets: the digits that scikit-learn carries, and MNIST from its files."""

from __future__ import annotations

import gzip
import math
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastnn.arguments import Array

__all__ = ["Data", "digits", "mnist", "train_test_split"]


MOST_CLASSES = 100_000


class Data(NamedTuple):
    """Inputs of shape (N, D), float64 from 0 to 1, and class indices of shape (N,), in two parts."""

    x_train: Array
    t_train: Array
    x_test: Array
    t_test: Array


def train_test_split(x: Array, t: Array, *, test: float = 0.2, seed: int | None = None) -> Data:
    """
    Part samples at random.

    Parameters
    ----------
    x, t : ndarray, as many samples in each
    test : float, optional
        The share of the test part, between 0 and 1.
    seed : int, optional

    Returns
    -------
    Data
    """
    if len(x) != len(t):
        raise ValueError(f"x has {len(x)} samples, but t has {len(t)}")
    if not 0 < test < 1:
        raise ValueError(f"test must be a share between 0 and 1, not {test!r}")
    order = np.random.default_rng(seed).permutation(len(x))
    held_out = round(len(x) * test)
    return Data(x[order[held_out:]], t[order[held_out:]], x[order[:held_out]], t[order[:held_out]])


def digits(*, seed: int | None = 0) -> Data:
    """
    1,797 handwritten digits of 8 x 8 pixels, a fifth of them for the test (needs scikit-learn).

    Parameters
    ----------
    seed : int, optional
        For the split.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    x, t = load_digits(return_X_y=True)
    return train_test_split(x / 16.0, t, seed=seed)


def mnist(path: str | Path) -> Data:
    """
    MNIST, or a data set in one of its formats.

    Parameters
    ----------
    path : path
        A folder with the four IDX files (``train-images-idx3-ubyte`` and so on, also with ``.gz``), or an ``.npz``
        file with ``x_train, y_train, x_test, y_test``.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is damaged, truncated or does not fit the others; it is named.

    References
    ----------
    Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
    """
    path = Path(path)
    if path.is_dir():
        parts = [
            _idx(_find(path, f"{part}-{kind}"))
            for part in ("train", "t10k")
            for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
        ]
    elif path.suffix == ".npz":
        parts = _npz(path)
    elif path.exists():
        raise ValueError(f"{path} is neither a folder with the four IDX files nor an .npz file")
    else:
        raise FileNotFoundError(f"{path} does not exist")
    read = Data(*_part(path, "training", *parts[:2]), *_part(path, "test", *parts[2:]))
    if read.x_train.shape[1] != read.x_test.shape[1]:
        raise ValueError(
            f"{path}: training images of shape {parts[0].shape} do not go with test images of {parts[2].shape}"
        )
    return read


def _part(path: Path, name: str, images: Array, labels: Array) -> tuple[Array, Array]:
    if images.ndim < 2 or labels.ndim != 1 or len(images) != len(labels) or not images.size:
        raise ValueError(f"{path}: {name} images of shape {images.shape} do not go with labels of {labels.shape}")
    if images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: {name} images are {images.dtype} and labels {labels.dtype}, not uint8 and integers")
    if labels.min() < 0 or labels.max() >= MOST_CLASSES:
        raise ValueError(f"{path}: {name} labels go from {labels.min()} to {labels.max()}: these are no classes")
    return images.reshape(len(images), -1) / 255.0, labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    names = [spelling + ending for spelling in (name, name.replace("-idx", ".idx")) for ending in ("", ".gz")]
    for candidate in names:
        if (folder / candidate).is_file():
            return folder / candidate
    raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")


def _idx(path: Path) -> Array:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    # Two zero bytes, 8 for unsigned bytes, the number of dimensions, then each as a big-endian 32-bit number.
    if len(content) < 4 or content[:3] != b"\0\0\x08" or not 1 <= content[3] <= 4:
        raise ValueError(f"{path} is no IDX file of unsigned bytes: it begins with {content[:4].hex(' ')}")
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise ValueError(f"{path} is truncated within its header")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", content[3], 4))
    if len(content) - header != math.prod(shape):
        raise ValueError(f"{path} says {shape}, {math.prod(shape)} bytes, but holds {len(content) - header}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _npz(path: Path) -> list[Array]:
    names = "x_train", "y_train", "x_test", "y_test"
    try:
        with path.open("rb") as stored, np.load(stored, allow_pickle=False) as file:
            for name in names:
                if name not in file:
                    raise KeyError(name)
            return [file[name] for name in names]
    except KeyError as error:
        raise ValueError(f"{path} has no array {error.args[0]}") from error
    except (EOFError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
