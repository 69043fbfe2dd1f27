"""Directory iteration: the union of a directory's layers, in creation order."""

from __future__ import annotations

import os
import stat as _stat
import warnings
from collections.abc import Iterator
from operator import attrgetter
from types import TracebackType
from typing import Any, AnyStr, Generic

from pycapio import _pycapio
from pycapio._pycapio import FOR_CONTENT, FOR_LOOKUP, NOFOLLOW
from pycapio.session import Session, session_for

_os_stat = os.stat
_os_scandir = os.scandir
_os_DirEntry = os.DirEntry

_DT_DIR = 4
_DT_REG = 8
_DT_LNK = 10


class _DirEntryKind(type):
    """While patched, DirEntry stands for os.DirEntry, too."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return type.__instancecheck__(cls, instance) or isinstance(instance, _os_DirEntry)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return type.__subclasscheck__(cls, subclass) or issubclass(subclass, _os_DirEntry)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("cannot create 'posix.DirEntry' instances")


class DirEntry(Generic[AnyStr], metaclass=_DirEntryKind):
    """What os.scandir yields for a CAPIO directory; as os.DirEntry."""

    __slots__ = ("_ino", "_lstat", "_name", "_path", "_session", "_stat", "_type")

    _name: AnyStr
    _path: AnyStr
    _session: Session
    _type: int
    _ino: int
    _stat: os.stat_result | None
    _lstat: os.stat_result | None

    # attrgetter, as it is no slower than an attribute.
    name: AnyStr = property(attrgetter("_name"), doc="the entry's name")  # type: ignore[assignment]
    path: AnyStr = property(attrgetter("_path"), doc="scandir's path and the name")  # type: ignore[assignment]

    def inode(self) -> int:
        return self._ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(_DT_DIR, _stat.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return self._is(_DT_REG, _stat.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        return self._type == _DT_LNK

    def is_junction(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Waits, for a consumer of a declared output, until its size is final."""
        if follow_symlinks and self._type == _DT_LNK:
            if self._stat is None:
                self._stat = self._ask(FOR_CONTENT, True)
            return self._stat
        if self._lstat is None:
            self._lstat = self._ask(FOR_CONTENT, False)
        return self._lstat

    def _ask(self, purpose: int, follow: bool) -> os.stat_result:
        flags = purpose if follow else purpose | NOFOLLOW
        try:
            backing = self._session.resolve(self._path, flags)
            while True:
                try:
                    return _os_stat(
                        self._path if backing is None else backing, follow_symlinks=follow
                    )
                except FileNotFoundError:
                    # The server may have moved it from memory to disk since.
                    before = backing
                    backing = self._session.resolve(self._path, FOR_LOOKUP | NOFOLLOW)
                    if backing == before:
                        raise
        except OSError as error:
            error.filename = self._path
            raise

    def _is(self, d_type: int, test: Any, follow: bool) -> bool:
        if self._type != _DT_LNK or not follow:
            return self._type == d_type
        try:
            return bool(test(self._ask(FOR_LOOKUP, True).st_mode))
        except FileNotFoundError:
            return False

    def __fspath__(self) -> AnyStr:
        return self._path

    def __repr__(self) -> str:
        return f"<DirEntry {self._name!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'posix.DirEntry' object")


def _entry(
    session: Session, name: AnyStr, path: AnyStr, d_type: int, inode: int
) -> DirEntry[AnyStr]:
    entry: DirEntry[AnyStr] = object.__new__(DirEntry)
    entry._session = session
    entry._name = name
    entry._path = path
    entry._type = d_type
    entry._ino = inode
    entry._stat = entry._lstat = None
    return entry


class PyCapioScandirWrapper:
    """An iterator over the entries of a directory, and a context manager, as os.scandir returns.

    path: str, bytes or PathLike. Inside CAPIO_DIR a consumer waits for a declared directory to
    exist and to be filled, as its rule says; elsewhere it iterates as os.scandir does.
    """

    _open = False

    def __init__(self, path: str | bytes | os.PathLike[Any] = ".") -> None:
        name = os.fspath(path)
        session = session_for(name)
        entries = None
        if session is not None:
            entries = _pycapio.list_directory(session.handle, os.fsencode(name), name)
        if entries is None or session is None:
            self._entries: Iterator[Any] = _os_scandir(path)
        else:
            self._entries = _yield_entries(session, name, entries)
        self._open = True

    def __iter__(self) -> PyCapioScandirWrapper:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._entries)
        except BaseException:
            self._open = False
            raise

    def close(self) -> None:
        """Ends the iteration and frees the directory."""
        self._open = False
        self._entries.close()  # type: ignore[attr-defined]  # generators and os.scandir have it

    def __enter__(self) -> PyCapioScandirWrapper:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._open:
            warnings.warn(f"unclosed scandir iterator {self!r}", ResourceWarning, 1, source=self)
            self.close()


class _Iterator(PyCapioScandirWrapper):
    """What os.scandir returns: nobody else makes one."""

    __slots__ = ()

    def __init__(self, *args: Any) -> None:
        raise TypeError("cannot create 'posix.ScandirIterator' instances")


def iterate(path: str | bytes | os.PathLike[Any]) -> PyCapioScandirWrapper:
    """os.scandir of a path that may be CAPIO's."""
    iterator = object.__new__(_Iterator)
    PyCapioScandirWrapper.__init__(iterator, path)
    return iterator


def _yield_entries(
    session: Session, path: AnyStr, entries: Iterator[tuple[bytes, int, int]]
) -> Iterator[DirEntry[AnyStr]]:
    name: Any
    for raw_name, d_type, inode in entries:
        name = raw_name if isinstance(path, bytes) else os.fsdecode(raw_name)
        yield _entry(session, name, os.path.join(path, name), d_type, inode)


def list_names(session: Session, path: str | bytes) -> list[Any] | None:
    """os.listdir of a CAPIO directory; None if the path is not CAPIO's."""
    entries = _pycapio.list_directory(session.handle, os.fsencode(path), path)
    if entries is None:
        return None
    if isinstance(path, bytes):
        return [name for name, _, _ in entries]
    return [os.fsdecode(name) for name, _, _ in entries]
