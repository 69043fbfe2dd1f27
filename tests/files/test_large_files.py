"""Large files: read as a whole, and written in small pieces."""

from __future__ import annotations

import array
import gc
import io
import itertools
import os
import pathlib
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pycapio import _pycapio, whole
from twins import Twin

RAW = io.FileIO  # as it is outside contexts
SIZE = whole.LEAST + 12345
PIECE = bytes(range(256)) * 4096 + b"abc"
CONTENT = (PIECE * (SIZE // len(PIECE) + 1))[:SIZE]


@contextmanager
def made(root: str, content: bytes = CONTENT) -> Iterator[str]:
    """Removed again, as it would be written to the disk."""
    path = os.path.join(root, "large")
    with open(path, "wb") as file:
        file.write(content)
    yield path
    os.remove(path)


def outcome(call: Any) -> Any:
    try:
        result = call()
    except (OSError, ValueError, TypeError) as error:
        return type(error), str(error)
    # Compared here: what failed would be shown.
    return (len(result), CONTENT.endswith(result)) if isinstance(result, bytes) else result


def test_it_is_what_large_files_are_read_by(twin: Twin) -> None:
    _, _, inside = twin.roots()
    with twin.context:
        with made(inside) as path, open(path, "rb") as large:
            assert {"readall", "readinto"} <= vars(large.raw).keys()
            assert type(large) is io.BufferedReader
            assert type(large.raw) is RAW
            large.read(100)  # who reads little pays nothing for it
            assert "readinto" not in vars(large.raw)
        with made(inside, b"small") as path, open(path, "rb") as small:
            assert "readall" not in vars(small.raw)


@pytest.mark.parametrize("buffering", [-1, 0, 100], ids=["default", "raw", "small"])
def test_the_whole_file_and_the_rest_of_it(twin: Twin, buffering: int) -> None:
    def operation(root: str) -> Any:
        found: list[Any] = []
        with made(root) as path:
            for start in (0, 1, 10_000, SIZE - whole.LEAST, SIZE - 10, SIZE, SIZE + 10):
                with open(path, "rb", buffering) as file:
                    file.seek(start)
                    found.append(outcome(file.read))
                    found.append((file.tell(), outcome(file.read)))
        with made(root) as path, open(path, "rb", buffering) as file:
            found += [outcome(lambda: file.read(5)), outcome(lambda: file.read(None)), file.tell()]
            file.seek(3)
            found += [outcome(lambda: file.read(-1)), file.tell()]
            found += [outcome(lambda: file.read("5")), outcome(lambda: file.read(5.0))]
        return [*found, outcome(file.read)]

    twin.same(operation, trees=False)


def test_the_raw_object_below_a_buffer(twin: Twin) -> None:
    def operation(root: str) -> Any:
        with made(root) as path, open(path, "rb") as file:
            raw = file.raw
            found = [outcome(raw.readall), outcome(raw.readall), outcome(raw.read)]
            raw.seek(0)
            found += [outcome(lambda: raw.read(7)), outcome(raw.read), outcome(lambda: raw.read(7))]
        return [*found, outcome(raw.readall), outcome(raw.read), outcome(lambda: raw.read(7))]

    twin.same(operation, trees=False)


@pytest.mark.parametrize("buffering", [-1, 0], ids=["default", "raw"])
def test_much_of_it_at_once(twin: Twin, buffering: int) -> None:
    def operation(root: str) -> Any:
        found: list[Any] = []
        with made(root) as path, open(path, "rb", buffering) as file:
            for start, size in itertools.product((0, 1, SIZE - 10), (whole.LEAST, SIZE, SIZE + 9)):
                file.seek(start)
                found.append(file.read(size) == CONTENT[start : start + size])
                file.seek(start)
                buffers: list[Any] = [bytearray(size), memoryview(bytearray(size))[1:]]
                buffers += [array.array("d", bytes(size // 8 * 8))]
                for buffer in buffers:
                    n = file.readinto(buffer)
                    found.append((n, bytes(memoryview(buffer).cast("B")[:100])))
                    file.seek(start)
            for wrong in (bytes(SIZE), "x" * SIZE, 5, None):
                found.append(outcome(lambda wrong=wrong: file.readinto(wrong)))
        return [*found, outcome(lambda: file.readinto(bytearray(9)))]

    twin.same(operation, trees=False)


def test_text_and_path(twin: Twin) -> None:
    text = ("a line of text, with an \N{LATIN SMALL LETTER E WITH ACUTE}\n" * (SIZE // 25))[:SIZE]

    def operation(root: str) -> Any:
        with made(root, text.encode()) as path:
            with open(path, encoding="utf-8") as file:
                first = file.readline()
                rest = file.read()
            whole_text = pathlib.Path(path).read_text(encoding="utf-8")
            whole_bytes = pathlib.Path(path).read_bytes()
        return first, first + rest == text, whole_text == text, whole_bytes == text.encode()

    assert twin.same(operation, trees=False)[1][1:] == (True, True, True)


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_file_that_nobody_holds_but_the_call(twin: Twin, buffering: int) -> None:
    def operation(root: str) -> Any:
        with made(root) as path:
            found = [outcome(open(path, "rb", buffering).read)]
            found.append(outcome(lambda: open(path, "rb", buffering).read()))
            found += [len(data) for data in iter(open(path, "rb", buffering).read, b"")]
            if buffering == 0:
                found.append(outcome(lambda: open(path, "rb", 0).readall()))
            else:
                found.append(outcome(lambda: open(path, "rb").raw.readall()))
                found.append(outcome(lambda: open(path, "rb").detach().read()))
        return found

    assert len(twin.same(operation, trees=False)[1][2:]) > 1


def test_a_file_that_has_changed_since_it_was_opened(twin: Twin) -> None:
    def operation(root: str) -> Any:
        found: list[Any] = []
        with made(root) as path, open(path, "rb") as file:
            os.truncate(path, whole.LEAST + 5)
            found.append(len(file.read()))
            file.seek(0)
            os.truncate(path, 5)
            found.append(file.read())
            file.seek(0)
            with open(path, "ab") as more:
                more.write(CONTENT)
            found.append(len(file.read()))
        return found

    twin.same(operation, trees=False)


@pytest.mark.parametrize("size", [0, 3, 6, 10])
def test_more_or_less_than_was_expected(size: int) -> None:
    file = io.BytesIO(b"abcdef")
    assert whole.read(size, file.readinto, file.read) == b"abcdef"


def test_an_interpreter_that_moves_bytes(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "_FILLS_BYTES", False)
    monkeypatch.setattr(_pycapio, "to_be_filled", lambda data: memoryview(bytearray(len(data))))
    _, _, inside = twin.roots()
    with twin.context, open(os.path.join(inside, "own"), "w+b") as file:
        file.write(CONTENT[:100_000])
        file.seek(0)
        assert file.read() == CONTENT[:100_000]


def test_what_others_call_by_ctypes_is_left_alone(twin: Twin) -> None:
    ctypes = pytest.importorskip("ctypes")
    _, _, inside = twin.roots()
    whole._maker.cache_clear()
    with twin.context, made(inside) as path, open(path, "rb") as file:
        assert file.read() == CONTENT
    assert ctypes.pythonapi.PyBytes_FromStringAndSize.argtypes is None


def test_an_interpreter_without_ctypes(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ctypes", None)
    whole._maker.cache_clear()
    _, _, inside = twin.roots()
    with twin.context, made(inside) as path, open(path, "rb") as file:
        assert file.read() == CONTENT
    assert whole._maker() is bytes
    whole._maker.cache_clear()


def test_it_keeps_no_file_open(twin: Twin) -> None:
    _, _, inside = twin.roots()
    gc.collect()
    gc.disable()
    try:
        with twin.context, made(inside) as path:
            for buffering in (-1, 0):
                file = open(path, "rb", buffering)
                raw = weakref.ref(file if buffering == 0 else file.raw)  # type: ignore[attr-defined]
                file.close()
                del file
                assert raw() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 3_000_000, SIZE])
def test_a_file_that_is_being_written_by_the_reader(twin: Twin, size: int) -> None:
    def operation(root: str) -> Any:
        found: list[Any] = []
        for buffering in (-1, 0):
            with open(os.path.join(root, "own"), "w+b", buffering) as file:
                file.write(CONTENT[:size])
                file.seek(0)
                found.append(file.read() == CONTENT[:size])
                file.seek(size // 2)
                found.append((len(file.read()), file.tell()))
            os.remove(os.path.join(root, "own"))
        return found

    twin.same(operation, trees=False)


@pytest.mark.parametrize("piece", [1, 100, 4096, 8192, 8193, 32768, 32769, 65536, 200_000])
def test_written_in_pieces(twin: Twin, piece: int) -> None:
    def operation(root: str) -> Any:
        path = os.path.join(root, "f")
        found: list[Any] = []
        for mode in ("wb", "ab", "xb", "w+b"):
            with open(path + mode[0], mode) as file:
                for at in range(0, min(400_000, 3000 * piece), piece):
                    file.write(CONTENT[at : at + piece])
                found.append(file.tell())
                file.flush()
                found.append(os.stat(path + mode[0]).st_size)
        return found

    twin.same(operation)
