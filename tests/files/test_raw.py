"""io.FileIO, and file objects made around descriptors."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest

from twins import Twin


def raw_file(root: str) -> Any:
    path = root + "/f"
    with io.FileIO(path, "w") as file:
        said = [repr(file), file.mode, file.closefd, file.write(b"some bytes"), file.tell()]
        said += [file.readable(), file.writable(), file.seekable(), file.isatty()]
    said.append(repr(file))
    with io.FileIO(os.fsencode(path), "r+") as file:
        said += [
            file.read(4),
            file.readall(),
            file.seek(2),
            file.truncate(),
            file.readinto(bytearray(3)),
        ]
    with io.BufferedReader(io.FileIO(Path(path))) as buffered:
        said.append(buffered.read())
    return said


def derived_inside(root: str) -> Any:
    class Loud(io.FileIO):
        def write(self, data: Any, /) -> int:
            return super().write(bytes(data).upper())

    class Mixed(Loud, io.RawIOBase):
        pass

    with Mixed(root + "/f", "w") as file:
        file.write(b"loud")
        said = [isinstance(file, (Loud, io.FileIO)), isinstance(file, io.RawIOBase)]
    with io.FileIO(root + "/f") as plain:
        said += [isinstance(plain, Loud), isinstance(plain, io.FileIO), plain.read()]
    return [*said, issubclass(Loud, io.FileIO), issubclass(io.BytesIO, io.FileIO)]


def given_as_a_path(root: str) -> Any:
    """A raw file is named by what it was made of; so are its errors."""
    with io.FileIO(Path(root, "f"), "w") as file:
        said = [file.name, repr(file)]
    with io.FileIO(Path(root, "f")) as file:
        said += [file.name, repr(file)]
    for path, mode in ((Path(root, "absent"), "r"), (Path(root, "f"), "x"), (Path(root), "w")):
        with pytest.raises(OSError) as caught:
            io.FileIO(path, mode)
        said += [str(caught.value), caught.value.filename]
    return said


def dropped(root: str) -> Any:
    """One warning each."""
    io.FileIO(root + "/f", "w")
    io.FileIO(os.open(root + "/f", os.O_RDWR), "r+")
    open(root + "/f", "r+b", 0)
    open(root + "/f", "wb")
    os.fdopen(os.open(root + "/f", os.O_WRONLY), "wb")


def of_a_descriptor_that_can_do_more(root: str) -> Any:
    fd = os.open(root + "/f", os.O_RDWR | os.O_CREAT)
    said = [os.write(fd, b"some bytes"), os.lseek(fd, 0, os.SEEK_SET)]
    calls = ("write", b"x"), ("truncate", 0), ("read", 2), ("readall",), ("readinto", bytearray(2))
    for kind in (
        lambda mode: open(fd, mode, 0, closefd=False),
        lambda mode: io.FileIO(fd, mode, False),
    ):
        for mode in ("rb", "wb", "r+b"):
            file = kind(mode)
            for name, *arguments in calls:
                try:
                    said.append(getattr(file, name)(*arguments))
                except OSError as error:
                    said += [type(error), str(error)]
    with open(fd, "rb") as buffered, pytest.raises(io.UnsupportedOperation):
        buffered.raw.write(b"x")
    return said


def no_bytes(root: str) -> Any:
    said = []
    with open(root + "/f", "w+b", 0) as file:
        for call in (file.write, file.readinto):
            for given in ("text", 3, None, memoryview(b"abcd")[::2]):
                with pytest.raises((TypeError, BufferError)) as caught:
                    call(given)  # type: ignore[arg-type]
                said += [type(caught.value), str(caught.value)]
    return said


def bad_arguments(root: str) -> Any:
    said = []
    for arguments in (
        (root + "/f", "rw"), (root + "/f", 3), (root + "/f", "r", False), (root + "/absent",), (root,),
        (-1,), (1.5,), (root + "/a\0b",), (),
    ):  # fmt: skip
        try:
            io.FileIO(*arguments)
        except Exception as error:  # noqa: BLE001 - it is what is compared
            said.append((type(error), str(error).replace(root, "")))
    return said


def beside_a_descriptor(root: str) -> Any:
    """Whatever else is open, files that have nothing to do with it are what they always are."""
    fd = os.open(root + "/open", os.O_CREAT | os.O_WRONLY)
    try:
        said = bad_arguments(root)
        with io.FileIO(os.devnull) as null, open(root + "/f", "wb") as file:
            said += [type(null), null.name]
            for raw in (null, file.raw):
                with pytest.raises(TypeError, match="cannot pickle '.*' object"):
                    pickle.dumps(raw)
    finally:
        os.close(fd)
    return said


def around_descriptors(root: str) -> Any:
    path = root + "/f"
    with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY), "w") as text:
        said = [text.write("first\n"), text.name == text.fileno(), text.mode]
    with open(path, "ab", opener=lambda name, flags: os.open(name, flags)) as binary:
        said += [binary.write(b"second\n"), binary.name.replace(root, "")]
    fd = os.open(path, os.O_RDWR)
    with open(fd, "rb", closefd=False) as borrowed:
        said.append(borrowed.read())
    with io.FileIO(fd, "r+") as raw:
        said += [raw.seek(0), raw.read(5), raw.name == fd]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    return said


def temporary_files(root: str) -> Any:
    said: list[Any] = []
    for make in (
        tempfile.TemporaryFile,
        tempfile.NamedTemporaryFile,
        tempfile.SpooledTemporaryFile,
    ):
        with make(dir=root) as file:
            said += [file.write(b"temporary"), file.seek(0), file.read()]
    fd, name = tempfile.mkstemp(dir=root)
    said += [os.fstat(fd).st_mode, os.write(fd, b"x"), os.path.dirname(name) == root]
    os.close(fd)
    os.remove(name)
    unnamed = os.open(root, os.O_TMPFILE | os.O_RDWR, 0o640)
    said += [os.fstat(unnamed).st_mode & 0o777, os.write(unnamed, b"unnamed")]
    os.close(unnamed)
    return said, os.listdir(root)


@pytest.mark.parametrize(
    "operation",
    [
        raw_file, given_as_a_path, of_a_descriptor_that_can_do_more, dropped, no_bytes, derived_inside, bad_arguments,
        beside_a_descriptor, around_descriptors, temporary_files,
    ],
    ids=lambda operation: operation.__name__,
)  # fmt: skip
def test_same(twin: Twin, operation: Any) -> None:
    twin.same(operation)


@pytest.mark.parametrize(
    "writing",
    [
        "file = io.FileIO(path, 'w')",
        "file = os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY), 'wb', buffering=0)",
        "file = open(path, 'wb', buffering=0, opener=lambda name, flags: os.open(name, flags))",
        "file = io.FileIO(os.open(path, os.O_CREAT | os.O_WRONLY), 'w')",
    ],
    ids=["FileIO", "fdopen", "opener", "FileIO(fd)"],
)
@pytest.mark.parametrize(
    "reading",
    ["io.FileIO(path)", "open(os.open(path, os.O_RDONLY), 'rb', buffering=0)"],
    ids=["FileIO", "fdopen"],
)
def test_streams_and_the_close_counts(capio: Any, writing: str, reading: str) -> None:
    capio.pair(["f"], committed="on_close", mode="no_update")
    producer = capio.step(
        "producer",
        f"""
        import io, os, sys
        path = "f"
        {writing}
        file.write(b"early ")
        print("wrote", flush=True)
        sys.stdin.readline()
        file.write(b"late")
        file.close()
        print("closed", flush=True)
        sys.stdin.readline()
        """,
    )
    consumer = capio.step(
        "consumer",
        f"""
        import io, os
        path = "f"
        file = {reading}
        print(file.read(6), flush=True)
        print(file.read(), flush=True)
        """,
    )
    producer.expect("wrote")
    consumer.expect("b'early '")
    producer.send()
    producer.expect("closed")
    # The producer lives on: only its close can have told the consumer.
    consumer.expect("b'late'")
    consumer.finish()
    producer.send()
    producer.finish()
