"""Imports of modules that are CAPIO files: a script may import what it has just written.

Python's own path finder looks at the kernel's files, which for a managed directory are those of
CAPIO_DIR itself. The finder here answers for such entries of ``sys.path`` and ``__path__``, in
their order among the others; for whoever asks that path finder himself (pytest, pkgutil, runpy),
``sys.path_hooks`` leads to the same. Looking for a module never waits. The loaders are Python's
own.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import posixpath
import stat as _stat
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, ClassVar

from pycapio._pycapio import FOR_LOOKUP
from pycapio.proxies import native, places
from pycapio.session import current, session_for

_os_stat = os.stat


def _backing(path: str) -> str | None:
    """The kernel's path of a managed path that exists, else None."""
    session = session_for(path)
    if session is None:
        return None
    try:
        found: str | None = session.resolve(path, FOR_LOOKUP)
    except (OSError, ValueError):
        return None
    return found


def _kind(path: str) -> int:
    """What a managed path is, 0 if nothing."""
    found = _backing(path)
    try:
        return 0 if found is None else _stat.S_IFMT(_os_stat(found).st_mode)
    except OSError:
        return 0


def _details() -> tuple[tuple[Any, list[str]], ...]:
    """Loaders with their suffixes, in the order in which Python tries them."""
    return (
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (importlib.machinery.SourceFileLoader, importlib.machinery.SOURCE_SUFFIXES),
        (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
    )


class Finder:
    """Belongs on ``sys.meta_path`` before Python's own path finder, which it asks for the rest."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        if not current():
            return None
        if native.is_watched(fullname):
            found = Finder._find(fullname, path, target) or PathFinder.find_spec(
                fullname, path, target
            )
            return None if found is None else native.watch(found, _is_elsewhere)
        return Finder._find(fullname, path, target)

    @staticmethod
    def _find(
        fullname: str, path: Sequence[str] | None = None, target: Any = None
    ) -> ModuleSpec | None:
        entries = sys.path if path is None else path
        places = [_place(entry) for entry in entries]
        if not any(places):
            return None
        portions: list[str] = []  # of a namespace package
        for entry, place in zip(entries, places, strict=True):
            spec = _find_in(place, fullname) if place else None
            if spec is None:
                spec = PathFinder.find_spec(fullname, [entry], target)
            if spec is None:
                continue
            if spec.loader is not None:
                return spec
            portions.extend(spec.submodule_search_locations or ())
        if not portions:
            return None
        spec = ModuleSpec(fullname, None)
        spec.submodule_search_locations = list(dict.fromkeys(portions))
        return spec

    @staticmethod
    def invalidate_caches() -> None:
        """Nothing is cached."""

    # How many of Python's answers were looked at last.
    _known: ClassVar[int] = 0

    @staticmethod
    def path_hook(entry: str) -> DirectoryFinder:
        """Belongs on ``sys.path_hooks``, first. Raises ImportError for what is no managed
        directory."""
        place = _place(entry) if current() else ""
        if not place or _kind(place) != _stat.S_IFDIR:
            raise ImportError(f"{entry!r} is not a directory managed by CAPIO", path=entry)
        return DirectoryFinder(place)

    @staticmethod
    def forget(answers: dict[str, Any]) -> None:
        """Drops what Python remembers about entries of ``sys.path`` that are managed, or that the
        hook has answered for."""
        if len(answers) == Finder._known:
            return
        for entry, finder in list(answers.items()):
            if isinstance(finder, DirectoryFinder) or (finder is not None and _place(entry)):
                del answers[entry]
        Finder._known = len(answers)


class DirectoryFinder(importlib.machinery.FileFinder):
    """Finds modules in one managed directory, an entry of ``sys.path``. For pkgutil, which lists
    them through os, it is like any other; who keeps it, finds with it as with Python's own what
    is there when the directory is not managed any more."""

    def __init__(self, place: str) -> None:
        super().__init__(place, *_details())

    def find_spec(self, fullname: str, target: Any = None) -> ModuleSpec | None:
        place = _place(self.path)
        return _find_in(place, fullname) if place else super().find_spec(fullname, target)


def _is_elsewhere(path: str) -> bool:
    """Whether a path is managed, and not just a file that lies in CAPIO_DIR."""
    session = session_for(path)
    if session is None:
        return False
    try:
        found = session.resolve(path, FOR_LOOKUP)
    except OSError:
        return True
    return found is not None and not _samefile(found, path)


def _samefile(first: str, second: str) -> bool:
    try:
        return posixpath.samestat(_os_stat(first), _os_stat(second))
    except OSError:
        return False


def _place(entry: Any) -> str:
    """The absolute path of an entry that may be managed, else ""."""
    if not isinstance(entry, str):
        return ""
    try:
        place = posixpath.join(places.current_directory(), entry) if entry[:1] != "/" else entry
    except OSError:
        return ""
    return place if session_for(place) is not None else ""


def _find_in(place: str, fullname: str) -> ModuleSpec | None:
    base = posixpath.join(place, fullname.rpartition(".")[2])
    directory = _kind(base) == _stat.S_IFDIR
    # As importlib's finder: a package, a module, a part of a namespace package.
    candidates: list[tuple[str, list[str] | None]] = [(base, None)]
    if directory:
        candidates.insert(0, (posixpath.join(base, "__init__"), [base]))
    details = [(loader, suffix) for loader, suffixes in _details() for suffix in suffixes]
    for stem, locations in candidates:
        for loader, suffix in details:
            path = stem + suffix
            if _kind(path) == _stat.S_IFREG:
                return importlib.util.spec_from_file_location(
                    fullname,
                    path,
                    loader=loader(fullname, path),
                    submodule_search_locations=locations,
                )
    if not directory:
        return None
    spec = ModuleSpec(fullname, None)
    spec.submodule_search_locations = [base]
    return spec
