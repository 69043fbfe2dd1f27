"""Twins of the calls that make, list, remove and rename names."""

from __future__ import annotations

import os
from typing import Any

from pycapio import _pycapio
from pycapio import scandir as _scandir
from pycapio._pycapio import encoded
from pycapio.patching import proxy_for
from pycapio.proxies._dispatch import managed
from pycapio.proxies.queries import exists_proxy, isdir_proxy

_mkdir = os.mkdir
_makedirs = os.makedirs
_scandir_original = os.scandir
_listdir = os.listdir
_remove = os.remove
_unlink = os.unlink
_rmdir = os.rmdir
_rename = os.rename
_replace = os.replace


@proxy_for(_mkdir, module="os")
def mkdir_proxy(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """``os.mkdir``, inside CAPIO_DIR in the store. Never waits; errors as os.mkdir's."""
    found = managed(path, dir_fd) if isinstance(mode, int) else None
    if found is None:
        return _mkdir(path, mode, dir_fd=dir_fd)
    session, name = found
    if not _pycapio.mkdir(session.handle, encoded(name), mode, name):
        _mkdir(path, mode)


@proxy_for(_makedirs, module="os")
def makedirs_proxy(name: Any, mode: int = 0o777, exist_ok: bool = False) -> None:
    """``os.makedirs``, inside CAPIO_DIR in the store. Never waits; errors as os.makedirs's."""
    if managed(name) is None:
        return _makedirs(name, mode, exist_ok)
    head, tail = os.path.split(name)
    if not tail:
        head, tail = os.path.split(head)
    if head and tail and not exists_proxy(head):
        try:
            makedirs_proxy(head, exist_ok=exist_ok)
        except FileExistsError:
            pass  # another process was faster
        current = os.curdir if isinstance(tail, str) else encoded(os.curdir)
        if tail == current:  # os.makedirs("x/.") makes x
            return
    try:
        mkdir_proxy(name, mode)
    except OSError:
        # As os.makedirs: the directory's being there is what counts, whatever the error.
        if not exist_ok or not isdir_proxy(name):
            raise


@proxy_for(_scandir_original, module="os")
def scandir_proxy(path: Any = None) -> Any:
    """``os.scandir``: inside CAPIO_DIR the union of store and directory, in creation order.

    A consumer of a declared directory waits for it, as its rule says.
    """
    found = managed("." if path is None else path)
    if found is None:
        return _scandir_original(path)
    return _scandir.iterate("." if path is None else path)


@proxy_for(_listdir, module="os")
def listdir_proxy(path: Any = None) -> Any:
    """``os.listdir``: inside CAPIO_DIR the union of store and directory, in creation order."""
    found = managed("." if path is None else path)
    if found is not None:
        names = _scandir.list_names(found[0], found[1])
        if names is not None:
            return names
    return _listdir(path)


@proxy_for(_remove, module="os")
def remove_proxy(path: Any, *, dir_fd: int | None = None) -> None:
    found = managed(path, dir_fd)
    if found is None or not _pycapio.unlink(found[0].handle, encoded(found[1]), found[1]):
        _remove(path, dir_fd=dir_fd)


@proxy_for(_unlink, module="os")
def unlink_proxy(path: Any, *, dir_fd: int | None = None) -> None:
    found = managed(path, dir_fd)
    if found is None or not _pycapio.unlink(found[0].handle, encoded(found[1]), found[1]):
        _unlink(path, dir_fd=dir_fd)


@proxy_for(_rmdir, module="os")
def rmdir_proxy(path: Any, *, dir_fd: int | None = None) -> None:
    found = managed(path, dir_fd)
    if found is None or not _pycapio.rmdir(found[0].handle, encoded(found[1]), found[1]):
        _rmdir(path, dir_fd=dir_fd)


def _rename_in_session(src: Any, dst: Any) -> bool:
    """False if neither path is CAPIO's, or one cannot be a path."""
    try:
        src, dst = os.fspath(src), os.fspath(dst)
    except TypeError:
        return False
    for path in (src, dst):
        found = managed(path)
        if found is None:
            continue
        ends = encoded(src), encoded(dst)
        if not all(ends) or b"\0" in ends[0] or b"\0" in ends[1]:
            return False
        if _pycapio.rename(found[0].handle, *ends, src, dst):
            return True
    return False


@proxy_for(_rename, module="os")
def rename_proxy(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    if src_dir_fd is not None or dst_dir_fd is not None or not _rename_in_session(src, dst):
        _rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)


@proxy_for(_replace, module="os")
def replace_proxy(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    if src_dir_fd is not None or dst_dir_fd is not None or not _rename_in_session(src, dst):
        _replace(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
