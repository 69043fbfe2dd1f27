"""File objects: the standard library's own stack over a raw object that waits and publishes.

``open`` of a CAPIO path first builds what Python would build for the backing file, with its own
``open`` and an opener. A committed file stays just that. For one that has to be watched the
buffered object is re-initialised over a CapioRaw. The text layer keeps its C fast paths, which
look for an exact ``io.FileIO`` at the bottom: they still see the one Python built (the twin).
"""

from __future__ import annotations

import io
import os
import sys
import weakref
from functools import lru_cache
from typing import Any, Final

from pycapio import _pycapio, descriptors
from pycapio._pycapio import CLOSE_ABANDONED, CLOSE_COUNT, CLOSE_FAILED, FD_CLOSED, FD_KEEP
from pycapio.descriptors import Descriptor, left_by
from pycapio.session import Session

_open = io.open
_os_open = os.open
# The exception that is being handled.
if sys.version_info >= (3, 11):
    _handled = sys.exception
else:

    def _handled() -> BaseException | None:
        return sys.exc_info()[1]


# What every file needs is found without a search. _close: super().close of CapioRaw.
_close = io.FileIO.close
_Opener = _pycapio.Opener
_file_read = _pycapio.file_read
_file_write = _pycapio.file_write
_file_close = _pycapio.file_close

# Readers wait less often, and copy no more, with a larger buffer; writers keep Python's size, since
# theirs is the latency.
_READ_BUFFER: Final = 128 * 1024


class FILE_MODES:
    """Flags of pycapio_open."""

    O_RDONLY: Final = os.O_RDONLY
    O_WRONLY: Final = os.O_WRONLY
    O_RDWR: Final = os.O_RDWR
    O_CREAT: Final = os.O_CREAT
    O_APPEND: Final = os.O_APPEND


class CapioRaw(io.FileIO):
    """The raw object of a CAPIO file: every byte goes through one call of libcapio.

    A consumer's reads wait until the bytes are there, and report the end only of a committed file.
    """

    _handle: Any = None
    _session: Any = None
    # Owns the descriptor, if it is not the object itself.
    _twin: io.FileIO | None = None
    # A read returns short only at the end of the file, as an unbuffered regular file's does; under
    # a buffer it returns what is there.
    _full = False
    _write_failed = False
    _exposed = False
    # An exception that was being handled when the file was opened does not abandon it.
    _handled_at_open: BaseException | None = None
    # Its entry in the table of descriptors, once others know its number.
    _entry: Descriptor | None = None
    _fd_fate = FD_CLOSED
    _path: Any = None  # the user's, for what goes wrong: the name, where that is no number

    def _watch(self, handle: Any, session: Session, top: Any = None) -> None:
        """From now on bytes go through CAPIO. Without a handle this is a FileIO like any other.

        top: the object that the program has, if that is another one, with a buffer.
        """
        self._session = session
        if top is None:
            self._full = True
            top = self
        error = _handled()
        if error is not None:
            self._handled_at_open = error
        session.files[id(self)] = weakref.ref(top)
        if self._path is None:
            self._path = self.name
        self._handle = handle

    def _watch_descriptor(self, entry: Descriptor, top: Any = None) -> None:
        """``_watch`` for a descriptor that was opened before."""
        with entry as handle:
            if handle is None:
                return
            if self.closefd and entry.owner is None:
                self._own(entry)
            else:  # it is somebody else's, who goes on using it
                handle = _pycapio.file_duplicate(handle, entry.fd)
                self._fd_fate = FD_CLOSED if self.closefd else FD_KEEP
            self._path = entry.name
            self._watch(handle, entry.session, top)

    def _own(self, entry: Descriptor) -> None:
        """What is done with the descriptor's number is done to this file."""
        entry.owner = weakref.ref(self)
        self._entry = entry

    def lose_handle(self) -> None:
        """The descriptor has been closed by its number."""
        self._handle = self._entry = None
        self._session.files.pop(id(self), None)

    def readinto(self, buffer: Any, /) -> int:
        handle = self._handle
        if handle is None or not self.readable():
            return super().readinto(buffer)
        try:
            return _file_read(handle, buffer, self._full, self._path)
        except (TypeError, ValueError, BufferError):  # no buffer: Python's own words for it
            return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        handle = self._handle
        if handle is None or not self.readable():
            return super().read(-1 if size is None else size)
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        n = _file_read(handle, buffer, self._full, self._path)
        return bytes(buffer if n == size else memoryview(buffer)[:n])

    def readall(self) -> bytes:
        handle = self._handle
        if handle is None or not self.readable():
            return super().readall()
        chunks = bytearray()
        buffer = memoryview(bytearray(1 << 20))
        while n := _file_read(handle, buffer, False, self._path):
            chunks += buffer[:n]
        return bytes(chunks)

    def write(self, data: Any, /) -> int:
        handle = self._handle
        if handle is None:
            return super().write(data)
        try:
            n = _file_write(handle, data, self._full)
        except OSError:
            if not self.writable():
                return super().write(data)  # which says that
            self._write_failed = True
            raise
        if self._write_failed:
            self._write_failed = False
        return n

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if self._handle is None:
            return super().seek(offset, whence)
        if self._exposed:
            _pycapio.file_publish(self._handle)
        try:
            return _pycapio.file_seek(self._handle, offset, whence, self._path)
        except (TypeError, OverflowError):  # not an offset: Python's own words for it
            return super().seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        if self._handle is None or not self.writable():
            return super().truncate(size)
        if size is None:
            size = self.tell()
        try:
            _pycapio.file_truncate(self._handle, size)
        except (TypeError, OverflowError):
            return super().truncate(size)
        return size

    def fileno(self) -> int:
        """The descriptor. A reader's waits for commit, since the descriptor knows no waiting."""
        if self._handle is None:
            return super().fileno()
        self._exposed = True
        if type(self) is CapioRaw:
            self.__class__ = ExposableRaw
        name = self._path
        fd = _pycapio.file_expose(self._handle, name)
        if self._entry is None and self.writable():
            self._own(descriptors.register(fd, self._session, self._handle, name, True))
        return fd

    def isatty(self) -> bool:
        return super().isatty() if self._handle is None else False

    def close(self) -> None:
        handle = self._handle
        if handle is None:
            _close(self)
            if self._twin is not None:
                self._twin.close()  # an error, if its number was closed
            return
        self._handle = None
        # Set by FileIO when the garbage collector calls.
        if self._finalizing:  # type: ignore[attr-defined]
            self._dealloc_warn(self)
        how = CLOSE_COUNT
        if self._write_failed:
            how = CLOSE_FAILED
        else:
            error = _handled()
            if error is not None and left_by(error, self._handled_at_open) and self.writable():
                how = CLOSE_ABANDONED
        entry = self._entry
        if entry is not None:
            # Its number may be another file's as soon as it is closed.
            self._entry = None
            descriptors.forget(entry)
        try:
            _close(self)
        finally:
            # The descriptor first: whoever sees the close counted must find no writer left.
            try:
                if self._twin is not None:
                    self._twin.close()
            finally:
                self._session.files.pop(id(self), None)
                if entry is None:
                    _file_close(handle, how, self._fd_fate)
                else:
                    entry.end(how)

    @property
    def closefd(self) -> bool:
        """Seen from outside, this object owns the descriptor if its twin does."""
        return super().closefd if self._twin is None else self._twin.closefd

    def _dealloc_warn(self, source: Any) -> None:
        owner: Any = super() if self._twin is None else self._twin
        owner._dealloc_warn(source)  # of FileIO, for buffers

    def __repr__(self) -> str:
        kind = "_io.FileIO"
        if sys.version_info >= (3, 13) and type(self).__module__ not in ("_io", __name__):
            kind = type(self).__name__
        if self.closed:
            return f"<{kind} [closed]>"
        named = f"name={self.name!r}" if hasattr(self, "name") else f"fd={super().fileno()}"
        return f"<{kind} {named} mode={self.mode!r} closefd={self.closefd}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # Python's own says that files cannot be pickled, and names their class.
        with io.FileIO(os.devnull) as like:
            return like.__reduce_ex__(protocol)


class ExposableRaw(CapioRaw):
    """A raw object whose descriptor others may have: what they have written counts from the next
    call on. Not what every file is from the start, as buffers ask it for these often."""

    def tell(self) -> int:
        if self._exposed and self._handle is not None:
            _pycapio.file_publish(self._handle)
        return super().tell()

    def flush(self) -> None:
        super().flush()
        if self._exposed and self._handle is not None:
            _pycapio.file_publish(self._handle)


class _NotWatched(Exception):
    """The path is not CAPIO's."""


def _refuse(_path: Any, _flags: int) -> int:
    raise _NotWatched


def _open_plainly(path: Any, flags: int) -> int:
    return _os_open(path, flags, 0o666)


# How "wb" and the like are buffered. Text needs more than that: see the top.
_BINARY_WRITERS: Final[dict[str, Any]] = {
    **dict.fromkeys(("wb", "ab", "xb", "bw", "ba", "bx"), io.BufferedWriter),
    **dict.fromkeys(("r+b", "rb+", "w+b", "wb+", "a+b", "ab+", "x+b", "xb+"), io.BufferedRandom),
}


def open_in_session(
    session: Session,
    file: str | bytes,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
    closefd: bool,
    exempt: _pycapio.Exempt,
) -> Any:
    """``open`` for a path that may be CAPIO's; every error is the one that Python's gives.

    exempt: asked before an open for reading waits, as by _pycapio.open_file.
    """
    if buffering == -1 and encoding is errors is newline is None and closefd is True:
        buffered = _BINARY_WRITERS.get(mode)
        if buffered is not None:
            raw = None
            opener = _Opener(session.handle, exempt, _refuse)
            try:
                raw = CapioRaw(file, mode, True, opener)
                result = buffered(raw, _buffer_size(raw))
                if opener.handle is not None:
                    raw._watch(opener.handle, session, result)
                return result
            except _NotWatched:
                pass
            except BaseException:
                _give_up(raw, opener)
                raise
    opener = _Opener(session.handle, exempt, _open_plainly)
    try:
        result = _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if opener.handle is None:
            return result
        over, top = _graft(result, mode, buffering, file)
        over._watch(opener.handle, session, top)
        return over if top is None else top
    except BaseException:
        _give_up(None, opener)
        raise


def _give_up(raw: CapioRaw | None, opener: _pycapio.Opener) -> None:
    """After an open that failed half-way."""
    if raw is not None:
        watched = raw._handle is not None
        raw.close()
        if watched:
            return
    # The descriptor has been closed; nothing was written.
    if opener.handle is not None:
        _file_close(opener.handle, CLOSE_COUNT, FD_CLOSED)


def _buffer_size(raw: io.FileIO) -> int:
    size: int = raw._blksize  # type: ignore[attr-defined]
    return size if size > io.DEFAULT_BUFFER_SIZE else io.DEFAULT_BUFFER_SIZE


def adopt(file: Any, mode: str, buffering: int) -> Any:
    """A file object that Python made around a descriptor: CAPIO's, if the descriptor is."""
    raw = file
    while not isinstance(raw, io.FileIO):
        raw = raw.buffer if isinstance(raw, io.TextIOWrapper) else raw.raw
    if isinstance(raw, CapioRaw):
        return file
    entry = descriptors.find(raw.fileno())
    if entry is None:
        return file
    over, top = _graft(file, mode, buffering, raw.name)
    over._watch_descriptor(entry, top)
    return over if top is None else top


def _graft(file: Any, mode: str, buffering: int, name: Any) -> tuple[CapioRaw, Any]:
    """Puts a CapioRaw below a file object, or, if that is raw itself, over it. Returns both; None
    for the latter."""
    raw_mode = _raw_mode(mode)
    if isinstance(file, io.FileIO):
        return _over(file, raw_mode, name), None
    buffer = file.buffer if isinstance(file, io.TextIOWrapper) else file
    twin = buffer.raw
    raw = _over(twin, raw_mode, name)
    size = buffering if buffering > 1 else _buffer_size(twin)
    if type(buffer) is io.BufferedReader:
        size = max(size, _READ_BUFFER) if buffering < 0 else size
    buffer.__init__(raw, size)
    return raw, file


@lru_cache
def _raw_mode(mode: str) -> str:
    return mode.replace("t", "").replace("b", "").replace("U", "")


def _over(twin: io.FileIO, mode: str, name: Any) -> CapioRaw:
    """A raw object over another one, which owns the descriptor, if a file object does."""
    raw = CapioRaw(twin.fileno(), mode, closefd=False)
    raw.name = name
    raw._twin = twin
    return raw


def _descriptor_mode(fd: int) -> str:
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    access = flags & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
    if access == os.O_RDONLY:
        return "r"
    if flags & os.O_APPEND:
        return "a" if access == os.O_WRONLY else "a+"
    # "w" with a descriptor truncates nothing.
    return "w" if access == os.O_WRONLY else "r+"


def _from_descriptor(fd: int, buffer_size: int) -> Any:
    """A buffered binary object over a descriptor, which it owns from now on."""
    if not isinstance(fd, int):
        raise TypeError(f"fd must be an integer, not {type(fd).__name__}")
    mode = _descriptor_mode(fd)
    entry = descriptors.find(fd)
    # What FileIO does to a descriptor it is given is to ask for its type and, for "a", to seek.
    twin = io.FileIO(fd, mode)
    watch = entry is not None and not isinstance(twin, CapioRaw)
    raw: Any = _over(twin, mode, fd) if watch else twin
    kinds: dict[str, Any] = {
        "r": io.BufferedReader,
        "w": io.BufferedWriter,
        "a": io.BufferedWriter,
    }
    kind = kinds.get(mode, io.BufferedRandom)
    buffered = kind(raw, buffer_size)
    if watch:
        raw._watch_descriptor(entry, buffered)
    return buffered


def _is_capio_raw(raw: Any) -> bool:
    return isinstance(raw, CapioRaw)


class _BinaryKind(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(
            instance, (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)
        ) and _is_capio_raw(instance.raw)

    def __call__(cls, fd: int, chunk_size: int = 16384) -> Any:
        if chunk_size <= 0:
            raise ValueError("chunk_size must be a positive number of bytes")
        return _from_descriptor(fd, chunk_size)


class PyCapioBinaryIOWrapper(metaclass=_BinaryKind):
    """PyCapioBinaryIOWrapper(fd, chunk_size=16384): a binary file object over a descriptor of
    pycapio_open.

    Returns an io.BufferedReader, BufferedWriter or BufferedRandom, by the descriptor's access mode,
    which owns the descriptor and flushes and closes it when dropped. chunk_size: buffer in bytes.
    ``isinstance`` holds for every binary file object that CAPIO watches. Reads wait as CAPIO-CL
    says.
    """

    def __init__(self, fd: int, chunk_size: int = 16384) -> None:  # pragma: no cover
        raise TypeError("instances are made by the metaclass")


class _TextKind(type):
    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, io.TextIOWrapper) and isinstance(
            instance.buffer, PyCapioBinaryIOWrapper
        )

    def __call__(cls, fd: int, chunk_size: int = 4096) -> Any:
        if chunk_size <= 0:
            raise ValueError("chunk_size must be a positive number of bytes")
        return io.TextIOWrapper(_from_descriptor(fd, chunk_size), encoding="utf-8")


class PyCapioTextIOWrapper(metaclass=_TextKind):
    """PyCapioTextIOWrapper(fd, chunk_size=4096): a UTF-8 text file object over a descriptor of
    pycapio_open; otherwise as PyCapioBinaryIOWrapper."""

    def __init__(self, fd: int, chunk_size: int = 4096) -> None:  # pragma: no cover
        raise TypeError("instances are made by the metaclass")
