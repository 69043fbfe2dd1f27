"""Twin of io.FileIO, the class: for those who make raw files, or derive from it."""

from __future__ import annotations

import io
import os
from abc import ABCMeta
from typing import Any

from pycapio import _pycapio, descriptors
from pycapio._pycapio import encoded
from pycapio.files import ExposableRaw
from pycapio.proxies._dispatch import managed

_FileIO = io.FileIO
_os_open = os.open


class _FileIOKind(ABCMeta):
    """FileIO stands for io.FileIO: the files of both are instances, and one that CAPIO need not
    watch is made by the original. ABCMeta, so that classes may derive from other io classes, too.
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        return (
            isinstance(instance, _FileIO) if cls is FileIO else super().__instancecheck__(instance)
        )

    def __subclasscheck__(cls, subclass: type) -> bool:
        return (
            issubclass(subclass, _FileIO) if cls is FileIO else super().__subclasscheck__(subclass)
        )

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not FileIO or not _may_be_watched(*args, **kwargs):
            maker: Any = _FileIO if cls is FileIO else super().__call__
            return maker(*args, **kwargs)
        return super().__call__(*args, **kwargs)


def _may_be_watched(
    file: Any = None,
    mode: Any = "r",
    closefd: Any = True,
    opener: Any = None,
    *rest: Any,
    **unknown: Any,
) -> bool:
    if rest or unknown:  # the original says what is wrong with that
        return False
    if descriptors.table and (opener is not None or isinstance(file, int)):
        return True
    return managed(file) is not None


class FileIO(ExposableRaw, metaclass=_FileIOKind):
    __slots__ = ()
    __doc__ = _FileIO.__doc__

    def __init__(
        self, file: Any, mode: str = "r", closefd: bool = True, opener: Any = None
    ) -> None:
        found = None if opener is not None else managed(file)
        if found is None:
            _FileIO.__init__(self, file, mode, closefd, opener)
            entry = descriptors.find(_FileIO.fileno(self)) if descriptors.table else None
            if entry is not None:
                self._watch_descriptor(entry)
            return
        session, name = found
        handle: Any = None

        def open_backing(path: Any, flags: int) -> int:
            nonlocal handle
            opened = _pycapio.open_file(session.handle, encoded(name), flags, 0o666, path)
            if opened is None:
                return _os_open(path, flags, 0o666)
            fd, handle, _, _ = opened
            return fd

        try:
            _FileIO.__init__(self, file, mode, closefd, open_backing)
        except BaseException:
            if handle is not None:
                # Python has closed the descriptor; nothing was written.
                _pycapio.file_close(handle, _pycapio.CLOSE_COUNT, _pycapio.FD_CLOSED)
            raise
        if handle is not None:
            self._watch(handle, session, name)


FileIO.__module__ = _FileIO.__module__
FileIO.__qualname__ = _FileIO.__qualname__
