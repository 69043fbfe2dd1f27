"""Random sequences of calls on a few open files and descriptors, the same on plain files and in
CAPIO_DIR: every way to open one, every method, and the calls of os on its descriptor in between."""

from __future__ import annotations

import array
import contextlib
import fcntl
import gc
import io
import mmap
import os
import pathlib
import random
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from twins import Twin

STEPS = 80
SLOTS = 3
# Less than any buffer holds, so that nothing is written before it is flushed.
SIZES = (0, 1, 3, 20, 100, 300)
NAMES = ("a", "b", "c", "d/x", "d/y", "d", "absent/z")
FLAGS = (
    os.O_RDONLY,
    os.O_WRONLY | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
)


def _without_numbers(text: str) -> str:
    """Of descriptors, objects and temporary files."""
    return re.sub(r"((?:name|fd)=|directory: |0x|/tmp)\w+", r"\1N", text)


class Sequence:
    """The calls depend on the seed alone, not on what they give."""

    def __init__(self, root: str, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.files: list[Any] = [None] * SLOTS
        self.descriptors: list[int | None] = [None] * SLOTS

    def one_of(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def run(self) -> list[Any]:
        os.mkdir(self.root + "/d")
        for name in ("a", "d/x"):
            pathlib.Path(self.root, name).write_bytes(
                b"line one\nline two \xc3\xa9\r\nthird\n" * self.one_of(1, 5, 60)
            )
        seen = [self.step() for _ in range(STEPS)]
        for slot in range(SLOTS):
            seen.append(self.seen("close", lambda slot=slot: self._put(slot, None)))
            self._close_descriptor(slot)
        return seen

    def step(self) -> Any:
        slot = self.random.randrange(SLOTS)
        kind = self.random.random()
        if kind < 0.1 or (kind < 0.7 and self.files[slot] is None):
            name, call = self.opening()
            return self.seen(f"{slot} = {name}", lambda: self._put(slot, call))
        if kind < 0.7:
            name, call = self.file_call(slot)
        elif kind < 0.9:
            name, call = self.descriptor_call(slot)
        else:
            name, call = self.path_call()
        return self.seen(f"{slot}.{name}", call)

    def seen(self, name: str, call: Callable[[], Any]) -> Any:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                outcome: Any = call()
            except Exception as error:  # noqa: BLE001 - it is what is compared
                # CPython names the class in messages about attributes.
                text = "" if isinstance(error, AttributeError) else str(error)
                name_of = getattr(error, "filename", None)
                outcome = (
                    type(error),
                    _without_numbers(text),
                    None if isinstance(name_of, int) else name_of,
                )
            gc.collect(0)
        if isinstance(outcome, str):
            outcome = _without_numbers(outcome)
        return name, outcome, [_without_numbers(str(warning.message)) for warning in caught]

    def _put(self, slot: int, make: Callable[[], Any] | None) -> Any:
        """Drops what is in the slot."""
        self.files[slot] = None
        if make is not None:
            self.files[slot] = make()
            return isinstance(self.files[slot], io.TextIOBase)
        return None

    def _close_descriptor(self, slot: int) -> None:
        fd, self.descriptors[slot] = self.descriptors[slot], None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def _keep(self, slot: int, fd: int) -> None:
        self._close_descriptor(slot)
        self.descriptors[slot] = fd

    # ---- what is drawn ----

    def path(self) -> Any:
        path = os.path.join(self.root, self.one_of(*NAMES))
        return self.one_of(str, str, os.fsencode, pathlib.Path)(path)

    def shown(self, path: Any) -> str:
        return f"{type(path).__name__} {os.path.relpath(os.fsdecode(path), self.root)}"

    def data(self, text: bool) -> Any:
        pieces = ("ab", "line\n", "x\r\n", "\r", "0123456789", "\N{EURO SIGN}")
        drawn = "".join(self.random.choices(pieces, k=self.one_of(*SIZES)))[: self.one_of(*SIZES)]
        if text:
            return drawn
        encoded = drawn.encode()
        return self.one_of(
            encoded, bytearray(encoded), array.array("h", encoded[: len(encoded) // 2 * 2])
        )

    def opening(self) -> tuple[str, Callable[[], Any]]:
        path, how = self.path(), self.random.randrange(8)
        mode = self.one_of("r", "w", "a", "x", "r+", "w+", "a+", "r+")
        options: dict[str, Any] = {"buffering": self.one_of(-1, -1, 0, 1, 16, 5000)}
        if how < 4:
            binary = self.one_of("", "b")
            if not binary:
                options["encoding"] = self.one_of(None, "utf-8", "latin-1", "utf-16")
                options["newline"] = self.one_of(None, "", "\n", "\r\n")
            text = f"open({self.shown(path)}, {mode + binary}, {options})"
            return text, lambda: open(path, mode + binary, **options)
        if how == 4:
            return f"FileIO({self.shown(path)}, {mode})", lambda: io.FileIO(path, mode)
        if how == 5:
            kind = self.one_of(io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
            text = f"{kind.__name__}(FileIO({self.shown(path)}, {mode}))"
            return text, lambda: kind(io.FileIO(path, mode), 16)
        if how == 6:
            temporary = self.one_of(tempfile.TemporaryFile, tempfile.NamedTemporaryFile)
            return temporary.__name__, lambda: temporary(dir=self.root)
        flags, around = self.one_of(*FLAGS), self.one_of("rb", "wb", "r+b", "r", "a")
        unbuffered = 0 if "b" in around else -1

        def around_descriptor() -> Any:
            fd = os.open(path, flags, 0o644)
            try:
                return open(fd, around, unbuffered)
            except OSError:
                os.close(fd)
                raise

        return f"fdopen({self.shown(path)}, {flags}, {around})", around_descriptor

    def file_call(self, slot: int) -> tuple[str, Callable[[], Any]]:
        file = self.files[slot]
        data = self.data(isinstance(file, io.TextIOBase) != (self.random.random() < 0.03))
        size = self.one_of(-1, 0, 1, 5, 100, 2000, None)
        offset, whence = self.one_of(0, 1, 5, 200, -1, -5), self.one_of(0, 0, 0, 1, 2, 9)
        other = self.random.randrange(SLOTS)
        buffer = bytearray(self.one_of(0, 1, 10, 100))

        def detach() -> None:
            self.files[slot] = file.detach()

        def mapped() -> bytes:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                return view[:50]

        def copied() -> Any:
            into: Any = io.StringIO() if isinstance(file, io.TextIOBase) else io.BytesIO()
            shutil.copyfileobj(file, into, self.one_of(3, 100))
            return into.getvalue()

        def by_its_descriptor() -> Any:
            with open(file.fileno(), "r+b", 0, closefd=False) as again:
                return again.read(5), again.write(b"again")

        name = self.one_of(
            "read", "read", "readline", "readlines", "write", "write", "write", "writelines", "seek",
            "seek", "tell", "truncate", "flush", "flush", "readinto", "readinto1", "read1", "peek",
            "readall", "next", "list", "close", "detach", "size", "dup", "mapped", "copied", "again",
            "lock", "repr", "reconfigure", "raw.read", "raw.write", "raw.tell", "buffer.write",
            "buffer.read", "drop", "print", "exit", "kind",
        )  # fmt: skip
        calls: dict[str, Callable[[], Any]] = {
            "write": lambda: file.write(data),
            "writelines": lambda: file.writelines([data, data[:3]]),
            "seek": lambda: file.seek(offset, whence),
            "truncate": lambda: file.truncate(size),
            "readinto": lambda: (file.readinto(buffer), bytes(buffer)),
            "readinto1": lambda: (file.readinto1(buffer), bytes(buffer)),
            "next": lambda: next(file),
            "list": lambda: list(file),
            "detach": detach,
            "size": lambda: os.fstat(file.fileno()).st_size,
            "dup": lambda: self._keep(other, os.dup(file.fileno())),
            "mapped": mapped,
            "copied": copied,
            "again": by_its_descriptor,
            "lock": lambda: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB),
            "repr": lambda: repr(file),
            "reconfigure": lambda: file.reconfigure(newline="\n"),
            "raw.read": lambda: file.raw.read(-1 if size is None else size),
            "raw.write": lambda: file.raw.write(b"raw"),
            "raw.tell": lambda: file.raw.tell(),
            "buffer.write": lambda: file.buffer.write(b"buffer"),
            "buffer.read": lambda: file.buffer.read(size),
            "drop": lambda: self._put(slot, None),
            "print": lambda: print("printed", file=file),
            "exit": lambda: file.__exit__(None, None, None),
            "kind": lambda: (file.readable(), file.writable(), file.seekable(), file.mode),
        }
        if name in ("read", "readline", "readlines", "read1", "peek") and size is not None:
            return f"{name}({size})", lambda: getattr(file, name)(size)
        return f"{name}({size}, {offset}, {whence})", calls.get(name, lambda: getattr(file, name)())

    def descriptor_call(self, slot: int) -> tuple[str, Callable[[], Any]]:
        fd = self.descriptors[slot]
        if fd is None:
            path, flags = self.path(), self.one_of(*FLAGS)
            return f"os.open({self.shown(path)}, {flags})", lambda: self._keep(
                slot, os.open(path, flags, 0o644)
            )
        size, offset = self.one_of(0, 1, 5, 100), self.one_of(0, 1, 50, 500, -1)
        data = bytes(self.data(False))
        target = self.descriptors[self.random.randrange(SLOTS)]
        whence, mode = self.one_of(0, 1, 2), self.one_of("r", "rb", "wb", "r+b", "a")
        other = self.random.randrange(SLOTS)

        def scattered() -> Any:
            buffers = [bytearray(3), bytearray(5)]
            return os.readv(fd, buffers), os.preadv(fd, buffers, 2), buffers

        def given_away() -> Any:
            self.descriptors[slot] = None
            return self._put(other, lambda: os.fdopen(fd, mode))

        calls: dict[str, Callable[[], Any]] = {
            "read": lambda: os.read(fd, size),
            "write": lambda: os.write(fd, data),
            "pread": lambda: os.pread(fd, size, offset),
            "pwrite": lambda: os.pwrite(fd, data, offset),
            "readv": scattered,
            "writev": lambda: os.writev(fd, [data, b"--"]),
            "pwritev": lambda: os.pwritev(fd, [data, b"++"], offset),
            "lseek": lambda: os.lseek(fd, offset, whence),
            "ftruncate": lambda: os.ftruncate(fd, offset),
            "size": lambda: os.fstat(fd).st_size,
            "close": lambda: self._close_descriptor(slot),
            "fdopen": given_away,
            "dup2": lambda: None if target is None else os.dup2(fd, target) == target,
            "sendfile": lambda: None if target is None else os.sendfile(target, fd, offset, size),
            "copy": lambda: None if target is None else os.copy_file_range(fd, target, size),
            "allocate": lambda: os.posix_fallocate(fd, offset, 50),
            "sync": lambda: (os.fsync(fd), os.fdatasync(fd)),
            "access": lambda: fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND),
        }
        name = self.one_of(*calls)
        return f"{name}({size}, {offset}, {whence})", calls[name]

    def path_call(self) -> tuple[str, Callable[[], Any]]:
        path, other = self.path(), self.path()
        calls: dict[str, Callable[[], Any]] = {
            "rename": lambda: os.rename(path, other),
            "unlink": lambda: os.unlink(path),
            "link": lambda: os.link(path, other),
            "truncate": lambda: os.truncate(path, 5),
            "size": lambda: None if os.path.isdir(path) else os.path.getsize(path),
            "copy": lambda: shutil.copyfile(path, other),
            "content": lambda: pathlib.Path(os.fsdecode(path)).read_bytes(),
            "list": lambda: len(os.listdir(self.root + "/d")),
        }
        name = self.one_of(*calls)
        return f"{name}({self.shown(path)}, {self.shown(other)})", calls[name]


# Of what is dropped after its descriptor was closed by its number.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(60))
def test_sequence(twin: Twin, seed: int) -> None:
    twin.same(lambda root: Sequence(root, seed).run(), trees=False)
