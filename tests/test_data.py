"""Data sets, and files that are not what they should be."""

import gzip
import struct

import numpy as np
import pytest

from fastnn import data

NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def arrays(rng):
    images, labels = rng.integers(0, 256, (9, 4, 3), np.uint8), rng.integers(0, 10, 9, np.uint8)
    return [images[:6], labels[:6], images[6:], labels[6:]]


@pytest.fixture
def folder(tmp_path, arrays):
    for name, array in zip(NAMES, arrays, strict=True):
        (tmp_path / name).write_bytes(idx(array))
    return tmp_path


def assert_holds(read, arrays):
    np.testing.assert_array_equal(read.x_train, arrays[0].reshape(6, 12) / 255, strict=True)
    np.testing.assert_array_equal(read.t_train, arrays[1])
    np.testing.assert_array_equal(read.x_test, arrays[2].reshape(3, 12) / 255, strict=True)
    np.testing.assert_array_equal(read.t_test, arrays[3])
    assert read.t_train.dtype == np.int64


def test_idx_files(folder, arrays):
    assert_holds(data.mnist(folder), arrays)


def test_gzipped_and_otherwise_spelt(tmp_path, arrays):
    for name, array in zip(NAMES, arrays, strict=True):
        (tmp_path / (name.replace("-idx", ".idx") + ".gz")).write_bytes(gzip.compress(idx(array)))
    assert_holds(data.mnist(str(tmp_path)), arrays)


def test_npz(tmp_path, arrays):
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, **dict(zip(["x_train", "y_train", "x_test", "y_test"], arrays, strict=True)))
    assert_holds(data.mnist(path), arrays)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: content[:6],
        lambda content: content[:2],
        lambda content: b"",
        lambda content: b"\0\0\x0d" + content[3:],
        lambda content: b"<html>404",
        lambda content: content[:4] + b"\xff" * 4 + content[8:],
    ],
)
def test_a_damaged_idx_file_is_named(folder, name, damage):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=name):
        data.mnist(folder)


@pytest.mark.parametrize("damage", [lambda c: c[:-9], lambda c: b"no gzip", lambda c: c[:20] + b"\xff" * 8 + c[28:]])
def test_a_damaged_gzip_file_is_named(folder, damage):
    path = folder / NAMES[0]
    (folder / (NAMES[0] + ".gz")).write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(ValueError, match=NAMES[0] + ".gz is damaged"):
        data.mnist(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        data.mnist(folder)


def test_images_and_labels_must_go_together(folder, arrays):
    (folder / NAMES[1]).write_bytes(idx(arrays[1][:-1]))
    with pytest.raises(ValueError, match="training images"):
        data.mnist(folder)


def npz(path, arrays, **changed):
    np.savez(path, **{**dict(zip(["x_train", "y_train", "x_test", "y_test"], arrays, strict=True)), **changed})


def test_a_damaged_npz_is_named(tmp_path, arrays):
    path = tmp_path / "mnist.npz"
    npz(path, arrays)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"PK", b"", whole[:40] + b"\xff" * 30 + whole[70:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="mnist.npz"):
            data.mnist(path)


def test_an_npy_file_is_no_npz(tmp_path):
    np.save(tmp_path / "one.npy", np.ones(3))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    with pytest.raises(ValueError, match="one.npz"):
        data.mnist(tmp_path / "one.npz")


def test_an_npz_without_an_array_or_with_a_pickle_is_refused(tmp_path, arrays):
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=arrays[0])
    with pytest.raises(ValueError, match="mnist.npz has no array y_train$"):
        data.mnist(path)
    with pytest.raises(ValueError, match="test images"):
        npz(path, arrays, x_test=arrays[2][:, 1:])
        data.mnist(path)
    for bad in (-1, 10**12):
        npz(path, arrays, y_test=arrays[3].astype(np.int64) * 0 + bad)
        with pytest.raises(ValueError, match=f"mnist.npz: test labels go from {bad}"):
            data.mnist(path)
    npz(path, arrays, x_test=np.array([{}], object))
    with pytest.raises(ValueError, match="mnist.npz"):
        data.mnist(path)
    npz(path, arrays, x_train=arrays[0] / 255)
    with pytest.raises(ValueError, match="float64"):
        data.mnist(path)


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.mnist(tmp_path / "nowhere")
    (tmp_path / "digits.csv").write_text("1,2")
    with pytest.raises(ValueError, match="digits.csv is neither"):
        data.mnist(tmp_path / "digits.csv")


def test_digits_are_real_and_split_once():
    read = data.digits(seed=3)
    assert read.x_train.shape == (1438, 64) and read.x_test.shape == (359, 64)
    assert read.x_train.min() == 0 and read.x_train.max() == 1
    assert set(read.t_train) == set(range(10))
    np.testing.assert_array_equal(read.x_test, data.digits(seed=3).x_test)
    assert (read.t_test != data.digits(seed=4).t_test).any()


def test_train_test_split_keeps_every_pair():
    x, t = np.arange(10.0)[:, np.newaxis], np.arange(10)
    parts = data.train_test_split(x, t, test=0.3, seed=0)
    assert len(parts.x_test) == 3
    assert sorted([*parts.t_train, *parts.t_test]) == list(range(10))
    np.testing.assert_array_equal(parts.x_train[:, 0], parts.t_train)
    with pytest.raises(ValueError, match="test must be a share"):
        data.train_test_split(x, t, test=1)
    with pytest.raises(ValueError, match="x has 10 samples, but t has 9"):
        data.train_test_split(x, t[:9])
