"""Listings that are longer than what the library hands out at once."""

from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from typing import Any

import pytest

from pycapio import _pycapio
from workflows import Workflow

AT_ONCE = 16
MANY = 2 * AT_ONCE + 10
# Undecodable bytes, and characters of one to four bytes, side by side.
ODD = [
    b"\xe9",
    b"\xc3",
    b"\xc3\xa9",
    b"\xa9",
    b"line\nbreak",
    b"\xf0\x9f\x90\x8d",
    b" ",
    b"-" * 255,
]


@pytest.fixture
def folder(capio: Workflow, tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    # Where the order of making is known to the last file.
    monkeypatch.setenv("CAPIO_STORE", os.fspath(tmpfs))
    few = _pycapio._Buffers(lambda: _pycapio._new_columns(AT_ONCE))
    monkeypatch.setattr(_pycapio, "_columns", few)
    with capio.context("maker"):
        path = os.fspath(capio.dir / "many")
        os.mkdir(path)
        names = [*ODD, *(f"file{number}".encode() for number in range(MANY - len(ODD)))]
        for name in names:
            os.close(os.open(os.path.join(os.fsencode(path), name), os.O_WRONLY | os.O_CREAT))
        yield path, names


def test_all_of_them_once_and_in_order(folder: Any) -> None:
    path, names = folder
    assert os.listdir(os.fsencode(path)) == names
    assert os.listdir(path) == [os.fsdecode(name) for name in names]
    with os.scandir(path) as entries:
        assert iter(entries) is entries
        found = list(entries)
        assert list(entries) == []
    assert [entry.name for entry in found] == [os.fsdecode(name) for name in names]
    assert [entry.path for entry in found] == [f"{path}/{entry.name}" for entry in found]
    assert all(entry.is_file() and not entry.is_dir() for entry in found)
    assert [entry.inode() for entry in found[::10]] == [
        entry.stat().st_ino for entry in found[::10]
    ]
    with os.scandir(os.fsencode(path) + b"/") as entries:
        assert next(entries).path == os.fsencode(path) + b"/" + names[0]


@pytest.mark.parametrize("taken", [0, 1, AT_ONCE, AT_ONCE + 1])
def test_closing_ends_it_anywhere(folder: Any, taken: int) -> None:
    path, _ = folder
    entries = os.scandir(path)
    for _ in range(taken):
        next(entries)
    entries.close()
    assert list(entries) == []
    entries.close()


def test_entries_outlive_their_iterator(folder: Any) -> None:
    path, names = folder
    with os.scandir(path) as entries:
        first = next(entries)
    alive = weakref.ref(entries)
    del entries
    gc.collect()
    assert alive() is None
    assert first.name == os.fsdecode(names[0])
    assert os.fspath(first) == f"{path}/{first.name}"
    assert first.stat().st_size == 0
