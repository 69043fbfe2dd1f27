"""Directory iteration: the union of a directory's layers, in creation order."""

from __future__ import annotations

import os
import stat as _stat
import warnings
from collections.abc import Iterator
from itertools import chain, repeat
from operator import attrgetter
from types import TracebackType
from typing import Any, AnyStr, Generic, NamedTuple

from pycapio import _pycapio
from pycapio._pycapio import FOR_CONTENT, FOR_LOOKUP, NOFOLLOW, encoded
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


class _Listing(NamedTuple):
    """What the entries of one directory have in common."""

    session: Session
    prefix: Any  # the path of an entry without its name
    where: Any  # the same, to ask by: a descriptor's entries are called by their names alone


class DirEntry(Generic[AnyStr], metaclass=_DirEntryKind):
    """What os.scandir yields for a CAPIO directory; as os.DirEntry."""

    __slots__ = ("_ino", "_listing", "_lstat", "_name", "_stat", "_type")

    _listing: _Listing
    _name: AnyStr
    _type: int
    _ino: int
    # Present once asked for.
    _stat: os.stat_result
    _lstat: os.stat_result

    # attrgetter, as it is no slower than an attribute.
    name: AnyStr = property(attrgetter("_name"), doc="the entry's name")  # type: ignore[assignment]

    @property
    def path(self) -> AnyStr:
        """scandir's path and the name"""
        path: AnyStr = self._listing.prefix + self._name
        return path

    def inode(self) -> int:
        return self._ino

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        kind = self._type
        if kind != _DT_LNK or not follow_symlinks:
            return kind == _DT_DIR
        return self._leads_to(_stat.S_ISDIR)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        kind = self._type
        if kind != _DT_LNK or not follow_symlinks:
            return kind == _DT_REG
        return self._leads_to(_stat.S_ISREG)

    def is_symlink(self) -> bool:
        return self._type == _DT_LNK

    def is_junction(self) -> bool:
        return False

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Waits, for a consumer of a declared output, until its size is final."""
        follow = follow_symlinks and self._type == _DT_LNK
        kept = "_stat" if follow else "_lstat"
        result: os.stat_result | None = getattr(self, kept, None)
        if result is None:
            result = self._ask(FOR_CONTENT, follow)
            setattr(self, kept, result)
        return result

    def _ask(self, purpose: int, follow: bool) -> os.stat_result:
        path = self._listing.where + self._name
        result = _pycapio.stat(
            self._listing.session.handle,
            encoded(path),
            purpose if follow else purpose | NOFOLLOW,
            self.path,
        )
        return _os_stat(path, follow_symlinks=follow) if result is None else result

    def _leads_to(self, test: Any) -> bool:
        try:
            return bool(test(self._ask(FOR_LOOKUP, True).st_mode))
        except FileNotFoundError:
            return False

    def __fspath__(self) -> AnyStr:
        return self.path

    def __repr__(self) -> str:
        return f"<DirEntry {self._name!r}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'posix.DirEntry' object")


class _EntryKind(_DirEntryKind):
    # That of type itself: a listing makes thousands.
    __call__ = type.__call__


class _Entry(DirEntry[Any], metaclass=_EntryKind):
    """An entry: nobody else makes one."""

    __slots__ = ()

    def __init__(self, listing: _Listing, name: Any, d_type: int, inode: int) -> None:
        self._listing = listing
        self._name = name
        self._type = d_type
        self._ino = inode


_Entry.__name__ = DirEntry.__name__
_Entry.__qualname__ = DirEntry.__qualname__


class _Batches:
    """The entries of a directory as iterators over some of them at a time, each of which does
    without Python code until it makes an entry."""

    def __init__(
        self, session: Session, path: Any, where: Any, entries: Iterator[_pycapio.Entries]
    ) -> None:
        """path: what scandir was given; where: the directory's path."""
        slash: Any = "/" if isinstance(where, str) else b"/"
        prefix = where if where.endswith(slash) else where + slash
        self._listing = _Listing(session, "" if isinstance(path, int) else prefix, prefix)
        self._source = entries
        self._names: list[Any] = []
        self.open = True

    def __iter__(self) -> Iterator[Iterator[Any]]:
        try:
            for names, types, inodes in self._source:
                self._names = names
                yield map(_Entry, repeat(self._listing), names, types, inodes)
        finally:
            self.open = False

    def close(self) -> None:
        self._names.clear()
        self._source.close()  # type: ignore[attr-defined]  # it is a generator
        self.open = False


class _Original:
    """An iterator of os.scandir in the place of _Batches."""

    def __init__(self, entries: Any) -> None:
        self._entries = entries
        self.open = False  # it warns by itself

    def __iter__(self) -> Iterator[Iterator[Any]]:
        yield self._entries

    def close(self) -> None:
        self._entries.close()


class PyCapioScandirWrapper(chain[Any]):
    """An iterator over the entries of a directory, and a context manager, as os.scandir returns.

    path: str, bytes or PathLike. Inside CAPIO_DIR a consumer waits for a declared directory to
    exist and to be filled, as its rule says; elsewhere it iterates as os.scandir does.
    """

    _batches: _Batches | _Original

    def __new__(cls, path: str | bytes | os.PathLike[Any] = ".") -> PyCapioScandirWrapper:
        return _iterator(cls, path, os.fspath(path)) or cls._over(_Original(_os_scandir(path)))

    @classmethod
    def _over(cls, batches: _Batches | _Original) -> PyCapioScandirWrapper:
        # chain, and no __next__ of our own: no Python code runs between the entries of a batch.
        iterator: Any = cls.from_iterable(batches)
        iterator._batches = batches
        return iterator  # type: ignore[no-any-return]

    def close(self) -> None:
        """Ends the iteration and frees the directory."""
        self._batches.close()

    def __enter__(self) -> PyCapioScandirWrapper:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("cannot pickle 'posix.ScandirIterator' object")

    def __del__(self) -> None:
        if self._batches.open:
            warnings.warn(f"unclosed scandir iterator {self!r}", ResourceWarning, 1, source=self)
            self.close()


class _Iterator(PyCapioScandirWrapper):
    """What os.scandir returns: nobody else makes one."""

    def __new__(cls, *args: Any) -> _Iterator:
        raise TypeError("cannot create 'posix.ScandirIterator' instances")


def _iterator(
    kind: type[PyCapioScandirWrapper], path: str | bytes | os.PathLike[Any] | int, where: Any
) -> PyCapioScandirWrapper | None:
    session = session_for(where)
    if session is None:
        return None
    shown = path if isinstance(path, int) else where
    entries = _pycapio.list_directory(session.handle, where, shown)
    return None if entries is None else kind._over(_Batches(session, path, where, entries))


def iterate(path: str | bytes | os.PathLike[Any] | int, where: str | bytes) -> Any:
    """os.scandir of a path that may be CAPIO's, or of a descriptor; where: what it stands for."""
    return _iterator(_Iterator, path, where) or _os_scandir(path)


def list_names(session: Session, path: str | bytes, shown: Any) -> list[Any] | None:
    """os.listdir of a CAPIO directory; None if the path is not CAPIO's."""
    entries = _pycapio.list_directory(session.handle, path, shown, names_only=True)
    if entries is None:
        return None
    names: list[Any] = []
    for some, _, _ in entries:
        names += some
    return names
