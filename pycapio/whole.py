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

# So many bytes are worth it, where the interpreter is CPython.
LEAST: Final = 16 << 20 if sys.implementation.name == "cpython" else sys.maxsize
# Signal handlers run in between.
_PIECE: Final = 64 << 20

_os_fstat = os.fstat
_fileno = io.FileIO.fileno
_read = io.FileIO.read
_readall = io.FileIO.readall
_readinto = io.FileIO.readinto
_tell = io.FileIO.tell


def prefer(raw: io.FileIO) -> None:
    """From now on this file, which needs no watching, is read that way."""
    # Methods of the object's own, as any class but io.FileIO itself is slow below a buffer. That
    # one asks for readall and readinto; who has the raw object asks for read, too.
    reference = weakref.ref(raw)
    raw.readinto = partial(_read_into, reference)  # type: ignore[method-assign]
    raw.readall = partial(_read_whole, reference)  # type: ignore[method-assign]
    raw.read = partial(_read_some, reference)  # type: ignore[method-assign]


def _read_whole(reference: weakref.ref[io.FileIO]) -> bytes:
    raw: Any = reference()
    size = _os_fstat(_fileno(raw)).st_size - _tell(raw)
    if size < LEAST:
        return _readall(raw)
    return read(size, partial(_readinto, raw), partial(_readall, raw))


def _read_into(reference: weakref.ref[io.FileIO], buffer: Any, /) -> int:
    raw: Any = reference()
    try:
        if len(buffer) >= LEAST:
            _pycapio.expect_bytes(buffer)
        else:  # who begins with little goes on with little, and pays for each look
            vars(raw).pop("readinto", None)
    except (TypeError, BufferError):
        pass  # Python's own words for it
    return _readinto(raw, buffer)


def _read_some(reference: weakref.ref[io.FileIO], size: Any = -1, /) -> bytes | None:
    try:
        whole = size is None or size < 0
    except TypeError:
        whole = False  # Python's own words for it
    if whole:
        return _read_whole(reference)
    raw: Any = reference()
    return _read(raw, size)


@lru_cache(maxsize=1)
def _maker() -> Callable[[int], bytes]:
    """What makes a bytes object to be filled. bytes(size) would have to clear its memory."""
    try:
        import ctypes

        make = ctypes.pythonapi.PyBytes_FromStringAndSize
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
