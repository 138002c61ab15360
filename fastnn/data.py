"""Data sets: scikit-learn's digits, MNIST from its files, and two that are drawn; what prepares them for training."""

from __future__ import annotations

import gzip
import math
import sys
import zlib
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fastnn import npz
from fastnn.arguments import Array, numeric, whole_number

__all__ = ["Data", "digits", "mnist", "one_hot", "regression", "spiral", "train_test_split"]


MOST_CLASSES = 100_000


class Data(NamedTuple):
    """Inputs of shape (N, D), float64 from 0 to 1, and class indices of shape (N,), in two parts."""

    x_train: Array
    t_train: Array
    x_test: Array
    t_test: Array


def train_test_split(
    x: np.typing.ArrayLike, t: np.typing.ArrayLike, *, test: float = 0.2, seed: int | None = None
) -> Data:
    """
    Part samples at random.

    Parameters
    ----------
    x, t : array_like, as many samples in each
    test : float, optional
        The share of the test part, between 0 and 1.
    seed : int, optional
        From 0 to 2**128 - 1.

    Returns
    -------
    Data
        Of the dtypes of `x` and `t`.

    Raises
    ------
    TypeError
        `x` or `t` is not of real numbers, `test` no real number, `seed` no whole number.
    ValueError
        `x` and `t` differ in length, or `test` or `seed` is out of its range.
    """
    x, t = numeric("x", x, 1), numeric("t", t, 1)
    if len(x) != len(t):
        raise ValueError(f"x has {len(x)} samples, but t has {len(t)}")
    if not isinstance(test, Real):
        raise TypeError(f"test must be a number, not {test!r}")
    if not 0 < test < 1:
        raise ValueError(f"test must be a share between 0 and 1, not {test!r}")
    order = np.random.default_rng(_whole_seed(seed)).permutation(len(x))
    held_out = round(len(x) * test)
    return Data(x[order[held_out:]], t[order[held_out:]], x[order[:held_out]], t[order[:held_out]])


def one_hot(t: np.typing.ArrayLike, classes: int | None = None, *, dtype: np.typing.DTypeLike = np.float64) -> Array:
    """
    Class indices as rows that hold a single 1.

    ``y[n, t[n]] = 1, else 0``

    Parameters
    ----------
    t : array_like of integers, shape (N,)
    classes : int, optional
        C, at most 100,000; one more than the largest index if not given.
    dtype : data type, optional

    Returns
    -------
    ndarray of `dtype`, shape (N, C)

    Raises
    ------
    IndexError
        An index is negative or too large: the first such row is named, with its value.
    TypeError
        `t` is not of integers, or `classes` no whole number.
    ValueError
        `t` is not one-dimensional, or it is empty and `classes` not given; `classes` is out of its range.
    """
    labels = numeric("t", t)
    if labels.ndim != 1:
        raise ValueError(f"t must be one-dimensional, but its shape is {labels.shape}")
    # To NumPy an empty list is of floats.
    if labels.size and labels.dtype.kind not in "iu":
        raise TypeError(f"t holds class indices and must be of integers, not of dtype {labels.dtype}: t.astype(int)")
    count = MOST_CLASSES if classes is None else whole_number("classes", classes, 1, MOST_CLASSES)
    bad = (labels < 0) | (labels >= count)
    if bad.any():
        row = int(np.argmax(bad))
        raise IndexError(f"t[{row}] is {labels[row]}, which is not a class index from 0 to {count - 1}")
    if classes is None:
        if not labels.size:
            raise ValueError("t is empty: without an index, classes must be given")
        count = int(labels.max()) + 1
    y = np.zeros((len(labels), count), dtype)
    y[np.arange(len(labels)), labels.astype(np.intp)] = 1
    return y


def spiral(samples: int = 100, classes: int = 3, *, seed: int | None = None) -> tuple[Array, Array]:
    """
    Points in the plane whose classes are the arms of a spiral: no straight line parts them.

    ``x = (r sin a, r cos a),  r = i / samples,  a = 4 r + 4 c + 0.2 e``

    for point i of class c, with e drawn from the standard normal distribution.

    Parameters
    ----------
    samples : int, optional
        The points of each class.
    classes : int, optional
        At most 100,000.
    seed : int, optional
        From 0 to 2**32 - 1; 1984 gives the very points of the book.

    Returns
    -------
    x : ndarray of float64, shape (samples * classes, 2)
        One class after the other, each from the centre outwards.
    t : ndarray of int64, shape (samples * classes,)
        Class indices.

    Raises
    ------
    TypeError
        An argument is no whole number.
    ValueError
        An argument is out of its range.

    References
    ----------
    "Deep Learning from Scratch 2", section 1.4.1.
    """
    samples = whole_number("samples", samples, 1, sys.maxsize)
    classes = whole_number("classes", classes, 1, MOST_CLASSES)
    # NumPy's older generator, because the book draws from it.
    rng = np.random.RandomState(_whole_seed(seed, 2**32 - 1))
    t = np.repeat(np.arange(classes, dtype=np.int64), samples)
    r = np.tile(np.arange(samples) / samples, classes)
    a = 4 * r + 4 * t + 0.2 * rng.randn(len(t))
    return np.stack([r * np.sin(a), r * np.cos(a)], axis=1), t


def regression(samples: int, *, seed: int | None = None) -> tuple[Array, Array]:
    """
    Points on a plane, without noise.

    ``y = 3 x0 + 2 x1``

    Parameters
    ----------
    samples : int
        N.
    seed : int, optional
        From 0 to 2**128 - 1.

    Returns
    -------
    x : ndarray of float64, shape (N, 2)
        Uniform from 0 to 1, 1 excluded.
    y : ndarray of float64, shape (N, 1)

    Raises
    ------
    TypeError
        An argument is no whole number.
    ValueError
        An argument is out of its range.
    """
    samples = whole_number("samples", samples, 1, sys.maxsize)
    x = np.random.default_rng(_whole_seed(seed)).random((samples, 2))
    return x, 3 * x[:, :1] + 2 * x[:, 1:]


def digits(*, seed: int | None = 0) -> Data:
    """
    1,797 handwritten digits of 8 x 8 pixels, a fifth of them for the test (needs scikit-learn).

    Parameters
    ----------
    seed : int, optional
        For the split.

    Returns
    -------
    Data

    Raises
    ------
    ModuleNotFoundError
        scikit-learn is not installed.
    TypeError, ValueError
        `seed` is no whole number, or out of its range.

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

    Returns
    -------
    Data

    Raises
    ------
    FileNotFoundError
        A file is missing.
    OSError
        A file cannot be opened.
    ValueError
        A file is damaged, truncated, unpacks to more than 1 GiB or does not fit the others; it is named.

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
        parts = npz.Archive(path).arrays(["x_train", "y_train", "x_test", "y_test"])
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


def _whole_seed(seed: int | None, most: int = 2**128 - 1) -> int | None:
    return None if seed is None else whole_number("seed", seed, 0, most)


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
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # Two zero bytes, 8 for unsigned bytes, the number of dimensions, then each as a big-endian 32-bit number.
            start = file.read(4)
            if len(start) < 4 or start[:3] != b"\0\0\x08" or not 1 <= start[3] <= 4:
                raise ValueError(f"{path} is no IDX file of unsigned bytes: it begins with {start.hex(' ')!r}")
            lengths = file.read(4 * start[3])
            if len(lengths) < 4 * start[3]:
                raise ValueError(f"{path} is truncated within its header")
            shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
            size = math.prod(shape)
            if not size:
                raise ValueError(f"{path} says {shape}, which is empty")
            # In pieces: neither a header that claims too much nor a file that unpacks to too much takes the memory.
            most = min(size, npz.MOST_UNPACKED) if path.suffix == ".gz" else size
            content = bytearray()
            while len(content) <= most and (piece := file.read(1 << 20)):
                content += piece
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if len(content) > most < size:
        raise ValueError(f"{path} says {shape} and unpacks to more than {most} bytes")
    if len(content) != size:
        held = "more" if len(content) > size else len(content)
        raise ValueError(f"{path} says {shape}, {size} bytes, but holds {held}")
    return np.frombuffer(content, np.uint8).reshape(shape)
