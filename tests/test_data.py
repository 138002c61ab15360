"""Data sets, and files that are not what they should be."""

import gzip
import io
import math
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fastnn import data
from fastnn import npz as npz_files

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


def changed(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c[:-9],
        lambda c: c[:-1],
        lambda c: c[:5],
        lambda c: b"no gzip",
        lambda c: c[:20] + b"\xff" * 8 + c[28:],
        lambda c: c[:10] + b"\xff" * 8 + c[18:],
        lambda c: changed(c, len(c) - 8),  # the CRC
        lambda c: changed(c, len(c) - 4),  # the length
        lambda c: c + b"more",
    ],
)
def test_a_damaged_gzip_file_is_named(folder, damage):
    path = folder / NAMES[0]
    (folder / (NAMES[0] + ".gz")).write_bytes(damage(gzip.compress(path.read_bytes())))
    path.unlink()
    with pytest.raises(ValueError, match=NAMES[0] + ".gz is damaged"):
        data.mnist(folder)


def test_an_empty_gzip_file_is_named(folder):
    (folder / NAMES[0]).unlink()
    for content in (b"", gzip.compress(b"")):
        (folder / (NAMES[0] + ".gz")).write_bytes(content)
        with pytest.raises(ValueError, match=NAMES[0] + ".gz is no IDX file"):
            data.mnist(folder)


@pytest.mark.parametrize("size", [2**19, 2**20, 2**20 + 1, 2**21])
def test_every_file_is_read_to_its_end(folder, size):
    whole = idx(np.ones((1, size), np.uint8))
    (folder / NAMES[1]).write_bytes(idx(np.ones(1, np.uint8)))
    (folder / NAMES[3]).write_bytes(idx(np.ones(1, np.uint8)))
    (folder / NAMES[2]).write_bytes(whole)
    (folder / NAMES[0]).write_bytes(whole)
    np.testing.assert_array_equal(data.mnist(folder).x_train, np.full((1, size), 1 / 255))
    for wrong in (whole + b"\0", whole[:-1]):
        (folder / NAMES[0]).write_bytes(wrong)
        with pytest.raises(ValueError, match=NAMES[0]):
            data.mnist(folder)
    (folder / NAMES[0]).unlink()
    packed = gzip.compress(whole)
    (folder / (NAMES[0] + ".gz")).write_bytes(changed(packed, len(packed) - 8))
    with pytest.raises(ValueError, match=NAMES[0] + ".gz is damaged: CRC"):
        data.mnist(folder)


@pytest.mark.parametrize("shape", [(0,), (0, 4, 3), (2**32 - 1, 2**32 - 1, 2**32 - 1, 0)])
@pytest.mark.parametrize("name", NAMES)
def test_an_idx_file_of_nothing_is_named(folder, name, shape):
    (folder / name).write_bytes(b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape))
    with pytest.raises(ValueError, match=f"{name} says .*, which is empty"):
        data.mnist(folder)


def test_no_more_is_read_than_the_header_says(folder, arrays):
    with (folder / NAMES[0]).open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=NAMES[0] + r" says \(6, 4, 3\), 72 bytes, but holds more"):
        data.mnist(folder)
    (folder / NAMES[0]).unlink()
    for shape in ((2**24,), (2**32 - 1,) * 4):
        content = b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(1000)
        (folder / (NAMES[0] + ".gz")).write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match=f"{NAMES[0]}.gz says .* {math.prod(shape)} bytes, but holds 1000"):
            data.mnist(folder)


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        data.mnist(folder)
    (folder / name).mkdir()
    with pytest.raises(FileNotFoundError, match=name):
        data.mnist(folder)


@pytest.mark.parametrize("ending", ["", ".gz", ".npz"])
def test_a_file_that_may_not_be_read_is_named(folder, arrays, ending):
    path = folder / (NAMES[0] + ending)
    (folder / NAMES[0]).rename(path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(PermissionError, match=path.name):
        data.mnist(path if ending == ".npz" else folder)


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
    with pytest.raises(ValueError, match="mnist.npz cannot be read: it has no array y_train$"):
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


def npy(array):
    stored = io.BytesIO()
    np.save(stored, array)
    return stored.getvalue()


def claiming(shape, descr="|u1", held=72):
    stored = io.BytesIO()
    np.lib.format.write_array_header_1_0(stored, {"descr": descr, "fortran_order": False, "shape": shape})
    return stored.getvalue() + bytes(held)


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"junk",
        npy(np.ones((6, 4, 3), np.uint8))[:-1],
        npy(np.ones((6, 4, 3), np.uint8)) + b"\0",
        npy(np.array([{}], object)),
        claiming((10**15,)),
        claiming((2**40, 2**40)),
        claiming((2**64, 4, 3)),
        claiming((-6, 4, 3)),
        claiming((5, 4, 3)),
        claiming((-1,), "|V0", 0),
        claiming((-1,), "|S0", 0),
        claiming((-1,), "<U0", 0),
        claiming((-1,), ("<f8", (0,)), 0),
        claiming((-1,), [], 0),
        claiming((9,), "<m8[s]"),
        claiming((-3, -24)),
    ],
)
def test_a_bad_array_in_an_npz_is_refused(tmp_path, arrays, stored):
    path = tmp_path / "mnist.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x_train.npy", stored)
        for name, array in zip(("y_train", "x_test", "y_test"), arrays[1:], strict=True):
            file.writestr(name + ".npy", npy(array))
    with pytest.raises(ValueError, match="mnist.npz cannot be read: ."):
        data.mnist(path)


def zipped(path, arrays, method, *, first=None):
    """An .npz file written member by member: `first` replaces what is stored as the first."""
    with zipfile.ZipFile(path, "w", method) as file:
        for name, array in zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True):
            file.writestr(name + ".npy", first if first and name == "x_train" else npy(array))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_no_change_of_an_npz_goes_unnoticed(tmp_path, arrays, method):
    path = tmp_path / "mnist.npz"
    zipped(path, arrays, method)
    assert_holds(data.mnist(path), arrays)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(changed(whole, place))
        try:
            read = data.mnist(path)  # a date, say, may change
        except ValueError as error:
            assert "mnist.npz" in str(error)
        else:
            assert_holds(read, arrays)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_bounds_are_refused(tmp_path, arrays, method):
    path = tmp_path / "mnist.npz"
    zipped(path, arrays, method)
    with pytest.raises(ValueError, match="mnist.npz cannot be read: x_train is compressed by a method"):
        data.mnist(path)


def peak_while_refused(path, match):
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=match):
            data.mnist(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2**30,), (2**35, 2), (2**15, 28, 28)])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_npz_that_claims_much_takes_no_memory(tmp_path, arrays, shape, method):
    path = tmp_path / "mnist.npz"
    zipped(path, arrays, method, first=claiming(shape))
    assert peak_while_refused(path, rf"x_train says .* of uint8, {math.prod(shape)} bytes, but holds 72") < 1 << 20


def claiming_to_unpack_to(size, path):
    """The first member's size in the directory at the end, which is the one that is believed."""
    content = path.read_bytes()
    at = content.index(b"PK\x01\x02") + 24
    path.write_bytes(content[:at] + struct.pack("<I", size) + content[at + 4 :])


def test_a_member_that_unpacks_to_more_than_it_says_is_not_unpacked(tmp_path, arrays):
    path = tmp_path / "mnist.npz"
    zipped(path, arrays, zipfile.ZIP_DEFLATED, first=npy(np.zeros((1, 1 << 26), np.uint8)))
    claiming_to_unpack_to(1000, path)
    assert peak_while_refused(path, "mnist.npz cannot be read: .*CRC") < 1 << 20


def test_what_unpacks_to_more_than_is_allowed_is_refused(tmp_path, folder, arrays, monkeypatch):
    monkeypatch.setattr(npz_files, "MOST_UNPACKED", 1 << 20)
    images = np.zeros((6, 1 << 22), np.uint8)
    path = tmp_path / "mnist.npz"
    zipped(path, arrays, zipfile.ZIP_DEFLATED, first=npy(images))
    others = sum(len(npy(array)) for array in arrays[1:])
    for size in (len(npy(images)), 2**32 - 2):
        claiming_to_unpack_to(size, path)
        match = f"its arrays unpack to {size + others} bytes, more than 1048576"
        assert peak_while_refused(path, match) < 1 << 20
    half = np.zeros((1, 600_000), np.uint8)  # of what is allowed to all together
    zipped(path, [half, arrays[1][:1], half, arrays[3][:1]], zipfile.ZIP_DEFLATED)
    assert peak_while_refused(path, r"its arrays unpack to 1200\d{3} bytes, more than 1048576") < 1 << 20
    (folder / NAMES[0]).unlink()
    (folder / (NAMES[0] + ".gz")).write_bytes(gzip.compress(idx(images)))
    match = NAMES[0] + r".gz says \(6, 4194304\) and unpacks to more than 1048576 bytes"
    assert peak_while_refused(folder, match) < images.nbytes / 3
    (folder / (NAMES[0] + ".gz")).unlink()
    # What takes as much room on the disk is another matter.
    (folder / NAMES[0]).write_bytes(idx(images[:, : 1 << 18]))
    (folder / NAMES[2]).write_bytes(idx(images[: len(arrays[2]), : 1 << 18]))
    assert data.mnist(folder).x_train.shape == (6, 1 << 18)


class Planted:
    """Tells when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


@pytest.mark.parametrize("stored", [npy(np.array([Planted()], object)), pickle.dumps(Planted())])
def test_no_pickle_is_loaded(tmp_path, arrays, stored, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mnist.npz"
    zipped(path, arrays, zipfile.ZIP_STORED, first=stored)
    with pytest.raises(ValueError, match="mnist.npz cannot be read"):
        data.mnist(path)
    with pytest.raises(ValueError, match="mnist.npz cannot be read"):
        npz_files.Archive(path).arrays(["x_train"])
    assert not Path("unpickled").exists()
    pickle.loads(pickle.dumps(Planted()))
    assert Path("unpickled").exists()


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a file without an end")
def test_a_device_is_not_read(tmp_path):
    path = tmp_path / "mnist.npz"
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="mnist.npz cannot be read: it is not a regular file"):
        data.mnist(path)


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        data.mnist(tmp_path / "nowhere")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(FileNotFoundError, match="folder.npz"):
        data.mnist(tmp_path / "folder.npz")
    (tmp_path / "digits.csv").write_text("1,2")
    with pytest.raises(ValueError, match="digits.csv is neither"):
        data.mnist(tmp_path / "digits.csv")


@pytest.mark.demo
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
    for test in (0, 1, -0.5, math.nan):
        with pytest.raises(ValueError, match=f"test must be a share between 0 and 1, not {test}"):
            data.train_test_split(x, t, test=test)
    with pytest.raises(TypeError, match="test must be a number, not '0.2'"):
        data.train_test_split(x, t, test="0.2")
    with pytest.raises(ValueError, match="x has 10 samples, but t has 9"):
        data.train_test_split(x, t[:9])
    with pytest.raises(ValueError, match="t must have at least 1"):
        data.train_test_split(x, 3)
    with pytest.raises(TypeError, match="x must be an array of real numbers"):
        data.train_test_split(None, t)


def test_train_test_split_takes_lists():
    parts = data.train_test_split([[1.0], [2.0]], [1, 2], test=0.5, seed=0)
    np.testing.assert_array_equal(parts.x_train[:, 0], parts.t_train)


def test_spiral_is_that_of_the_book():
    draws = np.random.RandomState(1984)
    points, labels = [], []
    for arm in range(3):
        for step in range(100):
            angle = 4 * arm + 4 * step / 100 + 0.2 * draws.randn()
            points.append([step / 100 * math.sin(angle), step / 100 * math.cos(angle)])
            labels.append(arm)
    x, t = data.spiral(seed=1984)
    np.testing.assert_allclose(x, points, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(t, labels)
    assert t.dtype == np.int64
    # From the book's own program.
    np.testing.assert_allclose(x[1], [-0.00097698643152699, 0.009952160444476976], rtol=1e-12)
    np.testing.assert_allclose(x[299], [-0.5974310265949212, 0.7894150799558737], rtol=1e-12)


@pytest.mark.parametrize(("samples", "classes"), [(1, 1), (7, 2), (500, 5)])
def test_spiral_has_equal_arms_from_the_centre_outwards(samples, classes):
    x, t = data.spiral(samples, classes, seed=0)
    assert x.shape == (samples * classes, 2) and x.dtype == np.float64
    np.testing.assert_array_equal(np.bincount(t), [samples] * classes)
    for arm in range(classes):
        np.testing.assert_allclose(np.hypot(*x[t == arm].T), np.arange(samples) / samples, rtol=1e-12)


def test_regression_is_exact():
    x, y = data.regression(1000, seed=0)
    assert x.shape == (1000, 2) and y.shape == (1000, 1) and x.dtype == y.dtype == np.float64
    assert 0 <= x.min() < 0.01 and 0.99 < x.max() < 1
    for (x0, x1), (value,) in zip(x.tolist(), y.tolist(), strict=True):
        assert value == 3 * x0 + 2 * x1


@pytest.mark.parametrize("draw", [data.spiral, lambda seed: data.regression(50, seed=seed)])
def test_the_seed_decides(draw):
    first, again, other = draw(seed=5), draw(seed=5), draw(seed=6)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first[0] != other[0]).any()
    assert (draw(seed=None)[0] != draw(seed=None)[0]).any()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: data.spiral(0), ValueError, "samples must be at least 1, not 0$"),
        (lambda: data.spiral(2.5), TypeError, "samples must be a whole number, not 2.5"),
        (lambda: data.spiral(classes=-1), ValueError, "classes must be from 1 to 100000, not -1"),
        (lambda: data.spiral(classes="3"), TypeError, "classes must be a whole number, not '3'"),
        (lambda: data.spiral(seed=2**32), ValueError, "seed must be from 0 to 4294967295, not 4294967296"),
        (lambda: data.regression(-1), ValueError, "samples must be at least 1, not -1$"),
        (lambda: data.regression(None), TypeError, "samples must be a whole number, not None"),
        (lambda: data.regression(3, seed=-1), ValueError, "seed must be at least 0, not -1$"),
        (lambda: data.regression(3, seed="a"), TypeError, "seed must be a whole number, not 'a'"),
        pytest.param(
            lambda: data.digits(seed=0.5), TypeError, "seed must be a whole number, not 0.5", marks=pytest.mark.demo
        ),
        (lambda: data.one_hot([0, 1], 0), ValueError, "classes must be from 1 to 100000, not 0"),
        (lambda: data.one_hot([0, 1], 2.0), TypeError, "classes must be a whole number, not 2.0"),
        (lambda: data.one_hot([0, 3, -1], 3), IndexError, r"t\[1\] is 3, which is not a class index from 0 to 2"),
        (lambda: data.one_hot([0, -1, 3], 3), IndexError, r"t\[1\] is -1, which"),
        (lambda: data.one_hot([2, -4]), IndexError, r"t\[1\] is -4, which"),
        (lambda: data.one_hot([10**12]), IndexError, r"t\[0\] is 1000000000000, which"),
        (
            lambda: data.one_hot(np.array([2**64 - 1], np.uint64), 4),
            IndexError,
            r"t\[0\] is 18446744073709551615, which",
        ),
        (lambda: data.one_hot([0.0, 1.0]), TypeError, "t holds class indices .* not of dtype float64"),
        (lambda: data.one_hot([True, False]), TypeError, "t holds class indices .* not of dtype bool"),
        (lambda: data.one_hot(["a"]), TypeError, "t must be an array of real numbers"),
        (lambda: data.one_hot([[0], [1]]), ValueError, r"t must be one-dimensional, but its shape is \(2, 1\)"),
        (lambda: data.one_hot(3), ValueError, r"t must be one-dimensional, but its shape is \(\)"),
        (lambda: data.one_hot([]), ValueError, "t is empty: .* classes must be given"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ">i4", np.int64, np.uint64])
@pytest.mark.parametrize("classes", [None, 5, 9])
def test_one_hot_against_a_loop(rng, dtype, classes):
    t = np.append(rng.integers(0, 5, 20), 4).astype(dtype)
    expected = np.zeros((21, classes or 5))
    for row, label in enumerate(t.tolist()):
        expected[row, label] = 1
    np.testing.assert_array_equal(data.one_hot(t, classes), expected, strict=True)
    np.testing.assert_array_equal(
        data.one_hot(t.tolist(), classes, dtype=np.int32), expected.astype(np.int32), strict=True
    )


def test_one_hot_of_nothing():
    for t in ([], np.zeros(0, np.uint8)):
        np.testing.assert_array_equal(data.one_hot(t, 3), np.zeros((0, 3)), strict=True)
