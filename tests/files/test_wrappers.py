"""The low-level API: pycapio_open, and the file objects around its descriptors."""

from __future__ import annotations

import gc
import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pycapio
from pycapio.internals import (
    FILE_MODES,
    PyCapioBinaryIOWrapper,
    PyCAPIOException,
    PyCapioTextIOWrapper,
    pycapio_get_capio_dir,
    pycapio_init,
    pycapio_mkdir,
    pycapio_open,
    pycapio_teardown,
)
from twins import Twin


@pytest.fixture
def low(capio: Any) -> Iterator[Path]:
    """CAPIO_DIR of a session of the low-level API; nothing is patched."""
    pycapio_init(str(capio.dir), "writer", capio.name, await_server_timeout_seconds=60)
    try:
        yield capio.dir
    finally:
        pycapio_teardown(teardown_server=True)


def test_functions_need_a_session(low: Path) -> None:
    assert pycapio_get_capio_dir() == str(low)
    pycapio_teardown()
    for call in (
        pycapio_get_capio_dir,
        lambda: pycapio_open(low / "f", os.O_RDONLY),
        lambda: pycapio_mkdir(low / "d"),
    ):
        with pytest.raises(PyCAPIOException, match="pycapio_init"):
            call()
    pycapio_teardown()


def test_init_is_idempotent_and_changes_session_with_other_arguments(
    low: Path, capio: Any, tmp_path: Path
) -> None:
    pycapio_init(str(low), "writer", capio.name, await_server_timeout_seconds=60)
    fd = pycapio_open(low / "f", FILE_MODES.O_CREAT)
    os.close(fd)
    pycapio_init(str(low), "other", capio.name, await_server_timeout_seconds=60)
    assert pycapio_get_capio_dir() == str(low)


def test_create_without_an_access_mode_reads_and_writes(low: Path) -> None:
    fd = pycapio_open(str(low / "f"), FILE_MODES.O_CREAT)
    assert os.write(fd, b"both ways") == 9
    assert os.pread(fd, 9, 0) == b"both ways"
    os.close(fd)
    assert not (low / "f").exists(), "it is in the store, not in the directory"


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_flags_are_those_of_open(low: Path, kind: Any) -> None:
    path = kind(str(low / "f"))
    with pytest.raises(FileNotFoundError) as caught:
        pycapio_open(path, FILE_MODES.O_RDONLY)
    assert caught.value.filename == os.fspath(path)
    os.close(pycapio_open(path, FILE_MODES.O_CREAT | FILE_MODES.O_WRONLY, 0o640))
    with pytest.raises(FileExistsError):
        pycapio_open(path, os.O_CREAT | os.O_EXCL)
    fd = pycapio_open(path, FILE_MODES.O_WRONLY | FILE_MODES.O_APPEND)
    os.write(fd, b"one")
    os.lseek(fd, 0, 0)
    os.write(fd, b"two")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(fd, 1)
    os.close(fd)
    fd = pycapio_open(path, FILE_MODES.O_RDONLY)
    assert os.fstat(fd).st_mode & 0o777 == 0o640
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"x")
    assert os.read(fd, 100) == b"onetwo"
    os.close(fd)
    os.close(pycapio_open(path, FILE_MODES.O_RDWR | os.O_TRUNC))
    fd = pycapio_open(path, FILE_MODES.O_RDWR)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


def test_default_mode_is_that_of_open(low: Path) -> None:
    before = os.umask(0o027)
    try:
        fd = pycapio_open(low / "f", os.O_CREAT)
        pycapio_mkdir(low / "d")
    finally:
        os.umask(before)
    assert os.fstat(fd).st_mode & 0o777 == 0o640
    os.close(fd)
    assert os.stat(pycapio.resolve(low / "d")).st_mode & 0o777 == 0o750


def test_outside_is_refused(low: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not inside CAPIO_DIR"):
        pycapio_open(tmp_path / "f", os.O_CREAT)
    with pytest.raises(ValueError, match="not inside CAPIO_DIR"):
        pycapio_mkdir(tmp_path / "d")
    assert not (tmp_path / "f").exists()
    assert not (tmp_path / "d").exists()


def test_mkdir(low: Path) -> None:
    assert pycapio_mkdir(low / "d") == 0
    with pytest.raises(FileExistsError):
        pycapio_mkdir(str(low / "d"))
    with pytest.raises(FileNotFoundError):
        pycapio_mkdir(str(low / "no" / "d"))


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (os.O_CREAT | os.O_RDWR, io.BufferedRandom),
        (os.O_CREAT | os.O_WRONLY, io.BufferedWriter),
        (os.O_CREAT | os.O_WRONLY | os.O_APPEND, io.BufferedWriter),
        (os.O_RDONLY, io.BufferedReader),
    ],
)
def test_binary_wrapper_follows_the_access_mode(low: Path, flags: int, kind: Any) -> None:
    path = low / "f"
    with PyCapioBinaryIOWrapper(pycapio_open(path, os.O_CREAT)) as file:
        file.write(b"content")
    with PyCapioBinaryIOWrapper(pycapio_open(path, flags), chunk_size=100) as file:
        assert isinstance(file, kind)
        assert type(file).__module__ == "_io"
        assert file.writable() == (flags & os.O_ACCMODE != os.O_RDONLY)
        assert file.readable() == (flags & os.O_ACCMODE != os.O_WRONLY)
        if file.readable():
            assert file.read() == b"content"
        if file.writable():
            assert file.write(b"!") == 1
    assert file.closed
    fd = pycapio_open(path, os.O_RDONLY)
    content = os.read(fd, 100)
    os.close(fd)
    if kind is io.BufferedReader:
        assert content == b"content"
    elif flags & os.O_APPEND or kind is io.BufferedRandom:
        assert content == b"content!"
    else:
        assert content == b"!ontent"


def test_wrapper_owns_the_descriptor(low: Path) -> None:
    fd = pycapio_open(low / "f", os.O_CREAT)
    file = PyCapioBinaryIOWrapper(fd)
    assert isinstance(file, PyCapioBinaryIOWrapper)
    assert not isinstance(file, PyCapioTextIOWrapper)
    assert file.fileno() == fd
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_text_wrapper(low: Path) -> None:
    with PyCapioTextIOWrapper(pycapio_open(low / "f", os.O_CREAT), 64) as file:
        assert isinstance(file, PyCapioTextIOWrapper)
        assert type(file) is io.TextIOWrapper
        assert file.encoding == "utf-8"
        file.write("äöü\nsecond\n")
        file.seek(0)
        assert list(file) == ["äöü\n", "second\n"]


@pytest.mark.parametrize("wrapper", [PyCapioBinaryIOWrapper, PyCapioTextIOWrapper])
def test_dropped_wrapper_flushes_and_closes(low: Path, wrapper: Any) -> None:
    fd = pycapio_open(low / "f", os.O_CREAT)
    file = wrapper(fd)
    file.write("left" if wrapper is PyCapioTextIOWrapper else b"left")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del file
        gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    fd = pycapio_open(low / "f", os.O_RDONLY)
    assert os.read(fd, 10) == b"left"
    os.close(fd)


@pytest.mark.parametrize("wrapper", [PyCapioBinaryIOWrapper, PyCapioTextIOWrapper])
def test_wrapper_arguments(low: Path, wrapper: Any) -> None:
    for bad in ("3", None, 3.0):
        with pytest.raises(TypeError):
            wrapper(bad)
    with pytest.raises(OSError, match="Bad file descriptor"):
        wrapper(10**6)
    fd = pycapio_open(low / "f", os.O_CREAT)
    for size in (0, -5):
        with pytest.raises(ValueError, match="chunk_size"):
            wrapper(fd, size)
    os.fstat(fd)
    wrapper(fd=fd, chunk_size=1).close()


def test_wrapper_of_an_ordinary_descriptor(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "plain", os.O_CREAT | os.O_RDWR)
    with PyCapioBinaryIOWrapper(fd) as file:
        file.write(b"plain")
    assert (tmp_path / "plain").read_bytes() == b"plain"


def test_what_open_returns_is_an_instance(twin: Twin) -> None:
    inside = twin.roots()[2]
    with twin.context:
        with open(f"{inside}/f", "w") as text, open(f"{inside}/g", "wb") as binary:
            assert isinstance(text, PyCapioTextIOWrapper)
            assert isinstance(text.buffer, PyCapioBinaryIOWrapper)
            assert isinstance(binary, PyCapioBinaryIOWrapper)
            assert not isinstance(binary, PyCapioTextIOWrapper)
            assert type(text) is io.TextIOWrapper
            assert type(binary) is io.BufferedWriter
            assert isinstance(binary.raw, io.FileIO)
        with open(os.devnull) as ordinary:
            assert not isinstance(ordinary, PyCapioTextIOWrapper)


def test_reused_descriptor_number_is_not_mistaken(low: Path, tmp_path: Path) -> None:
    fd = pycapio_open(low / "f", os.O_CREAT)
    os.close(fd)  # unpatched: nobody told us
    other = os.open(tmp_path / "plain", os.O_CREAT | os.O_RDWR)
    assert other == fd, "the number is used again"
    with PyCapioBinaryIOWrapper(other) as file:
        assert not isinstance(file, PyCapioBinaryIOWrapper)
        file.write(b"plain")
    assert (tmp_path / "plain").read_bytes() == b"plain"
