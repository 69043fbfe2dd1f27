"""Twins of the methods by which Python's own loaders read and write modules.

Not only imports come by these: ``importlib.util.spec_from_file_location``, ``py_compile`` and
``compileall``, ``inspect``. Everything shows the user's path; nothing waits.
"""

from __future__ import annotations

import _frozen_importlib_external as _external
import os
import threading
from collections.abc import Callable
from importlib.machinery import (
    ExtensionFileLoader,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from typing import Any, Final

from pycapio._pycapio import FOR_LOOKUP
from pycapio.patching import proxy_for
from pycapio.proxies import descriptors, names
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


# What is replaced, by owner and name.
TWINS: Final[tuple[tuple[Any, str, Any], ...]] = (
    (_FileLoader, "get_data", get_data_proxy),
    (SourceFileLoader, "path_stats", path_stats_proxy),
    (SourceFileLoader, "set_data", set_data_proxy),
    (ExtensionFileLoader, "create_module", create_module_proxy),
    (_external, "_write_atomic", write_atomic_proxy),
)
