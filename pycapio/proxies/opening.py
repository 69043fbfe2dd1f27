"""Twins of the calls that open and close files, and of the process's exit."""

from __future__ import annotations

import builtins
import io
import os
from typing import Any

from pycapio import _pycapio
from pycapio import session as _session
from pycapio._pycapio import FOR_LOOKUP
from pycapio.files import adopt, open_in_session
from pycapio.patching import proxy_for
from pycapio.proxies._dispatch import managed, never_waits, with_user_path

_open = builtins.open
_open_code = io.open_code
_os_open = os.open
_os_close = os.close
_os_read = os.read
_os_pread = os.pread
_os_readv = os.readv
_os_preadv = os.preadv
_os_write = os.write
_os_pwrite = os.pwrite
_os_writev = os.writev
_os_exit = os._exit
_os_ftruncate = os.ftruncate
_os_truncate = os.truncate


@proxy_for(_open, module="io")
def open_proxy(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """``open``: for a path inside CAPIO_DIR the file object waits and publishes as CAPIO-CL says.

    Arguments, result and errors are those of the built-in. A consumer of a declared output that
    does not exist yet waits for it; OSError EOWNERDEAD if its producer failed.
    """
    found = None if opener is not None or not isinstance(mode, str) else managed(file)
    if found is None:
        result = _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if (opener is not None or isinstance(file, int)) and _session.has_descriptors():
            return adopt(result, mode, buffering)
        return result
    # The file object shows the path as text, whatever it was given as.
    session, name = found
    return open_in_session(
        session, name, mode, buffering, encoding, errors, newline, closefd, never_waits
    )


@proxy_for(_open_code, module="io")
def open_code_proxy(path: Any) -> Any:
    # Sources never wait.
    found = managed(path)
    backing = None if found is None else found[0].resolve(found[1], FOR_LOOKUP)
    return _open_code(path if backing is None else backing)


@proxy_for(_os_open, module="os")
def os_open_proxy(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    found = managed(path, dir_fd) if isinstance(flags, int) and isinstance(mode, int) else None
    if found is None:
        return _os_open(path, flags, mode, dir_fd=dir_fd)
    session, name = found
    fd = _session.open_descriptor(session, name, flags, mode, os.fspath(path))
    if fd is None:
        return int(with_user_path(_os_open, path, name, flags, mode))
    return fd


@proxy_for(_os_truncate, module="os")
def os_truncate_proxy(path: Any, length: int) -> None:
    found = managed(path) if isinstance(length, int) and length >= 0 else None
    if found is None:
        return _os_truncate(path, length)
    session, name = found
    shown = os.fspath(path)
    opened = _pycapio.open_file(session.handle, os.fsencode(name), os.O_WRONLY, 0, shown)
    if opened is None:
        return with_user_path(_os_truncate, path, name, length)  # type: ignore[no-any-return]
    fd, handle = opened
    try:
        if handle is None:
            _os_ftruncate(fd, length)
        else:
            _pycapio.file_truncate(handle, length)
    except OSError as error:
        error.filename = shown
        raise
    finally:
        _os_close(fd)
        if handle is not None:
            _pycapio.file_close(handle, _pycapio.CLOSE_COUNT, _pycapio.FD_CLOSED)


@proxy_for(_os_close, module="os")
def os_close_proxy(fd: int) -> None:
    found = _session.take_descriptor(fd) if isinstance(fd, int) else None
    if found is None:
        return _os_close(fd)
    try:
        _os_close(fd)
    finally:
        _pycapio.file_close(found[1], _pycapio.CLOSE_COUNT, _pycapio.FD_CLOSED)


@proxy_for(_os_read, module="os")
def os_read_proxy(fd: int, length: int, /) -> bytes:
    # A kernel descriptor knows no waiting: the end of what is there is not the end of the file.
    handle = _handle(fd) if isinstance(length, int) and length > 0 else None
    if handle is None:
        return _os_read(fd, length)
    buffer = bytearray(length)
    size = _pycapio.file_read(handle, buffer, True, None)
    return bytes(memoryview(buffer)[:size])


def _handle(fd: Any) -> Any:
    if not isinstance(fd, int) or not _session.has_descriptors():
        return None
    return _session.handle_of_descriptor(fd)


def _await_commit(fd: Any) -> None:
    handle = _handle(fd)
    if handle is not None:
        _pycapio.file_expose(handle, None)


@proxy_for(_os_pread, module="os")
def os_pread_proxy(fd: int, length: int, offset: int, /) -> bytes:
    _await_commit(fd)
    return _os_pread(fd, length, offset)


@proxy_for(_os_readv, module="os")
def os_readv_proxy(fd: int, buffers: Any, /) -> int:
    _await_commit(fd)
    return _os_readv(fd, buffers)


@proxy_for(_os_preadv, module="os")
def os_preadv_proxy(fd: int, buffers: Any, offset: int, flags: int = 0, /) -> int:
    _await_commit(fd)
    return _os_preadv(fd, buffers, offset, flags)


@proxy_for(_os_write, module="os")
def os_write_proxy(fd: int, data: Any, /) -> int:
    # The kernel would not wait for room in memory, nor would readers hear of it.
    handle = _handle(fd)
    return _os_write(fd, data) if handle is None else _pycapio.file_write(handle, data, True)


@proxy_for(_os_pwrite, module="os")
def os_pwrite_proxy(fd: int, data: Any, offset: int, /) -> int:
    handle = _handle(fd) if isinstance(offset, int) and offset >= 0 else None
    if handle is None:
        return _os_pwrite(fd, data, offset)
    return _pycapio.file_write(handle, data, True, offset)


@proxy_for(_os_writev, module="os")
def os_writev_proxy(fd: int, buffers: Any, /) -> int:
    handle = _handle(fd)
    if handle is None:
        return _os_writev(fd, buffers)
    return _pycapio.file_write(handle, b"".join(buffers), True)


@proxy_for(_os_exit, module="os")
def exit_proxy(status: int) -> None:
    # No exit handler will run: this is the last chance to say how the process ends.
    _session.goodbye_all(bad=status != 0)
    _os_exit(status)
