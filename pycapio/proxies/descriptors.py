"""Twins of the calls that work on open descriptors.

A kernel descriptor knows no waiting. Through these calls a consumer's reads wait for their bytes,
and what depends on the file's size for its commit; a writer's bytes are published, and the gaps
they leave noted. Every way of closing a descriptor counts as a close.

Each begins with a look at the table of CAPIO's descriptors, which is all it costs while none is
open.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Any, Final

from pycapio import _pycapio, descriptors
from pycapio import session as _session
from pycapio.descriptors import Descriptor, find, table, take
from pycapio.patching import proxy_for
from pycapio.proxies._dispatch import managed, with_user_path

_os_close = os.close
_os_closerange = os.closerange
_os_copy_file_range = os.copy_file_range
_os_dup = os.dup
_os_dup2 = os.dup2
_os_fdatasync = os.fdatasync
_os_fstat = os.fstat
_os_fsync = os.fsync
_os_ftruncate = os.ftruncate
_os_lseek = os.lseek
_os_open = os.open
_os_posix_fallocate = os.posix_fallocate
_os_pread = os.pread
_os_preadv = os.preadv
_os_pwrite = os.pwrite
_os_pwritev = os.pwritev
_os_read = os.read
_os_readlink = os.readlink
_os_readv = os.readv
_os_sendfile = os.sendfile
_os_splice: Any = getattr(os, "splice", None)
_os_readinto: Any = getattr(os, "readinto", None)
_os_truncate = os.truncate
_os_write = os.write
_os_writev = os.writev
_fcntl = fcntl.fcntl
_mmap = mmap.mmap

# How much one copy_file_range copies where the kernel cannot.
_COPY_MOST: Final = 8 << 20
# An argument that libcapio cannot be given: the original says what is wrong with it.
_ARGUMENT: Final = (TypeError, ValueError, BufferError, OverflowError)


# ---- opening and closing ------------------------------------------------------------------------


@proxy_for(_os_open, module="os")
def open_proxy(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    found = managed(path, dir_fd) if isinstance(flags, int) and isinstance(mode, int) else None
    if found is None:
        return _os_open(path, flags, mode, dir_fd=dir_fd)
    session, name = found
    fd = _session.open_descriptor(session, name, flags, mode, os.fspath(path))
    if fd is None:
        return int(with_user_path(_os_open, path, name, flags, mode))
    return fd


@proxy_for(_os_close, module="os")
def close_proxy(fd: int) -> None:
    entry = take(fd) if table else None
    if entry is None:
        return _os_close(fd)
    entry.closing()
    try:
        _os_close(fd)
    finally:
        entry.closed()


@proxy_for(_os_closerange, module="os")
def closerange_proxy(fd_low: int, fd_high: int, /) -> None:
    entries: list[Descriptor] = []
    if table and isinstance(fd_low, int) and isinstance(fd_high, int):
        found = [take(fd) for fd in list(table) if fd_low <= fd < fd_high]
        entries = [entry for entry in found if entry is not None]
    for entry in entries:
        entry.closing()
    _os_closerange(fd_low, fd_high)
    for entry in entries:
        entry.closed()


@proxy_for(_os_dup, module="os")
def dup_proxy(fd: int, /) -> int:
    copy = _os_dup(fd)
    if table:
        _duplicated(fd, copy)
    return copy


@proxy_for(_os_dup2, module="os")
def dup2_proxy(fd: int, fd2: int, inheritable: bool = True) -> int:
    if not table or fd == fd2:
        return _os_dup2(fd, fd2, inheritable)
    _os_fstat(fd)  # what dup2 may say of it, while nothing has been closed yet
    replaced = take(fd2)
    if replaced is not None:
        replaced.closing()
    try:
        copy = _os_dup2(fd, fd2, inheritable)
    finally:
        if replaced is not None:
            replaced.closed()
    _duplicated(fd, copy)
    return copy


@proxy_for(_fcntl, module="fcntl")
def fcntl_proxy(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    result = _fcntl(fd, cmd, arg)
    if table and cmd in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC):
        _duplicated(fd if isinstance(fd, int) else fd.fileno(), result)
    return result


def _duplicated(fd: int, copy: int) -> None:
    try:
        descriptors.duplicated(fd, copy)
    except BaseException:
        _os_close(copy)
        raise


# ---- reading ------------------------------------------------------------------------------------


def _read(entry: Descriptor, size: Any, offset: int) -> memoryview | None:
    """The next bytes of a consumer's file; None if the original has to read."""
    if entry.writer or not isinstance(size, int) or size <= 0:
        return None
    with entry as handle:
        if handle is None:
            return None
        buffer = memoryview(bytearray(size))
        return buffer[: _pycapio.file_read(handle, buffer, True, entry.name, offset)]


@proxy_for(_os_read, module="os")
def read_proxy(fd: int, length: int, /) -> bytes:
    entry = find(fd) if table else None
    data = None if entry is None else _read(entry, length, -1)
    return _os_read(fd, length) if data is None else bytes(data)


@proxy_for(_os_pread, module="os")
def pread_proxy(fd: int, length: int, offset: int, /) -> bytes:
    entry = find(fd) if table else None
    data = None if entry is None or not _is_offset(offset) else _read(entry, length, offset)
    return _os_pread(fd, length, offset) if data is None else bytes(data)


def _is_offset(offset: Any) -> bool:
    return isinstance(offset, int) and 0 <= offset < 1 << 63


def _read_into(entry: Descriptor, buffers: Any, offset: int) -> int | None:
    """Reads into buffers, as many as there are; None if the original has to."""
    try:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
    except _ARGUMENT:
        return None
    if any(view.readonly for view in views):
        return None
    # In one piece, since a wait that fails has to leave the file position where it was.
    data = _read(entry, sum(map(len, views)), offset)
    if data is None:
        return None
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part
        at += len(part)
    return at


@proxy_for(_os_readv, module="os")
def readv_proxy(fd: int, buffers: Any, /) -> int:
    entry = find(fd) if table else None
    got = None if entry is None else _read_into(entry, buffers, -1)
    return _os_readv(fd, buffers) if got is None else got


@proxy_for(_os_preadv, module="os")
def preadv_proxy(fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    entry = find(fd) if table else None
    if entry is not None and _is_offset(offset):
        if flags == 0:
            got = _read_into(entry, buffers, offset)
            if got is not None:
                return got
        else:
            await_size(fd)
    return _os_preadv(fd, buffers, offset, flags)


def readinto_proxy(fd: int, buffer: Any, /) -> int:
    entry = find(fd) if table else None
    got = None if entry is None else _read_into(entry, (buffer,), -1)
    result: int = _os_readinto(fd, buffer) if got is None else got
    return result


if _os_readinto is not None:
    readinto_proxy = proxy_for(_os_readinto, module="os")(readinto_proxy)


# ---- what depends on the final size --------------------------------------------------------------


def await_size(fd: Any) -> None:
    """Returns when the size of the file, if it is a consumer's, is final. For os.stat, too."""
    entry = find(fd)
    if entry is None or entry.writer:
        return
    with entry as handle:
        if handle is not None:
            _pycapio.file_expose(handle, entry.name)


@proxy_for(_os_fstat, module="os")
def fstat_proxy(fd: int) -> os.stat_result:
    if table:
        await_size(fd)
    return _os_fstat(fd)


@proxy_for(_os_lseek, module="os")
def lseek_proxy(fd: int, position: int, whence: int, /) -> int:
    entry = find(fd) if table else None
    if entry is not None:
        with entry as handle:
            if handle is not None:
                try:
                    return _pycapio.file_seek(handle, position, whence, entry.name)
                except _ARGUMENT:
                    pass
    return _os_lseek(fd, position, whence)


# ---- writing ------------------------------------------------------------------------------------


def _write(entry: Descriptor, data: Any, offset: int) -> int | None:
    """Writes and publishes; None if the original has to."""
    if not entry.writer:
        return None
    with entry as handle:
        if handle is None:
            return None
        try:
            size = _pycapio.file_write(handle, data, True, offset)
        except _ARGUMENT:
            return None
        except OSError:
            entry.write_failed = True
            raise
        entry.write_failed = False
        return size


@proxy_for(_os_write, module="os")
def write_proxy(fd: int, data: Any, /) -> int:
    entry = find(fd) if table else None
    size = None if entry is None else _write(entry, data, -1)
    return _os_write(fd, data) if size is None else size


@proxy_for(_os_pwrite, module="os")
def pwrite_proxy(fd: int, buffer: Any, offset: int, /) -> int:
    entry = find(fd) if table else None
    size = None if entry is None or not _is_offset(offset) else _write(entry, buffer, offset)
    return _os_pwrite(fd, buffer, offset) if size is None else size


def _writing(fd: Any, offset: int | None, call: Callable[..., int], *args: Any) -> int:
    """A call that writes through the descriptor, at an offset or the file position, and returns
    how much."""
    entry = find(fd)
    if entry is None or not entry.writer:
        return call(*args)
    at = -1 if offset is None else offset
    with entry as handle:
        if handle is None or (offset is not None and not _is_offset(offset)):
            return call(*args)
        _pycapio.file_will_write(handle, at)
        try:
            size = call(*args)
        except OSError as error:
            entry.write_failed = True
            if error.errno == errno.ENOSPC:
                _pycapio.file_wrote(handle, at, -errno.ENOSPC)
            raise
        try:
            _pycapio.file_wrote(handle, at, size)
        except OSError as error:
            if error.errno != errno.EBADF:  # closed by another thread meanwhile; it is written
                raise
        entry.write_failed = False
        return size


def _write_parts(entry: Descriptor, buffers: Any, offset: int) -> int | None:
    """In one piece, which waits for room as a whole; None if the original has to write."""
    try:
        data = b"".join(buffers)
    except _ARGUMENT:
        return None
    return _write(entry, data, offset) if data else None


@proxy_for(_os_writev, module="os")
def writev_proxy(fd: int, buffers: Any, /) -> int:
    entry = find(fd) if table else None
    size = None if entry is None else _write_parts(entry, buffers, -1)
    return _os_writev(fd, buffers) if size is None else size


@proxy_for(_os_pwritev, module="os")
def pwritev_proxy(fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    entry = find(fd) if table else None
    if entry is None or not isinstance(flags, int):
        return _os_pwritev(fd, buffers, offset, flags)
    if flags == 0:
        size = _write_parts(entry, buffers, offset) if _is_offset(offset) else None
        return _os_pwritev(fd, buffers, offset, flags) if size is None else size
    where = 0 if flags & getattr(os, "RWF_APPEND", 0) else offset
    return _writing(fd, where, _os_pwritev, fd, buffers, offset, flags)


@proxy_for(_os_posix_fallocate, module="os")
def posix_fallocate_proxy(fd: int, offset: int, length: int, /) -> None:
    entry = find(fd) if table else None
    if entry is None or not (entry.writer and _is_offset(offset) and _is_offset(length)):
        return _os_posix_fallocate(fd, offset, length)
    with entry as handle:
        if handle is not None and _is_offset(offset + length):
            # The zeros up to there are not what anybody has written.
            _pycapio.file_will_write(handle, offset + length)
        _os_posix_fallocate(fd, offset, length)


@proxy_for(_os_ftruncate, module="os")
def ftruncate_proxy(fd: int, length: int, /) -> None:
    if not table or not truncate_descriptor(fd, length):
        _os_ftruncate(fd, length)


@proxy_for(_os_truncate, module="os")
def truncate_proxy(path: Any, length: int) -> None:
    if isinstance(path, int) and table and truncate_descriptor(path, length):
        return
    found = managed(path) if isinstance(length, int) and length >= 0 else None
    if found is None:
        return _os_truncate(path, length)
    session, name = found
    shown = os.fspath(path)
    opened = _pycapio.open_file(session.handle, os.fsencode(name), os.O_WRONLY, 0, shown)
    if opened is None:
        return with_user_path(_os_truncate, path, name, length)  # type: ignore[no-any-return]
    fd, handle, _, _ = opened
    try:
        if handle is None:
            _os_ftruncate(fd, length)
        else:
            _pycapio.file_truncate(handle, length)
    except OSError as error:
        error.filename = shown
        raise
    finally:
        if handle is None:
            _os_close(fd)
        else:
            _pycapio.file_close(handle, _pycapio.CLOSE_COUNT, _pycapio.FD_CLOSE)


def truncate_descriptor(fd: Any, length: Any) -> bool:
    """False: the original has to."""
    entry = find(fd) if table and _is_offset(length) else None
    if entry is None or not entry.writer:
        return False
    with entry as handle:
        if handle is None:
            return False
        _pycapio.file_truncate(handle, length)
        return True


def _publish(fd: Any) -> None:
    """Whoever syncs may have written by other means: C code on a duplicate, a mapping."""
    entry = find(fd)
    if entry is not None and entry.writer:
        with entry as handle:
            if handle is not None:
                _pycapio.file_publish(handle)


@proxy_for(_os_fsync, module="os")
def fsync_proxy(fd: Any) -> None:
    _os_fsync(fd)
    if table:
        _publish(fd)


@proxy_for(_os_fdatasync, module="os")
def fdatasync_proxy(fd: Any) -> None:
    _os_fdatasync(fd)
    if table:
        _publish(fd)


# ---- from one descriptor to another --------------------------------------------------------------


@proxy_for(_os_sendfile, module="os")
def sendfile_proxy(out_fd: int, in_fd: int, offset: int | None, count: int) -> int:
    if not table:
        return _os_sendfile(out_fd, in_fd, offset, count)
    await_size(in_fd)
    return _writing(out_fd, None, _os_sendfile, out_fd, in_fd, offset, count)


@proxy_for(_os_copy_file_range, module="os")
def copy_file_range_proxy(
    src: int, dst: int, count: int, offset_src: int | None = None, offset_dst: int | None = None
) -> int:
    if table:
        await_size(src)
    try:
        return _writing(
            dst, offset_dst, _os_copy_file_range, src, dst, count, offset_src, offset_dst
        )
    except OSError as error:
        # Two files of one directory may lie on two file systems here.
        if error.errno != errno.EXDEV or not (_in_store(src) or _in_store(dst)):
            raise
    return _writing(dst, offset_dst, _copy, src, dst, count, offset_src, offset_dst)


def _in_store(fd: int) -> bool:
    if find(fd) is not None:
        return True
    target = _os_readlink(f"/proc/self/fd/{fd}")
    return any(session.stores(target) for session in _session.current())


def _copy(src: int, dst: int, count: int, offset_src: int | None, offset_dst: int | None) -> int:
    at = _os_lseek(src, 0, os.SEEK_CUR) if offset_src is None else offset_src
    data = _os_pread(src, min(count, _COPY_MOST), at)
    put = _os_write(dst, data) if offset_dst is None else _os_pwrite(dst, data, offset_dst)
    if offset_src is None:
        _os_lseek(src, at + put, os.SEEK_SET)
    return put


def splice_proxy(
    src: int,
    dst: int,
    count: int,
    offset_src: int | None = None,
    offset_dst: int | None = None,
    flags: int = 0,
) -> int:
    call: Callable[..., int] = _os_splice
    if not table:
        return call(src, dst, count, offset_src, offset_dst, flags)
    await_size(src)
    return _writing(dst, offset_dst, call, src, dst, count, offset_src, offset_dst, flags)


if _os_splice is not None:
    splice_proxy = proxy_for(_os_splice, module="os")(splice_proxy)


# ---- mappings -----------------------------------------------------------------------------------


class _MapKind(type):
    """The twin stands for mmap.mmap: the maps of both are its instances, and the original makes
    them."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, _mmap) if cls is Map else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _mmap) if cls is Map else super().__subclasscheck__(subclass)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if table:
            fd = args[0] if args else kwargs.get("fileno")
            if isinstance(fd, int) and fd >= 0:
                descriptors.expose(fd)
        maker: Any = _mmap if cls is Map else super().__call__
        return maker(*args, **kwargs)


class Map(_mmap, metaclass=_MapKind):
    """Twin of mmap.mmap: what a consumer maps is complete; what is mapped for writing is complete
    when the mapping is gone."""


Map.__doc__ = _mmap.__doc__
Map.__module__, Map.__qualname__, Map.__name__ = "mmap", "mmap", "mmap"

# What is replaced, by module and name, as far as this Python has it.
TWINS: Final[tuple[tuple[Any, str, Any], ...]] = (
    (os, "open", open_proxy),
    (os, "close", close_proxy),
    (os, "closerange", closerange_proxy),
    (os, "copy_file_range", copy_file_range_proxy),
    (os, "dup", dup_proxy),
    (os, "dup2", dup2_proxy),
    (os, "fdatasync", fdatasync_proxy),
    (os, "fstat", fstat_proxy),
    (os, "fsync", fsync_proxy),
    (os, "ftruncate", ftruncate_proxy),
    (os, "lseek", lseek_proxy),
    (os, "posix_fallocate", posix_fallocate_proxy),
    (os, "pread", pread_proxy),
    (os, "preadv", preadv_proxy),
    (os, "pwrite", pwrite_proxy),
    (os, "pwritev", pwritev_proxy),
    (os, "read", read_proxy),
    (os, "readv", readv_proxy),
    (os, "sendfile", sendfile_proxy),
    (os, "truncate", truncate_proxy),
    (os, "write", write_proxy),
    (os, "writev", writev_proxy),
    *(() if _os_readinto is None else ((os, "readinto", readinto_proxy),)),
    *(() if _os_splice is None else ((os, "splice", splice_proxy),)),
    (fcntl, "fcntl", fcntl_proxy),
    (mmap, "mmap", Map),
)
