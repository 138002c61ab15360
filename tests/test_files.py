"""Files of networks: what they hold, what they are written over, and what may go wrong."""

import errno
import os
import socket
import stat
import sys
import tempfile

import numpy as np
import pytest
from processes import run

from fastnn import MLP

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
import os, sys
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
