"""Calls on descriptors do in CAPIO_DIR what they do elsewhere, and cost others nothing."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pycapio import CapioContext, descriptors
from twins import Twin


def _file(root: str, name: str = "file", data: bytes = b"0123456789") -> str:
    path = os.path.join(root, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def reading(root: str) -> Any:
    fd = os.open(_file(root), os.O_RDWR)
    one, two = bytearray(3), bytearray(20)
    seen = [os.read(fd, 2), os.lseek(fd, 0, os.SEEK_CUR), os.pread(fd, 4, 6), os.pread(fd, 4, 90)]
    seen += [os.readv(fd, [one, two]), bytes(one), bytes(two)]
    seen += [os.preadv(fd, [one, two], 5), bytes(one), bytes(two), os.read(fd, 5), os.read(fd, 0)]
    seen += [os.lseek(fd, -3, os.SEEK_END), os.read(fd, 9), os.fstat(fd), os.stat(fd).st_size]
    os.close(fd)
    return seen


def writing(root: str) -> Any:
    path = os.path.join(root, "new")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    seen = [os.write(fd, b"abc"), os.writev(fd, [b"def", bytearray(b"g"), memoryview(b"hi")])]
    seen += [os.pwrite(fd, b"XY", 1), os.pwritev(fd, [b"1", b"23"], 20), os.write(fd, b"")]
    seen += [os.lseek(fd, 0, os.SEEK_END), os.fstat(fd).st_size, os.pread(fd, 99, 0)]
    os.ftruncate(fd, 5)
    os.truncate(fd, 7)
    os.posix_fallocate(fd, 3, 9)
    os.fsync(fd)
    os.fdatasync(fd)
    os.fchmod(fd, 0o600)
    seen += [os.fstat(fd).st_mode, os.fstat(fd).st_size, os.fpathconf(fd, "PC_NAME_MAX") > 0]
    seen += [os.fstatvfs(fd).f_namemax > 0]
    os.close(fd)
    return seen


def appending(root: str) -> Any:
    fd = os.open(_file(root), os.O_WRONLY | os.O_APPEND)
    seen = [os.write(fd, b"end"), os.pwrite(fd, b"!", 0), os.lseek(fd, 0, os.SEEK_CUR)]
    os.close(fd)
    return seen


def duplicates(root: str) -> Any:
    path = _file(root)
    fd = os.open(path, os.O_RDWR)
    copy = os.dup(fd)
    other = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 200)
    seen = [os.read(fd, 2), os.read(copy, 2), os.read(other, 2), os.get_inheritable(copy)]
    seen += [other >= 200, os.write(copy, b"-"), os.lseek(fd, 0, os.SEEK_CUR)]
    third = os.open(_file(root, "third"), os.O_RDWR)
    seen += [os.dup2(copy, third) == third, os.get_inheritable(third), os.dup2(fd, fd) == fd]
    os.close(fd)
    seen += [os.write(third, b"+"), os.dup2(copy, other, inheritable=False) == other]
    os.close(copy)
    seen += [os.write(third, b"."), os.get_inheritable(other)]
    os.closerange(third, third + 1)
    os.close(other)
    try:
        os.fstat(third)
    except OSError as error:
        seen.append(error)
    try:
        os.dup2(third, 300)
    except OSError as error:
        seen.append(error)
    return seen


def around_objects(root: str) -> Any:
    """The numbers of file objects' descriptors are as good as those of os.open."""
    path = os.path.join(root, "object")
    seen: list[Any] = []
    with open(path, "wb") as file:
        file.write(b"one")
        file.flush()
        fd = file.fileno()
        seen += [os.pwrite(fd, b"three", 5), os.fstat(fd).st_size, file.tell()]
        os.ftruncate(fd, 4)
        copy = os.dup(fd)
        seen += [copy > fd, os.lseek(copy, 0, os.SEEK_END), file.tell()]
        os.close(copy)
    with open(path, "r+b", buffering=0) as raw:
        with open(raw.fileno(), "wb", closefd=False) as other:
            other.write(b"ONE")
        seen += [other.closed, raw.tell(), raw.read()]
        fd = os.dup(raw.fileno())
    with os.fdopen(fd, "r+") as text:
        seen += [text.seek(0), text.read(), os.write(text.fileno(), b"last")]
    closed = open(path, "rb+")
    os.close(closed.fileno())
    try:
        closed.close()
    except OSError as error:
        seen.append(error)
    return [*seen, closed.closed]


def maps(root: str) -> Any:
    path = _file(root)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as mapped:
        mapped[2:4] = b"::"
        mapped.flush()
        seen = [mapped[:], len(mapped), isinstance(mapped, mmap.mmap)]
    os.close(fd)

    class Counting(mmap.mmap):
        def count(self, byte: bytes) -> int:
            return self[:].count(byte)

    with open(path, "rb") as file, Counting(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        seen += [mapped.count(b":"), issubclass(Counting, mmap.mmap), isinstance(mapped, mmap.mmap)]
    with mmap.mmap(-1, 10) as mapped:
        seen += [len(mapped), mmap.mmap.__name__, mmap.mmap.__module__]
    try:
        mmap.mmap(fd, 0)
    except OSError as error:
        seen.append(error)
    return seen


def locks(root: str) -> Any:
    path = _file(root)
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    seen: list[Any] = []
    fcntl.flock(one, fcntl.LOCK_EX)
    try:
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        seen.append(error.errno == errno.EWOULDBLOCK)
    fcntl.flock(one, fcntl.LOCK_UN)
    fcntl.lockf(one, fcntl.LOCK_EX, 4, 2)
    code = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR)\n"
        "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 2)\n"
        "except OSError as error: print(error.errno)\n"
    )
    where = f"/proc/self/fd/{one}"  # the kernel's own file, wherever that lies
    os.set_inheritable(one, True)
    child = [sys.executable, "-c", code, where]
    seen.append(subprocess.run(child, capture_output=True, close_fds=False, check=True).stdout)
    os.lockf(one, os.F_ULOCK, 1)
    os.close(one)
    os.close(two)
    return seen


def copies(root: str) -> Any:
    """Every fast way to copy, within the root and from and to a file elsewhere."""
    seen: list[Any] = []
    outside = Path(root).parent.parent / f"outside-{os.path.basename(root)}"
    outside.write_bytes(b"from outside")
    try:
        for number, source in enumerate([_file(root, "source"), str(outside)]):
            for way in ("sendfile", "copy_file_range", "splice", "copyfile", "copyfileobj"):
                target = os.path.join(root, f"{way}{number}")
                if way == "copyfile":
                    seen.append(shutil.copyfile(source, target) == target)
                    continue
                with open(source, "rb") as read, open(target, "wb") as write:
                    if way == "copyfileobj":
                        shutil.copyfileobj(read, write)
                    elif way == "sendfile":
                        seen += [os.sendfile(write.fileno(), read.fileno(), None, 4)]
                        seen += [os.sendfile(write.fileno(), read.fileno(), 1, 100)]
                    elif way == "copy_file_range":
                        src, dst = read.fileno(), write.fileno()
                        seen += [os.copy_file_range(src, dst, 4), os.lseek(src, 0, os.SEEK_CUR)]
                        seen += [os.copy_file_range(src, dst, 100, offset_src=3, offset_dst=9)]
                        seen += [os.lseek(src, 0, os.SEEK_CUR), os.lseek(dst, 0, os.SEEK_CUR)]
                        seen += [os.copy_file_range(src, dst, 9, offset_src=100)]
                    elif hasattr(os, "splice"):
                        ours, theirs = os.pipe()
                        seen += [os.splice(read.fileno(), theirs, 5, offset_src=2)]
                        seen += [os.splice(ours, write.fileno(), 5, offset_dst=1)]
                        os.close(ours)
                        os.close(theirs)
                seen.append(Path(target).read_bytes())
        with open(_file(root, "back"), "rb") as read, open(outside, "r+b") as write:
            seen.append(os.copy_file_range(read.fileno(), write.fileno(), 5))
        seen.append(outside.read_bytes())
    finally:
        outside.unlink()
    return seen


def sockets(root: str) -> Any:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(_file(root), "rb") as file:
        sent = ours.sendfile(file, offset=2)
        fd = os.open(file.name, os.O_RDONLY)
        sent += os.sendfile(ours.fileno(), fd, 0, 3)
        os.close(fd)
        return sent, theirs.recv(100)


def bad_arguments(root: str) -> Any:
    path = _file(root)
    seen: list[Any] = []
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    calls: dict[str, list[tuple[Any, ...]]] = {
        "read": [("x", 1), (writer, 1), (reader, -1), (reader, "x"), (None, 1), (4.5, 1)],
        "pread": [(reader, 1, -1), (writer, 1, 0), (reader, 1, "x"), (reader, 1, 2**70)],
        "readv": [(reader, [b"x"]), (reader, 3), (writer, [bytearray(1)]), (reader, ["x"])],
        "preadv": [(reader, [bytearray(1)], -1), (reader, [bytearray(1)], 0, 2**40)],
        "write": [(writer, "text"), (reader, b"x"), (writer, None), ([], b"x")],
        "pwrite": [(writer, b"x", -1), (writer, "x", 0), (reader, b"x", 0), (writer, b"x", 2**70)],
        "writev": [(writer, ["x"]), (reader, [b"x"]), (writer, 5), (writer, [])],
        "pwritev": [(writer, [b"x"], -1), (reader, [b"x"], 0), (writer, [b"x"], 0, 2**40)],
        "lseek": [(reader, -1, 0), (reader, 0, 99), (reader, "x", 0), (reader, 2**70, 0)],
        "ftruncate": [(writer, -1), (reader, 1), (writer, "x"), (writer, 2**70)],
        "truncate": [(writer, -1), (reader, 1)],
        "posix_fallocate": [(reader, 0, 1), (writer, -1, 1), (writer, 0, 0), (writer, 0, -1)],
        "fstat": [("x",), (9999,), (-1,)],
        "fsync": [(9999,), ("x",)],
        "dup": [(9999,), ("x",)],
        "dup2": [(9999, writer), (writer, -1), ("x", writer)],
        "close": [(9999,), ("x",), (None,)],
        "closerange": [("x", 1)],
        "sendfile": [(reader, reader, 0, 1), (writer, 9999, 0, 1), (writer, reader, -1, 1)],
        "copy_file_range": [(writer, reader, 1), (reader, writer, -1), (reader, 9999, 1)],
    }
    for name, attempts in calls.items():
        for args in attempts:
            try:
                seen.append((name, getattr(os, name)(*args)))
            except (OSError, TypeError, ValueError, OverflowError, BufferError) as error:
                seen.append((name, error))
    seen.append(os.pread(reader, 100, 0))
    os.close(reader)
    os.close(writer)
    return seen


@pytest.mark.parametrize(
    "operation",
    [
        reading, writing, appending, duplicates, around_objects, maps, locks, copies, sockets,
        bad_arguments,
    ],
)  # fmt: skip
def test_same(twin: Twin, operation: Any) -> None:
    twin.same(operation)
    assert not [fd for fd in list(descriptors.table) if descriptors.find(fd)], "left in the table"


def test_numbers_reused_behind_our_back(twin: Twin) -> None:
    """C code closes a descriptor, and its number becomes another file's."""
    inside = twin.roots()[2]
    with twin.context:
        fd = os.open(os.path.join(inside, "closed"), os.O_CREAT | os.O_WRONLY)
        descriptors._fstat(fd)
        other = os.open("/dev/null", os.O_WRONLY)
        original = descriptors.table[fd]
        os.set_inheritable(other, False)
        subprocess.run(["true"], check=True)
    os.dup2(other, fd)  # not patched here: as C code does it
    os.close(other)
    with twin.context:
        assert os.write(fd, b"to the other") == 12
        assert fd not in descriptors.table and not original.holds()
        os.close(fd)
        assert os.path.getsize(os.path.join(inside, "closed")) == 0


def test_closed_while_in_use(twin: Twin) -> None:
    """A close by another thread frees nothing that a call still uses."""
    path = _file(twin.roots()[0])
    inside = os.path.join(twin.roots()[2], "file")
    with twin.context:
        shutil.copyfile(path, inside)
        fd = os.open(inside, os.O_WRONLY)
        entry = descriptors.find(fd)
        assert entry is not None
        with entry as handle:
            closer = threading.Thread(target=os.close, args=(fd,))
            closer.start()
            closer.join()
            assert entry._open and handle is not None
            with entry as second:
                assert second is None
        assert not entry._open


def test_proxies_pickle_in_and_out_of_a_context(twin: Twin) -> None:
    with twin.context:
        captured = [os.read, os.dup2, open, os.stat, os.scandir]
        inside = pickle.dumps(captured)
        assert all(one is two for one, two in zip(pickle.loads(inside), captured, strict=True))
    assert captured[0] is not os.read
    originals = [os.read, os.dup2, open, os.stat, os.scandir]
    assert pickle.loads(inside) == originals
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(captured, protocol)) == originals
    fd = os.open(os.devnull, os.O_RDONLY)
    assert captured[0](fd, 5) == b""
    os.close(fd)


def test_nothing_is_left_patched(original_functions: None, tmp_path: Path) -> None:
    before = (fcntl.fcntl, mmap.mmap, os.fstat, os.write, os.sendfile)
    context = CapioContext(capio_dir=str(tmp_path), workflow_name=f"fds-{os.getpid()}")
    with context:
        assert fcntl.fcntl is not before[0] and mmap.mmap is not before[1]
    assert (fcntl.fcntl, mmap.mmap, os.fstat, os.write, os.sendfile) == before
    context.session.close(wait_seconds=10)
