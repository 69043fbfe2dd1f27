"""os.stat of a file in the store gives the very stat_result that Python makes of the kernel's."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

import pycapio
from pycapio import _pycapio
from workflows import Workflow

NAMES = [name for name in dir(os.stat_result) if name.startswith("st_")]
_stat = os.stat

TIMES = [
    (0, 0),
    (1, 999_999_999),
    (-1, -1),
    (-1_500_000_001, 7),
    (2**31 * 10**9 + 1, 2**33 * 10**9 + 123_456_789),
    (1_700_000_000_123_456_789, 1_700_000_000_987_654_321),
]


def same(ours: os.stat_result, kernels: os.stat_result) -> None:
    assert type(ours) is os.stat_result
    assert tuple(ours) == tuple(kernels)
    for name in NAMES:
        mine: Any = getattr(ours, name)
        its: Any = getattr(kernels, name)
        assert (name, type(mine), mine) == (name, type(its), its)
    assert repr(ours) == repr(kernels)
    assert pickle.loads(pickle.dumps(ours)) == kernels


@pytest.mark.parametrize("fast", [True, False])
def test_every_field(capio: Workflow, monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    # What another Python, with other fields, falls back to.
    monkeypatch.setattr(_pycapio, "_STAT_FITS", fast and _pycapio._STAT_FITS)
    with capio.context("maker"):
        for number, times in enumerate(TIMES):
            path = os.fspath(capio.dir / f"file{number}")
            with open(path, "wb") as file:
                file.write(b"x" * number * 5000)
            os.utime(path, ns=times)
            same(os.stat(path), _stat(pycapio.resolve(path)))
            assert os.stat(path).st_mtime_ns == times[1]
        os.mkdir(capio.dir / "folder", 0o751)
        for name in ("folder", "file0"):
            path = os.fspath(capio.dir / name)
            same(os.lstat(path), _stat(pycapio.resolve(path), follow_symlinks=False))
            same(os.stat(os.fsencode(path)), _stat(pycapio.resolve(path)))
        same(os.stat(capio.dir), _stat(capio.dir))


def test_this_python_needs_no_fallback() -> None:
    assert _pycapio._STAT_FITS


def test_buffers_are_one_calls_alone(capio: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call made while another one of the same thread is being answered, as signal handlers and
    finalizers do."""
    with capio.context("maker"):
        small, large = os.fspath(capio.dir / "small"), os.fspath(capio.dir / "large")
        for path, size in ((small, 1), (large, 1000)):
            with open(path, "wb") as file:
                file.write(b"x" * size)
        unpack = _pycapio._STAT
        seen: list[int] = []

        class Interrupted:
            def unpack_from(self, *args: Any) -> Any:
                if len(seen) < 5:
                    at = len(seen)
                    seen.append(0)
                    seen[at] = os.stat(large).st_size
                return unpack.unpack_from(*args)

        monkeypatch.setattr(_pycapio, "_STAT", Interrupted())
        assert os.stat(small).st_size == 1
        assert seen == [1000] * 5
