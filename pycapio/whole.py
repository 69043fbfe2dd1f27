"""Reading much of a large file at once, into memory that the kernel gives out in large pages.

Of what ``read()`` takes for a large file, two thirds are the kernel's giving out of small pages,
one by one.
"""

from __future__ import annotations

import io
import os
import sys
import weakref
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Final

from pycapio import _pycapio

# PyPy moves bytes objects of less than 132 KiB, so that a copy would be filled.
_FILLS_BYTES: Final = sys.implementation.name == "cpython"
# So many bytes are worth it.
LEAST: Final = 16 << 20 if _FILLS_BYTES else sys.maxsize
# Signal handlers run in between.
_PIECE: Final = 64 << 20

_os_fstat = os.fstat
_fileno = io.FileIO.fileno
_readall = io.FileIO.readall
_readinto = io.FileIO.readinto
_tell = io.FileIO.tell


def prefer(raw: io.FileIO) -> None:
    """From now on this file, which needs no watching, is read that way by its buffer."""
    # Methods of the object's own, as any class but io.FileIO itself is slow below a buffer, which
    # asks for readall and readinto. Not for who has the raw object itself, and may let go of it in
    # the call: only a class has then what it needs.
    reference = weakref.ref(raw)
    raw.readinto = partial(_read_into_below, reference)  # type: ignore[method-assign]
    raw.readall = partial(_read_rest_below, reference)  # type: ignore[method-assign]


def _held(reference: weakref.ref[io.FileIO]) -> io.FileIO:
    raw = reference()
    if raw is None:
        raise ValueError("I/O operation on closed file")
    return raw


def _read_rest_below(reference: weakref.ref[io.FileIO]) -> bytes:
    return read_rest(_held(reference))


def _read_into_below(reference: weakref.ref[io.FileIO], buffer: Any, /) -> int:
    raw = _held(reference)
    if getattr(buffer, "nbytes", LEAST) < LEAST:
        # Who begins with little goes on with little, and pays for each look.
        vars(raw).pop("readinto", None)
    return read_into(raw, buffer)


def read_rest(raw: io.FileIO) -> bytes:
    """``FileIO.readall`` of a file that needs no watching."""
    size = _os_fstat(_fileno(raw)).st_size
    if size < LEAST or (size := size - _tell(raw)) < LEAST:
        return _readall(raw)
    return read(size, partial(_readinto, raw), partial(_readall, raw))


def read_into(raw: io.FileIO, buffer: Any, /) -> int:
    """``FileIO.readinto`` of a file that needs no watching."""
    try:
        if len(buffer) >= LEAST:
            _pycapio.expect_bytes(buffer)
    except (TypeError, ValueError, BufferError):
        pass  # Python's own words for it
    return _readinto(raw, buffer)


@lru_cache(maxsize=1)
def _maker() -> Callable[[int], bytes]:
    """What makes a bytes object to be filled. bytes(size) would have to clear its memory."""
    try:
        import ctypes

        # An object of our own: the attribute is everybody's, with what it takes and gives.
        make = ctypes.pythonapi["PyBytes_FromStringAndSize"]
    except (ImportError, AttributeError):  # an interpreter without them
        return bytes
    make.argtypes = ctypes.c_void_p, ctypes.c_ssize_t
    make.restype = ctypes.py_object
    return partial(make, None)


def read(size: int, readinto: Callable[[memoryview], int], readall: Callable[[], bytes]) -> bytes:
    """All that there is.

    size: of that, in bytes, as far as it is known. readinto and readall: of the file; the latter
    takes what there is more, mostly nothing.
    """
    if not _FILLS_BYTES:
        return readall()
    data = bytes(size) if size < LEAST else _maker()(size)
    view = _pycapio.to_be_filled(data)
    done = 0
    while done < size:
        n = readinto(view[done : done + _PIECE])
        if not n:
            return data[:done]
        done += n
    rest = readall()
    return data + rest if rest else data
