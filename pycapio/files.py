"""File objects: the standard library's own stack over a raw object that waits and publishes.

``open`` of a CAPIO path has libcapio open it, and builds around the descriptor what Python's own
``open`` would. A committed file is just that. One that has to be watched has a CapioRaw at the
bottom, and its descriptor is libcapio's: the last call that uses it closes it. A text layer has C
fast paths, which look for an exact ``io.FileIO`` at the bottom: such a file is made over one (the
twin), and its buffer re-initialised over the CapioRaw.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
import weakref
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

from pycapio import _pycapio, descriptors, whole
from pycapio._pycapio import (
    CLOSE_ABANDONED,
    CLOSE_COUNT,
    CLOSE_FAILED,
    ENCODING,
    ENCODING_ERRORS,
    FD_CLOSE,
    FD_CLOSED,
    FD_KEEP,
    FILE_STREAMED,
)
from pycapio.descriptors import Descriptor, left_by
from pycapio.session import Session

if TYPE_CHECKING:
    from typing_extensions import Self

_open = io.open
_os_close = os.close
_os_fstat = os.fstat
_FileIO = io.FileIO
# The exception that is being handled.
if sys.version_info >= (3, 11):
    _handled = sys.exception
else:

    def _handled() -> BaseException | None:
        return sys.exc_info()[1]


# What every file needs is found without a search. _close: super().close of CapioRaw.
_new: Any = io.FileIO.__new__
_init = io.FileIO.__init__
_close = io.FileIO.close
_ref = weakref.ref
_audit = sys.audit
_open_file = _pycapio.open_file
_file_read = _pycapio.file_read
_file_write = _pycapio.file_write
_file_close = _pycapio.file_close

# Readers wait less often, and copy no more, with a larger buffer. So do writers where nobody can
# read before the file is complete; others keep Python's size, since theirs is the latency. Text
# comes from its layer 8 KiB at a time; what programs write as bytes may come in larger pieces,
# which a buffer of that size would have copied.
_READ_BUFFER: Final = 64 * 1024
_TEXT_BUFFER: Final = 64 * 1024
_WRITE_BUFFER: Final = 32 * 1024
_LEAST_BUFFER: Final = io.DEFAULT_BUFFER_SIZE

_WHOLE: Final = whole.LEAST


class FILE_MODES:
    """Flags of pycapio_open."""

    O_RDONLY: Final = os.O_RDONLY
    O_WRONLY: Final = os.O_WRONLY
    O_RDWR: Final = os.O_RDWR
    O_CREAT: Final = os.O_CREAT
    O_APPEND: Final = os.O_APPEND


def _read_full(handle: Any, name: Any, buffer: Any) -> int:
    return _file_read(handle, buffer, True, name)


def _read_on(handle: Any, name: Any) -> bytes:
    """Up to the end, of which little is known."""
    chunks = bytearray()
    buffer = memoryview(bytearray(_READ_BUFFER))
    while n := _file_read(handle, buffer, False, name):
        chunks += buffer[:n]
    return bytes(chunks)


class CapioRaw(io.FileIO):
    """The raw object of a CAPIO file: every byte goes through one call of libcapio.

    A consumer's reads wait until the bytes are there, and report the end only of a committed file.
    """

    # Slots, since reading one takes a tenth of what an attribute of the class takes.
    __slots__ = (
        "_closing",
        "_entry",  # its entry in the table of descriptors, once others know its number
        "_exposed",
        "_fd_fate",  # who closes the descriptor: libcapio, or the FileIO that this or the twin is
        # A read returns short only at the end of the file, as an unbuffered regular file's does;
        # under a buffer it returns what is there.
        "_full",
        "_handle",  # None: this is a FileIO like any other
        # An exception that was being handled when the file was opened does not abandon it.
        "_handled_at_open",
        "_lost",  # the number of a descriptor that was closed without us
        "_path",  # the user's, for what goes wrong: the name, where that is no number
        "_session",
        "_twin",  # what Python made around the descriptor, if that was not this object
        "_write_failed",
    )

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        self: Self = _new(cls)
        self._handle = self._session = self._twin = self._entry = self._lost = self._path = None
        self._handled_at_open = None
        self._full = self._exposed = self._write_failed = self._closing = False
        self._fd_fate = FD_CLOSED
        return self

    if TYPE_CHECKING:
        _closing: bool
        _entry: Descriptor | None
        _exposed: bool
        _fd_fate: int
        _full: bool
        _handle: Any
        _handled_at_open: BaseException | None
        _lost: int | None
        _path: Any
        _session: Any
        _twin: io.FileIO | None
        _write_failed: bool

    def _watch(self, handle: Any, session: Session, name: Any, top: Any = None) -> None:
        """From now on bytes go through CAPIO.

        name: the user's. top: the object that the program has, if that is another one, with a
        buffer.
        """
        self._session = session
        self._path = name
        if top is None:
            self._full = True
            top = self
        error = _handled()
        if error is not None:
            self._handled_at_open = error
        session.files[id(self)] = _ref(top)
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
            self._watch(handle, entry.session, entry.name, top)

    def _own(self, entry: Descriptor) -> None:
        """What is done with the descriptor's number is done to this file."""
        entry.owner = weakref.ref(self)
        self._entry = entry

    def lose_handle(self) -> None:
        """The descriptor has been closed by its number."""
        self._handle = self._entry = None
        if self._fd_fate == FD_CLOSE and not super().closed:
            self._lost = super().fileno()
        self._session.files.pop(id(self), None)

    def readinto(self, buffer: Any, /) -> int:
        handle = self._handle
        if handle is None or not self.readable():
            return whole.read_into(self, buffer)
        try:
            return _file_read(handle, buffer, self._full, self._path)
        except (TypeError, ValueError, BufferError):  # no buffer: Python's own words for it
            return super().readinto(buffer)

    def read(self, size: int | None = -1, /) -> bytes:
        handle = self._handle
        if handle is None or not self.readable():
            if (size is None or size == -1) and self.readable():
                return self.readall()
            return super().read(size)
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        n = _file_read(handle, buffer, self._full, self._path)
        return bytes(buffer if n == size else memoryview(buffer)[:n])

    def readall(self) -> bytes:
        handle = self._handle
        if handle is None or not self.readable():
            return whole.read_rest(self)
        name = self._path
        _pycapio.file_wait_commit(handle, name)  # until then there is no end
        # Another file's, if another thread closes this one: it only is what is expected.
        size = _os_fstat(super().fileno()).st_size
        left = size - _pycapio.file_seek(handle, 0, os.SEEK_CUR, name)
        if left < _READ_BUFFER:
            return _read_on(handle, name)
        return whole.read(left, partial(_read_full, handle, name), partial(_read_on, handle, name))

    def write(self, data: Any, /) -> int:
        handle = self._handle
        # Of a descriptor that was opened by others, this object may do less than that could.
        if handle is None or (self._fd_fate != FD_CLOSE and not self.writable()):
            return super().write(data)
        try:
            n = _file_write(handle, data, self._full)
        except (TypeError, ValueError, BufferError):  # no bytes: Python's own words for it
            return super().write(data)
        except OSError:
            self._write_failed = True
            raise
        if self._write_failed:
            self._write_failed = False
        return n

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        handle = self._handle  # once: another thread may close the file
        if handle is None:
            return super().seek(offset, whence)
        if self._exposed:
            _pycapio.file_publish(handle)
        try:
            return _pycapio.file_seek(handle, offset, whence, self._path)
        except (TypeError, OverflowError):  # not an offset: Python's own words for it
            return super().seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        handle = self._handle
        if handle is None or not self.writable():
            return super().truncate(size)
        if size is None:
            size = self.tell()
        try:
            _pycapio.file_truncate(handle, size)
        except (TypeError, OverflowError):
            return super().truncate(size)
        return size

    def fileno(self) -> int:
        """The descriptor. A reader's waits for commit, since the descriptor knows no waiting."""
        handle = self._handle
        if handle is None:
            return super().fileno()
        self._exposed = True
        if type(self) is CapioRaw:
            self.__class__ = ExposableRaw
        name = self._path
        fd = _pycapio.file_expose(handle, name)
        if self._entry is None and self.writable():
            entry = Descriptor(fd, self._session, handle, name, True)
            stale = None
            with descriptors.entering:
                if self._closing:  # by another thread: the number may be another file's
                    raise ValueError("I/O operation on closed file")
                if self._entry is None:
                    stale = descriptors.enter(entry)
                    self._own(entry)
            if stale is not None:
                stale.closed()
        return fd

    def isatty(self) -> bool:
        return super().isatty() if self._handle is None else False

    def close(self) -> None:
        handle = self._handle
        if handle is None:
            _close(self)
            if self._twin is not None:
                self._twin.close()
            if self._lost is not None:
                fd, self._lost = self._lost, None
                _os_close(fd)  # an error, as of any file whose number was closed
            return
        if self._closing:  # by another thread
            return
        self._closing = True
        if self._exposed:
            with descriptors.entering:
                pass  # fileno() of another thread has left its entry, or will not
        # Set by FileIO when the garbage collector calls. Of its own descriptor it warns itself.
        if self._finalizing and (  # type: ignore[attr-defined]
            self._fd_fate == FD_CLOSE or self._twin is not None
        ):
            self._dealloc_warn(self, 3)
        how = CLOSE_COUNT
        if self._write_failed:
            how = CLOSE_FAILED
        else:
            error = _handled()
            if error is not None and left_by(error, self._handled_at_open) and self.writable():
                how = CLOSE_ABANDONED
        entry, fate, twin = self._entry, self._fd_fate, self._twin
        if entry is not None:
            # Its number may be another file's as soon as it is closed.
            self._entry = None
            descriptors.forget(entry)
        if fate == FD_CLOSED:
            _pycapio.file_quiesce(handle)
        try:
            _close(self)
        finally:
            # The descriptor first: whoever sees the close counted must find no writer left.
            try:
                if twin is not None:
                    twin.close()
            finally:
                self._session.files.pop(id(self), None)
                try:
                    if entry is None:
                        _file_close(handle, how, fate)
                    else:
                        entry.end(how, fate)
                finally:
                    # Only now: without a handle others would come to the descriptor itself.
                    self._handle = None

    @property
    def closefd(self) -> bool:
        """Seen from outside, this object owns the descriptor if libcapio or its twin does."""
        if self._fd_fate == FD_CLOSE:
            return True
        return super().closefd if self._twin is None else self._twin.closefd

    def _dealloc_warn(self, source: Any, level: int = 2) -> None:
        """Called, by buffers, too, with what is dropped without having been closed."""
        if self._fd_fate != FD_CLOSE:
            owner: Any = super() if self._twin is None else self._twin
            owner._dealloc_warn(source)
        elif not super().closed:
            try:
                warnings.warn(f"unclosed file {source!r}", ResourceWarning, level, source)
            except ResourceWarning:  # Python's own shows what nobody can catch
                with io.FileIO(os.devnull) as other:
                    other._dealloc_warn(source)  # type: ignore[attr-defined]

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
        with _FileIO(os.devnull) as like:
            return like.__reduce_ex__(protocol)


def _opened(fd: int, raw_mode: str, name: str | bytes, session: Session) -> CapioRaw:
    """The raw object of a descriptor that is libcapio's; it wants a handle yet. What CapioRaw() and
    _watch() do, in one function, as it is what opening a file takes."""
    raw: CapioRaw = _new(CapioRaw)
    raw._handle = raw._twin = raw._entry = raw._lost = None
    raw._full = raw._exposed = raw._write_failed = raw._closing = False
    raw._fd_fate = FD_CLOSE
    raw._handled_at_open = _handled()
    raw._session = session
    raw._path = name
    _init(raw, fd, raw_mode, False)
    raw.name = name
    return raw


class ExposableRaw(CapioRaw):
    """A raw object whose descriptor others may have: what they have written counts from the next
    call on. Not what every file is from the start, as buffers ask it for these often."""

    __slots__ = ()

    def tell(self) -> int:
        handle = self._handle
        if self._exposed and handle is not None:
            _pycapio.file_publish(handle)
        return super().tell()

    def flush(self) -> None:
        super().flush()
        handle = self._handle
        if self._exposed and handle is not None and not self._closing:
            _pycapio.file_publish(handle)


# What a file object that open() makes is made of: the raw object's mode and flags; of a binary
# file, which has no more layers, the class of its buffer, else None; the least size of that, and
# the one where nobody can read before the file is complete.
_Layers = tuple[str, int, Any, int, int]

_BUFFERED: Final = {"r": io.BufferedReader, **dict.fromkeys("wax", io.BufferedWriter)}
_FLAGS: Final = {
    "r": 0,
    "w": os.O_CREAT | os.O_TRUNC,
    "a": os.O_CREAT | os.O_APPEND,
    "x": os.O_CREAT | os.O_EXCL,
}


def _layers(mode: str) -> _Layers:
    """For a mode that open() takes."""
    kind = next((letter for letter in mode if letter in _FLAGS), "r")  # "U" of Python 3.10
    updating = "+" in mode
    access = os.O_RDWR if updating else os.O_RDONLY if kind == "r" else os.O_WRONLY
    buffered = None
    if "b" in mode:
        buffered = io.BufferedRandom if updating else _BUFFERED[kind]
    raw_mode = kind + "+" if updating else kind
    least = unstreamed = _READ_BUFFER if access == os.O_RDONLY else _LEAST_BUFFER
    if access == os.O_WRONLY:
        unstreamed = _TEXT_BUFFER if buffered is None else _WRITE_BUFFER
    return raw_mode, access | _FLAGS[kind] | os.O_CLOEXEC, buffered, least, unstreamed


_USUAL: Final = {
    mode: _layers(mode)
    for kind in "rwax"
    for mode in (kind, kind + "b", kind + "t", kind + "+", kind + "+b", kind + "b+")
}


@lru_cache(maxsize=256, typed=True)
def _layers_for(mode: str, buffering: Any, encoding: Any, errors: Any, newline: Any) -> _Layers:
    """Raises what open() raises for arguments that it does not take, before it opens anything."""
    if encoding is None and "b" not in mode:
        encoding = "locale"  # what that means is said when the file is made
    try:
        if "U" in mode:  # Python 3.10 warns of that, and will when the file is made
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _open(-1, mode, buffering, encoding, errors, newline)
        else:
            _open(-1, mode, buffering, encoding, errors, newline)
    except ValueError as error:
        if str(error) != _no_descriptor():
            raise
    if _FLAGS.keys().isdisjoint(mode) and "U" not in mode:
        io.FileIO(os.devnull, mode.replace("t", ""))  # says that
    return _layers(mode)


@lru_cache(maxsize=1)
def _no_descriptor() -> str:
    try:
        io.FileIO(-1)
    except ValueError as error:
        return str(error)
    return ""


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
    layers = None
    if buffering == -1 and encoding is None and errors is None and newline is None:
        layers = _USUAL.get(mode)
    if layers is None:
        arguments = mode, buffering, encoding, errors, newline
        if buffering == 1 and "b" in mode:
            layers = _layers_for.__wrapped__(*arguments)  # which warns each time
            buffering = -1
        else:
            try:
                layers = _layers_for(*arguments)
            except TypeError:  # not what can be remembered, so not an argument either
                layers = _layers_for.__wrapped__(*arguments)
    if not closefd:
        return _open(file, mode, buffering, encoding, errors, newline, closefd)
    raw_mode, flags, buffered, least_buffer, unstreamed_buffer = layers
    _audit("open", file, raw_mode, flags)
    # encoded(), without the call.
    name = file if isinstance(file, bytes) else file.encode(ENCODING, ENCODING_ERRORS)
    opened = _open_file(session.handle, name, flags, 0o666, file, exempt)
    if opened is None:
        return _open(file, mode, buffering, encoding, errors, newline)
    fd, handle, status, size = opened
    top: Any
    if handle is None:
        try:
            if buffering == 0 and size >= _WHOLE:
                top = CapioRaw(fd, raw_mode)
            else:
                top = _open(fd, mode, buffering, encoding, errors, newline)
        except IsADirectoryError as error:  # the descriptor is still ours
            _os_close(fd)
            error.filename = file
            raise
        raw = top if buffering == 0 else top.raw if buffered is not None else top.buffer.raw
        raw.name = file
        if buffering != 0 and size >= _WHOLE:
            whole.prefer(raw)
        return top
    try:
        # The first to be made is the first to be finalized where they are garbage in a cycle.
        raw = _opened(fd, raw_mode, file, session)
        if buffering == 0 and buffered is not None:
            raw._full = True
            top = raw
        else:
            if buffering == -1 and not status & FILE_STREAMED:
                least_buffer = unstreamed_buffer
            size = _size_of_buffer(raw, buffering, least_buffer)
            if buffered is not None and buffering > -2:
                top = buffered(raw, size)
            else:
                top = _open(fd, mode, buffering, encoding, errors, newline, False)
                _put_below(raw, top, size)
        session.files[id(raw)] = _ref(top)
        raw._handle = handle
        return top
    except BaseException:
        # Nothing was written.
        _file_close(handle, CLOSE_COUNT, FD_CLOSE)
        raise


def _size_of_buffer(raw: io.FileIO, buffering: int, least: int) -> int:
    if buffering > 1:
        return buffering
    size: int = raw._blksize  # type: ignore[attr-defined]
    return size if size > least else least


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
    raw_mode, _, _, least_buffer, _ = _layers(mode)
    over = _over(raw, raw_mode, raw.name)
    if raw is file:
        over._watch_descriptor(entry)
        return over
    _put_below(over, file, _size_of_buffer(over, buffering, least_buffer))
    over._watch_descriptor(entry, file)
    return file


def _put_below(raw: CapioRaw, file: Any, size: int) -> None:
    """Puts it in the place of the raw object of a file that has a buffer; that has size bytes
    then."""
    buffer = file.buffer if isinstance(file, io.TextIOWrapper) else file
    raw._twin = buffer.raw
    buffer.__init__(raw, size)


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
