"""Coverage-guided fuzzing of what reads files: IDX, gzip and npz, for data sets and for networks.

    pip install "fastnn-kernels[fuzz]"
    python tests/fuzz_files.py -runs=200000

The options are libFuzzer's; a folder after them keeps what was found worth keeping.  Whatever the bytes, a reader gives
arrays that are what they should be or raises an exception that it documents; it takes little memory, unpickles nothing,
and a network that refuses a file is as it was.  The bytes come as a whole file, or as a part of one that is intact
otherwise.  What breaks a promise is written to a file `crash-...`, which given as the only argument is tried again.
"""

import io
import os
import pickle
import re
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import atheris

for name in ("gzip", "zipfile"):
    sys.modules.pop(name, None)  # to be imported anew
with atheris.instrument_imports(
    include=["fastnn.data", "fastnn.npz", "fastnn.architecture", "fastnn.networks", "gzip", "zipfile", "numpy.lib"]
):
    import gzip
    import zipfile

    import numpy as np

    from fastnn import MLP, data, load

MEMORY = Path("/dev/shm")
MOST_MEMORY = 64 << 20
IDX = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
NPZ = ["x_train", "y_train", "x_test", "y_test"]
CHANGES = {b"Affine": b"Relu", b"fastnn.": b"os.", b'"W1"': b"null", b"1e-07": b"1e999", b": 1,": b": 2,"}
ARRAYS = [np.arange(36, dtype=np.uint8).reshape(3, 4, 3), np.arange(3, dtype=np.uint8)] * 2


class Planted:
    """Ends the process when it is unpickled."""

    def __reduce__(self):
        return os.abort, ()


def idx(array):
    return b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def npy(array):
    stored = io.BytesIO()
    np.save(stored, array)
    return stored.getvalue()


def zipped(members, method=zipfile.ZIP_STORED):
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w", method) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return stored.getvalue()


class Readers:
    """Files in a folder, and the ways to have bytes read as one of them."""

    def __init__(self, folder):
        self.network = MLP([2, 3], seed=1)
        self.saved = dict(zip(self.network.names, map(npy, self.network.params), strict=True))
        self.members = dict(zip(NPZ, map(npy, ARRAYS), strict=True))
        self.plain, self.packed, self.npz = folder / "plain", folder / "packed", folder / "file.npz"
        self.network.save(self.npz)
        with zipfile.ZipFile(self.npz) as file:
            saved_text = file.read("architecture.json")
        self.plain.mkdir()
        self.packed.mkdir()
        for name, array in zip(IDX, ARRAYS, strict=True):
            (self.plain / name).write_bytes(idx(array))
            (self.packed / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
        self.ways = {
            self.images: [idx(ARRAYS[0]), idx(ARRAYS[0].reshape(3, 12)), idx(ARRAYS[1]), idx(ARRAYS[0][:0])],
            self.labels: [idx(ARRAYS[1]), idx(ARRAYS[0])],
            self.packed_images: [gzip.compress(idx(ARRAYS[0])), gzip.compress(bytes(1 << 20)), gzip.compress(b"")],
            self.packed_labels: [idx(ARRAYS[1])],
            self.archive: [
                *(zipped(self.members, method) for method in (0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)),
                zipped(self.members | {"x_train": npy(np.zeros((3, 1 << 18), np.uint8))}, zipfile.ZIP_DEFLATED),
            ],
            self.member: [
                *(
                    npy(ARRAYS[0].astype(dtype))
                    for dtype in ("u1", "i8", "f4", "S3", "U1", "?", "m8[s]", "V2", "u1,i2")
                ),
                npy(np.zeros(3, "V0")),
                npy(np.asfortranarray(ARRAYS[0])),
                npy(np.array([Planted()] * 3, object)),
                pickle.dumps(Planted()),
            ],
            self.label_member: [npy(ARRAYS[1].astype(dtype)) for dtype in ("u1", "i1", ">i8", "u8", "f8")],
            self.parameters: [
                self.npz.read_bytes(),
                *(zipped(self.saved, method) for method in (0, zipfile.ZIP_DEFLATED)),
            ],
            self.weight: [npy(np.ones((2, 3), dtype)) for dtype in (">f8", "f4", "g", "c16", "i4", "i8")]
            + [npy(np.full((2, 3), Planted(), object))],
            self.architecture: [saved_text, *(saved_text.replace(a, b) for a, b in CHANGES.items()), b"[" * 4000],
        }

    def seeds(self):
        for way, contents in enumerate(self.ways.values()):
            for content in contents:
                yield bytes([way]) + content

    def try_out(self, content):
        """What atheris calls: the first byte chooses the way."""
        way = list(self.ways)[content[0] % len(self.ways)] if content else self.images
        tracemalloc.reset_peak()
        way(content[1:])
        memory = tracemalloc.get_traced_memory()[1]
        assert memory < MOST_MEMORY, f"{memory} bytes for a file of {len(content)}"

    def images(self, content):
        self.read_idx(self.plain / IDX[0], content)

    def labels(self, content):
        self.read_idx(self.plain / IDX[1], content)

    def packed_images(self, content):
        self.read_idx(self.packed / f"{IDX[0]}.gz", content)

    def packed_labels(self, content):
        self.read_idx(self.packed / f"{IDX[1]}.gz", gzip.compress(content, 1))

    def archive(self, content):
        self.npz.write_bytes(content)
        self.read_data(self.npz)

    def member(self, content):
        self.archive(zipped(self.members | {"x_train": content}))

    def label_member(self, content):
        self.archive(zipped(self.members | {"y_train": content}))

    def parameters(self, content):
        self.npz.write_bytes(content)
        before = [p.copy() for p in self.network.params]
        try:
            self.network.load(self.npz)
        except (ValueError, TypeError):
            for p, value in zip(self.network.params, before, strict=True):
                np.testing.assert_array_equal(p, value, strict=True)
        try:
            assert all(p.dtype.kind == "f" for p in load(self.npz).params)
        except ValueError as error:
            assert str(self.npz) in str(error), error

    def architecture(self, content):
        stored = io.BytesIO(zipped(self.saved))
        with zipfile.ZipFile(stored, "a") as file:
            file.writestr("architecture.json", content)
        self.parameters(stored.getvalue())

    def weight(self, content):
        self.parameters(zipped(self.saved | {"W1": content}))

    def read_idx(self, path, content):
        whole = path.read_bytes()
        path.write_bytes(content)
        try:
            self.read_data(path.parent)
        finally:
            path.write_bytes(whole)

    def read_data(self, path):
        try:
            read = data.mnist(path)
        except ValueError as error:
            assert str(path) in str(error), error
            return
        for x, t in (read[:2], read[2:]):
            assert x.dtype == np.float64 and x.ndim == 2 and x.size and x.min() >= 0 and x.max() <= 1
            assert t.dtype == np.int64 and t.shape == x.shape[:1] and t.min() >= 0
        assert read.x_train.shape[1] == read.x_test.shape[1]


def fuzz(options):
    """Does not return: libFuzzer ends the process."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        readers = Readers(folder)
        corpus = folder / "corpus"
        corpus.mkdir()
        for i, content in enumerate(readers.seeds()):
            (corpus / f"seed{i}").write_bytes(content)
        folders = [] if any(Path(option).is_file() for option in options) else [str(corpus)]
        tracemalloc.start()
        atheris.Setup([sys.argv[0], "-max_len=4096", "-rss_limit_mb=1024", *options, *folders], readers.try_out)
        atheris.Fuzz()


def main():
    # In a process of its own, since libFuzzer's end runs no more Python, neither to tidy up nor to report.
    # In memory, if that is to be had: a disk takes longer to replace a file than the rest together.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        command = [sys.executable, __file__, "--in-this-process", *sys.argv[1:]]
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": folder})
        last = ""
        for line in running.stderr:
            sys.stderr.write(line)
            last = line if re.match(r"#\d+\s.*\bcov:", line) else last
        code = running.wait()
    print(f"figure: readers of files fuzzed: {' '.join(last.split()) or 'no figures'}, exit code {code}")
    return code


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-this-process"]:
        fuzz(sys.argv[2:])
    sys.exit(main())
