"""Twins of the methods by which Python's own loaders read and write modules.

Not only imports come by these: ``importlib.util.spec_from_file_location``, ``py_compile`` and
``compileall``, ``inspect``. Everything shows the user's path; nothing waits.
"""

from __future__ import annotations

import _frozen_importlib_external as _external
import os
import threading
import zipimport
from collections.abc import Callable
from importlib.machinery import (
    ExtensionFileLoader,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Any, Final
from zipimport import zipimporter

from pycapio._pycapio import FOR_LOOKUP
from pycapio.patching import proxy_for
from pycapio.proxies import descriptors, names, queries
from pycapio.proxies._dispatch import backing, managed, with_user_path

# Where the methods are that all three kinds of loaders share.
_FileLoader: Final[Any] = SourcelessFileLoader.__bases__[0]

_get_data = _FileLoader.get_data
_path_stats = SourceFileLoader.path_stats
_set_data = SourceFileLoader.set_data
_create_module = ExtensionFileLoader.create_module
_write_atomic: Callable[..., None] = _external._write_atomic  # type: ignore[attr-defined]


def _where(path: Any) -> Any:
    try:
        return backing(path, FOR_LOOKUP)
    except (OSError, ValueError):  # the original says so, of the user's path
        return None


@proxy_for(_get_data, module=_get_data.__module__)
def get_data_proxy(self: Any, path: Any) -> bytes:
    where = _where(path)
    if where is None:
        return _get_data(self, path)  # type: ignore[no-any-return]
    return with_user_path(lambda place: _get_data(self, place), path, where)  # type: ignore[no-any-return]


@proxy_for(_path_stats, module=_path_stats.__module__)
def path_stats_proxy(self: Any, path: Any) -> Any:
    where = _where(path)
    if where is None:
        return _path_stats(self, path)
    return with_user_path(lambda place: _path_stats(self, place), path, where)


class _Saving(threading.local):
    """Whether the calling thread saves the byte code of a module that it imports."""

    bytecode = False


_saving = _Saving()


@proxy_for(_set_data, module=_set_data.__module__)
def set_data_proxy(self: Any, path: Any, data: Any, **options: Any) -> None:
    # Byte code goes beside sources that are in CAPIO_DIR itself. It is never part of the workflow.
    where = _where(self.path)
    if where is not None and where != self.path:
        return
    _saving.bytecode = True
    try:
        _set_data(self, path, data, **options)
    finally:
        _saving.bytecode = False


@proxy_for(_write_atomic, module=_write_atomic.__module__)
def write_atomic_proxy(path: Any, data: Any, mode: int = 0o666) -> None:
    if _saving.bytecode or managed(path) is None:
        return _write_atomic(path, data, mode)
    temporary = f"{path}.{id(path)}"
    fd = descriptors.open_proxy(temporary, os.O_EXCL | os.O_CREAT | os.O_WRONLY, mode & 0o666)
    try:
        try:
            descriptors.write_proxy(fd, data)
        finally:
            descriptors.close_proxy(fd)
        names.replace_proxy(temporary, path)
    except OSError:
        names.unlink_proxy(temporary)
        raise


@proxy_for(_create_module, module=_create_module.__module__)
def create_module_proxy(self: Any, spec: ModuleSpec) -> Any:
    where = _where(self.path)
    if where is None or where == self.path:
        return _create_module(self, spec)
    return _create_module(self, ModuleSpec(spec.name, self, origin=where))


# ---- zip files -----------------------------------------------------------------------------------

_read_directory: Callable[[str], dict[str, Any]] = zipimport._read_directory  # type: ignore[attr-defined]
_zip_data: Callable[[str, Any], bytes] = zipimport._get_data  # type: ignore[attr-defined]
_zip_init = zipimporter.__init__
_zip_directories: dict[str, Any] = zipimport._zip_directory_cache  # type: ignore[attr-defined]


@proxy_for(_read_directory, module="zipimport")
def read_directory_proxy(archive: Any) -> dict[str, Any]:
    where = _where(archive)
    if where is None or where == archive:
        return _read_directory(archive)
    try:
        found = _read_directory(where)
    except zipimport.ZipImportError as error:
        raise _shown(error, where, archive) from None
    return _as_shown(found, where, archive)


@proxy_for(_zip_data, module="zipimport")
def zip_data_proxy(archive: Any, toc_entry: Any) -> bytes:
    where = _where(archive)
    if where is None or where == archive:
        return _zip_data(archive, toc_entry)
    try:
        return _zip_data(where, toc_entry)
    except zipimport.ZipImportError as error:
        raise _shown(error, where, archive) from None


@proxy_for(_zip_init, module="zipimport")
def zip_init_proxy(self: Any, path: Any) -> None:
    archive, where = _archive_in(path)
    if where is None:
        return _zip_init(self, path)
    try:
        _zip_init(self, where + path[len(archive) :])
    except zipimport.ZipImportError as error:
        raise _shown(error, where, archive) from None
    self.archive = archive
    _zip_directories[archive] = _as_shown(_zip_directories.pop(where), where, archive)
    if "_files" in vars(self):
        self._files = _zip_directories[archive]


def _as_shown(found: dict[str, Any], where: str, archive: str) -> dict[str, Any]:
    # Each entry begins with the path that modules show as theirs; a directory may have none.
    return {
        name: entry and (archive + entry[0][len(where) :], *entry[1:])
        for name, entry in found.items()
    }


def _archive_in(path: Any) -> tuple[str, Any]:
    """The managed file that a path names, or leads into, and its backing path, None if it is
    another than the path."""
    if not isinstance(path, str):  # the original says what is wrong with that
        return "", None
    archive = path
    while managed(archive) is not None:
        where = _where(archive)
        if where is not None and queries.exists_proxy(archive):
            return archive, where if where != archive and os.path.isfile(where) else None
        above = os.path.dirname(archive)
        if above == archive:
            break
        archive = above
    return archive, None


def _shown(error: zipimport.ZipImportError, where: str, archive: str) -> zipimport.ZipImportError:
    text = str(error).replace(where, archive)
    return zipimport.ZipImportError(text, path=(error.path or "").replace(where, archive))


# What is replaced, by owner and name.
TWINS: Final[tuple[tuple[Any, str, Any], ...]] = (
    (_FileLoader, "get_data", get_data_proxy),
    (SourceFileLoader, "path_stats", path_stats_proxy),
    (SourceFileLoader, "set_data", set_data_proxy),
    (ExtensionFileLoader, "create_module", create_module_proxy),
    (_external, "_write_atomic", write_atomic_proxy),
    (zipimport, "_read_directory", read_directory_proxy),
    (zipimport, "_get_data", zip_data_proxy),
    (zipimporter, "__init__", zip_init_proxy),
)
