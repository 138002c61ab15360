"""Files of networks: what they hold, what they are loaded into, and what they are written over."""

import errno
import json
import os
import pickle
import socket
import stat
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from processes import run

import fastnn
from fastnn import MLP, Affine, CrossEntropyError, Relu, Sequential, Softmax, SoftmaxWithLoss, layers, networks

posix = pytest.mark.skipif(os.name != "posix", reason="Windows has other links and modes")

NETWORK = MLP([4, 5, 3], seed=1)


def assert_saved(path):
    network = MLP([4, 5, 3], seed=2)
    network.load(path)
    for p, saved in zip(network.params, NETWORK.params, strict=True):
        np.testing.assert_array_equal(p, saved, strict=True)


@pytest.fixture
def path(tmp_path):
    """Of a file that holds another network, longer."""
    path = tmp_path / "net.npz"
    MLP([4, 50, 3], seed=3).save(path)
    return path


def refuses_to_replace(code):
    def replace(source, target):
        raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))

    return replace


# ---------------------------------------------------------------- what a file holds


def assert_same(network, other):
    assert type(network) is type(other) and network.names == other.names
    for layer, made in zip((*network.layers, network.loss_layer), (*other.layers, other.loss_layer), strict=True):
        assert type(layer) is type(made) and made.training
        for name in layer.settings:
            assert getattr(layer, name) == getattr(made, name)
    for p, q in zip(network.params, other.params, strict=True):
        np.testing.assert_array_equal(p, q, strict=True)
        assert q.flags.writeable and not np.may_share_memory(p, q)


def every_layer_once():
    """A network that has all layers of fastnn but the losses."""
    chain = []
    for name in layers.__all__:
        kind = getattr(layers, name)
        if not kind.is_loss:
            chain.append(kind(*(np.ones((3, 3)[: 1 + (k == 0)]) for k, _ in enumerate(kind.parameters))))
    return Sequential(chain)


NETWORKS = {
    **{name: MLP([4, 5, 3], activation=name, seed=0) for name in networks.ACTIVATIONS},
    **{name: MLP([4, 5, 1], loss=name, seed=0) for name in networks.LOSSES},
    **{dtype: MLP([4, 5, 3], dtype=dtype, seed=0) for dtype in ("float16", "float32", "longdouble", ">f8")},
    "exact": MLP([4, 3], loss=SoftmaxWithLoss(eps=0), seed=0),
    "small eps": MLP([4, 3], loss=SoftmaxWithLoss(eps=np.float32(0.1)), seed=0),
    "every layer": every_layer_once(),
    "columns": Sequential([Affine(np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.zeros(3))]),
    "probabilities": Sequential([Affine(np.eye(3), np.zeros(3)), Softmax()], CrossEntropyError(eps=1e-3)),
    "nothing": Sequential([]),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_a_network_is_built_from_its_file_alone(tmp_path, network):
    network.save(tmp_path / "net.npz")
    other = fastnn.load(tmp_path / "net.npz")
    assert_same(network, other)
    other.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "net.npz").read_bytes()
    network.load(str(tmp_path / "net.npz"))


def test_what_is_built_goes_on_as_the_first_would(tmp_path, rng):
    network, x, t = MLP([4, 5, 3], seed=0), rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    network.eval().save(tmp_path / "net.npz")
    other = fastnn.load(tmp_path / "net.npz")
    np.testing.assert_array_equal(other.predict(x), network.predict(x))
    for p, q in zip(network.gradient(x, t), other.gradient(x, t), strict=True):
        np.testing.assert_array_equal(p, q)
    fastnn.Trainer(other, fastnn.Adam(), seed=0).fit(x, t, batch_size=2, epochs=2)
    assert other.loss(x, t) < network.loss(x, t)


def test_a_shared_weight_stays_shared(tmp_path, rng):
    W, b = rng.standard_normal((3, 3)), np.zeros(3)

    def network(second):
        return Sequential([Affine(W, b), Relu(), Affine(second, b)])

    network(W).save(tmp_path / "net.npz")
    first, _, last = fastnn.load(tmp_path / "net.npz").layers
    assert first.W is last.W and first.b is last.b
    with pytest.raises(
        ValueError, match=r"layers\[2\] is fastnn.Affine\(W1, b1\) there, but fastnn.Affine\(W2, b1\) here"
    ):
        network(W.copy()).load(tmp_path / "net.npz")
    network(W.T).save(tmp_path / "tied.npz")
    network(W.T).load(tmp_path / "tied.npz")
    with pytest.raises(ValueError, match=r"layers\[2\] has a view of another parameter, .*: build the network in code"):
        fastnn.load(tmp_path / "tied.npz")


def test_a_file_is_plain_data(tmp_path):
    network = MLP([4, 5, 3], loss=SoftmaxWithLoss(eps=0), seed=0)
    network.save(tmp_path / "net.npz")
    with zipfile.ZipFile(tmp_path / "net.npz") as file:
        assert sorted(file.namelist()) == ["W1.npy", "W2.npy", "architecture.json", "b1.npy", "b2.npy"]
        assert json.loads(file.read("architecture.json")) == {
            "format": 1,
            "network": "fastnn.MLP",
            "layers": [
                {"layer": "fastnn.Affine", "params": ["W1", "b1"], "settings": {}},
                {"layer": "fastnn.Relu", "params": [], "settings": {}},
                {"layer": "fastnn.Affine", "params": ["W2", "b2"], "settings": {}},
            ],
            "loss": {"layer": "fastnn.SoftmaxWithLoss", "params": [], "settings": {"eps": 0.0, "from_logits": True}},
        }
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["W2"], network.params[2], strict=True)


# ---------------------------------------------------------------- what a file is loaded into


def assert_refused(network, path, match, error=ValueError):
    before = [p.copy() for p in network.params]
    with pytest.raises(error, match=match) as refusal:
        network.load(path)
    assert str(path) in str(refusal.value)
    for p, value in zip(network.params, before, strict=True):
        np.testing.assert_array_equal(p, value, strict=True)


OTHERS = {
    "sigmoid": (
        MLP([4, 5, 3], activation="sigmoid"),
        r"layers\[1\] is fastnn.Relu\(\) there, but fastnn.Sig.*\(\) here",
    ),
    "shorter": (MLP([4, 5]), r"layers\[1\] is fastnn.Relu\(\) there, but missing here"),
    "longer": (MLP([4, 5, 3, 3]), r"layers\[3\] is missing there, but fastnn.Relu\(\) here"),
    "loss": (
        MLP([4, 5, 3], loss="identity"),
        r"the loss is fastnn.Soft.*\) there, but fastnn.Identity.*\(\) here",
    ),
    "eps": (MLP([4, 5, 3], loss=SoftmaxWithLoss(eps=0)), r"the loss is .*\(eps=1e-07, .* but .*\(eps=0.0, "),
    "shape": (MLP([4, 6, 3]), r"W1 has shape \(4, 5\), but the network's has shape \(4, 6\)"),
}


@pytest.mark.parametrize("network, match", OTHERS.values(), ids=OTHERS)
def test_the_file_of_another_network_is_refused(tmp_path, network, match):
    NETWORK.save(tmp_path / "net.npz")
    assert_refused(network, tmp_path / "net.npz", match)


def test_numbers_are_widened_and_never_narrowed(tmp_path):
    narrow, wide = MLP([4, 3], seed=0, dtype="f4"), MLP([4, 3], seed=1)
    wide.save(tmp_path / "wide.npz")
    narrow.save(tmp_path / "narrow.npz")
    match = "W1 is of dtype float64, but the network's of dtype float32"
    assert_refused(narrow, tmp_path / "wide.npz", match, TypeError)
    wide.load(tmp_path / "narrow.npz")
    np.testing.assert_array_equal(wide.params[0], narrow.params[0])


class Mine:
    """A layer of somebody's own."""

    def __init__(self):
        self.params, self.grads = [np.ones(3)], [np.zeros(3)]

    def forward(self, x):
        return x * self.params[0]


class MyLoss(fastnn.IdentityWithLoss):
    pass


class MyNetwork(MLP):
    pass


def test_layers_of_somebodys_own(tmp_path):
    relu = type("Relu", (Mine,), {})
    for network, match in (
        (Sequential([Mine()]), r"layers\[0\] is Mine, which is none of fastnn's"),
        (Sequential([Relu(), relu()]), r"layers\[1\] is Relu, which is none of fastnn's"),
        (MLP([4, 3], loss=MyLoss()), "the loss is MyLoss, which is none of fastnn's"),
        (MyNetwork([4, 3]), "its network is a MyNetwork, which is none of fastnn's"),
    ):
        network.save(tmp_path / "net.npz")
        with pytest.raises(
            ValueError, match=f"net.npz cannot be read: {match}: build the network in code and call its"
        ):
            fastnn.load(tmp_path / "net.npz")
        saved = [p.copy() for p in network.params]
        for p in network.params:
            p[...] = 7
        network.load(tmp_path / "net.npz")
        for p, value in zip(network.params, saved, strict=True):
            np.testing.assert_array_equal(p, value)
    Sequential([Mine()]).save(tmp_path / "net.npz")
    assert_refused(Sequential([relu()]), tmp_path / "net.npz", r"layers\[0\] is Mine\(.*\) there, but Relu\(.*\) here")


def test_a_file_of_the_first_version_is_loaded_into_a_network():
    """Made when files held nothing but the arrays, of ``MLP([4, 5, 3], activation="sigmoid", seed=1)``."""
    path = Path(__file__).parent / "first_version.npz"
    for seed in (1, 2):
        network = MLP([4, 5, 3], activation="sigmoid", seed=seed)
        network.load(path)
        for p, saved in zip(network.params, MLP([4, 5, 3], seed=1).params, strict=True):
            np.testing.assert_array_equal(p, saved)
    assert_refused(MLP([4, 5]), path, "is of another network: it has arrays W2, b2 that are none of the network's")
    assert_refused(MLP([4, 5, 3, 3]), path, "cannot be read: it has no array W3")
    with pytest.raises(ValueError, match="first_version.npz does not say of what network its arrays are: build"):
        fastnn.load(path)


def test_pickles_of_the_first_version_can_be_saved(tmp_path):
    was = pickle.loads((Path(__file__).parent / "first_version.pkl").read_bytes())
    found = [network for network in was.values() if isinstance(network, Sequential)]
    assert found
    for network in found:
        network.save(tmp_path / "net.npz")
        assert_same(network, fastnn.load(tmp_path / "net.npz"))


# ---------------------------------------------------------------- files of somebody else's


def write(path, architecture, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        text = architecture if isinstance(architecture, str | bytes) else json.dumps(architecture)
        file.writestr("architecture.json", text)


def part(layer="fastnn.Affine", params=("W", "b"), **settings):
    return {"layer": layer, "params": params, "settings": settings}


def of(*chain, loss=None, **changed):
    loss = loss or part("fastnn.SoftmaxWithLoss", ())
    return {"format": 1, "network": "fastnn.Sequential", "layers": chain, "loss": loss} | changed


BAD = {
    "no JSON": ("{", "Expecting"),
    "no text": (b"\xff\xfe", "codec"),
    "no dictionary": ("[]", "its architecture is damaged"),
    "deep": ("[" * 100_000, "recursion"),
    "long": (json.dumps("x" * (1 << 23)), "architecture.json unpacks to 8388610 bytes, more than 4194304"),
    "no format": (of(part(), format=None), "its architecture is damaged"),
    "format 2": (of(part(), format=2), "its format is 2, and this version of fastnn knows those up to 1"),
    "no layers": (of(layers=None), "its architecture is damaged"),
    "more keys": (of(part(), more=1), "its architecture is damaged"),
    "no part": (of("fastnn.Relu"), "its architecture is damaged"),
    "no name": (of(part(["fastnn.Affine"])), "its architecture is damaged"),
    "no names": (of(part(params=[1, 2])), "its architecture is damaged"),
    "no loss": (of(part()) | {"loss": None}, "its architecture is damaged"),
    "a module": (of(part("os.system", ["W"])), r"layers\[0\] is os.system, which is none of fastnn's"),
    "a function": (of(part("fastnn.load", ["W"])), r"layers\[0\] is fastnn.load, which is none of fastnn's"),
    "no network": (of(part(), network="fastnn.load"), "its network is a fastnn.load, which is none"),
    "too few": (of(part(params=["W"])), r"layers\[0\] is fastnn.Affine\(W\), but takes 2 parameters"),
    "too many": (of(part("fastnn.Relu")), r"layers\[0\] is fastnn.Relu\(W, b\), but takes 0 parameters"),
    "missing": (of(part(params=["W", "W9"])), "it has no array W9"),
    "no floats": (of(part(params=["W", "i"])), "i is of dtype int64, but parameters are floats"),
    "a setting": (of(part(depth=3)), r"layers\[0\] is fastnn.Affine\(W, b, depth=3\): .*unexpected keyword"),
    "eps": (of(part(), loss=part("fastnn.SoftmaxWithLoss", (), eps="1")), "the loss is .*: eps must be a number"),
    "infinite eps": (of(part(), loss=part("fastnn.SoftmaxWithLoss", (), eps=float("inf"))), "the loss is .*: eps must"),
    "probabilities": (
        of(part(), loss=part("fastnn.SoftmaxWithLoss", (), from_logits=False)),
        "loss takes probabilities",
    ),
}


@pytest.mark.parametrize("architecture, match", BAD.values(), ids=BAD)
def test_a_bad_architecture_is_refused(tmp_path, architecture, match):
    path = tmp_path / "net.npz"
    write(path, architecture, W=np.ones((2, 3)), b=np.ones(3), i=np.ones(3, np.int64))
    with pytest.raises(ValueError, match=f"net.npz cannot be read: .*{match}"):
        fastnn.load(path)
    assert_refused(MLP([2, 3]), path, "net.npz")


def test_a_good_architecture_written_by_hand(tmp_path):
    write(tmp_path / "net.npz", of(part(), part("fastnn.Tanh", ())), W=np.ones((2, 3)), b=np.ones(3))
    np.testing.assert_array_equal(fastnn.load(tmp_path / "net.npz").predict(np.zeros(2)), fastnn.tanh(np.ones(3)))


def test_no_change_of_a_file_goes_unnoticed(tmp_path):
    path = tmp_path / "net.npz"
    NETWORK.save(path)
    content = path.read_bytes()
    for length in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="net.npz cannot be read"):
            fastnn.load(path)
    for position in range(0, len(content), 7):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :])
        try:
            assert_same(NETWORK, fastnn.load(path))  # a byte that nothing depends on, such as a date
        except ValueError as error:
            assert "net.npz" in str(error)
    with pytest.raises(FileNotFoundError):
        fastnn.load(tmp_path / "no.npz")


# ---------------------------------------------------------------- what is written over


@posix
def test_a_symbolic_link_is_written_through(tmp_path, path):
    (tmp_path / "folder").mkdir()
    first, second = tmp_path / "folder" / "first", tmp_path / "second"
    first.symlink_to("../net.npz")
    second.symlink_to(first)
    NETWORK.save(second)
    assert first.is_symlink() and second.is_symlink() and not path.is_symlink()
    assert_saved(path)
    assert os.listdir(tmp_path / "folder") == ["first"]


@posix
def test_a_link_to_nothing_yet_is_written_through(tmp_path):
    (tmp_path / "link").symlink_to("new.npz")
    NETWORK.save(tmp_path / "link")
    assert sorted(os.listdir(tmp_path)) == ["link", "new.npz"] and (tmp_path / "link").is_symlink()
    assert_saved(tmp_path / "new.npz")


@posix
def test_hard_links_stay_one_file(tmp_path, path):
    other = tmp_path / "other"
    os.link(path, other)
    NETWORK.save(path)
    assert path.samefile(other) and sorted(os.listdir(tmp_path)) == ["net.npz", "other"]
    assert_saved(other)


@posix
@pytest.mark.parametrize("mode", [0o660, 0o600, 0o606, 0o744])
def test_modes_are_kept(path, mode):
    path.chmod(mode)
    NETWORK.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert_saved(path)


@posix
def test_a_new_file_has_the_mode_of_any_other(tmp_path):
    (tmp_path / "other").touch()
    NETWORK.save(tmp_path / "net.npz")
    assert (tmp_path / "net.npz").stat().st_mode == (tmp_path / "other").stat().st_mode


@posix
def test_a_file_is_new_and_of_now(path):
    os.utime(path, (1, 1))
    before = path.stat()
    with path.open("rb") as file:
        NETWORK.save(path)
        assert os.fstat(file.fileno()).st_size == before.st_size  # who reads it goes on with the old one
    assert path.stat().st_ino != before.st_ino and path.stat().st_mtime > 1


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="Linux")
def test_attributes_are_kept(path):
    try:
        os.setxattr(path, "user.of", b"somebody")
    except OSError:
        pytest.skip("a file system without them")
    NETWORK.save(path)
    assert os.getxattr(path, "user.of") == b"somebody"


@posix
@pytest.mark.skipif(getattr(os, "geteuid", bool)() != 0, reason="only root gives files away")
def test_the_owner_is_kept(path):
    os.chown(path, 1234, 5678)
    NETWORK.save(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 5678)
    assert_saved(path)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path))  # which may not be long


def make_device(path):
    """As /dev/null, which itself is not to be put at risk."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")


SPECIAL = {
    "pipe": (lambda path: os.mkfifo(path), stat.S_ISFIFO),
    "socket": (make_socket, stat.S_ISSOCK),
    "device": (make_device, stat.S_ISCHR),
}


@posix
@pytest.mark.parametrize("make, kind", SPECIAL.values(), ids=SPECIAL)
def test_what_is_no_file_stays(tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "special")
    with pytest.raises(ValueError, match="special cannot be written: it is not a regular file"):
        NETWORK.save(tmp_path / "special")
    assert kind((tmp_path / "special").stat().st_mode) and os.listdir(tmp_path) == ["special"]


@posix
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path):
    name = "n" * os.pathconf(tmp_path, "PC_NAME_MAX")
    for _ in range(2):
        NETWORK.save(tmp_path / name)
        assert os.listdir(tmp_path) == [name]
    assert_saved(tmp_path / name)
    with pytest.raises(OSError, match="too long"):
        NETWORK.save(tmp_path / f"{name}n")


# ---------------------------------------------------------------- where nothing can be replaced


@pytest.mark.parametrize("code", [errno.EBUSY, errno.EPERM, errno.EACCES, errno.EROFS], ids=errno.errorcode.get)
def test_a_file_that_cannot_be_replaced_is_written_in_place(tmp_path, path, monkeypatch, code):
    """A mounted file, as in a container; one of somebody else's in a folder of theirs."""
    before = path.stat()
    monkeypatch.setattr(os, "replace", refuses_to_replace(code))
    NETWORK.save(path)
    assert path.stat().st_ino == before.st_ino and os.listdir(tmp_path) == ["net.npz"]
    assert_saved(path)


def test_errors_name_the_file_that_was_asked_for(tmp_path, path, monkeypatch):
    content = path.read_bytes()
    with pytest.raises(FileNotFoundError) as missing:
        NETWORK.save(tmp_path / "no" / "net.npz")
    with pytest.raises(IsADirectoryError) as folder:
        NETWORK.save(tmp_path)
    monkeypatch.setattr(os, "replace", refuses_to_replace(errno.ENOSPC))
    with pytest.raises(OSError) as full:
        NETWORK.save(path)
    for error, name in ((missing, tmp_path / "no" / "net.npz"), (folder, tmp_path), (full, path)):
        assert error.value.filename == str(name) and error.value.filename2 is None
        assert str(error.value).endswith(f": {str(name)!r}")
    assert full.value.errno == errno.ENOSPC
    assert path.read_bytes() == content and os.listdir(tmp_path) == ["net.npz"]


AS_NOBODY = """
import encodings.cp437, os, sys  # later others may not read what root's Python is made of
from fastnn import MLP

network = MLP([4, 5, 3], seed=1)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for name in sys.argv[1:]:
    try:
        network.save(name)
    except OSError as error:
        print(type(error).__name__, error.filename)
"""


@posix
def test_what_may_not_be_written(tmp_path):
    with tempfile.TemporaryDirectory() as name:  # others may not look into tmp_path
        os.chmod(name, 0o755)
        fixed, changing, new = (os.path.join(name, part) for part in ("fixed", "changing", "new"))
        for each, mode in ((fixed, 0o444), (changing, 0o666)):
            MLP([4, 50, 3]).save(each)
            os.chmod(each, mode)
        before, inode = os.stat(fixed), os.stat(changing).st_ino
        os.chmod(name, 0o555)
        ended = run(sys.executable, "-P", "-c", AS_NOBODY, fixed, changing, new)
        os.chmod(name, 0o755)
        assert ended.stdout.splitlines() == [f"PermissionError {fixed}", f"PermissionError {new}"], ended.stderr
        after = os.stat(fixed)
        assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
        assert os.stat(changing).st_ino == inode and sorted(os.listdir(name)) == ["changing", "fixed"]
        assert_saved(changing)
