"""Twins of the calls that ask about a path. Questions of existence and kind wait for existence;
size and times wait for commit (S3, S6)."""

from __future__ import annotations

import os
import pathlib
import posixpath
import stat as _stat
from collections.abc import Callable
from typing import Any

from pycapio import _pycapio
from pycapio._pycapio import FOR_CONTENT, FOR_EXISTENCE, NOFOLLOW, encoded
from pycapio.descriptors import table
from pycapio.patching import proxy_for
from pycapio.proxies._dispatch import (
    At,
    asking,
    backing,
    managed,
    moved,
    never_waits,
    with_user_path,
)
from pycapio.proxies.descriptors import await_size

_os_stat = os.stat
_os_lstat = os.lstat
_os_access = os.access
_ismount = posixpath.ismount


@proxy_for(_os_stat, module="os")
def stat_proxy(
    path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True
) -> os.stat_result:
    if type(path) is int:  # managed() says no to any integer, only later
        if table and not asking.existence:
            await_size(path)
        return _os_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
    found = managed(path, dir_fd)
    if found is not None:
        purpose = FOR_EXISTENCE if asking.existence else FOR_CONTENT
        if not follow_symlinks:
            purpose |= NOFOLLOW
        session, name = found
        shown = name if dir_fd is None else os.fspath(path)
        result = _pycapio.stat(session.handle, encoded(name), purpose, shown, never_waits)
        if result is not None:
            return result
        if dir_fd is not None:
            return with_user_path(  # type: ignore[no-any-return]
                _os_stat, At(path, dir_fd), name, follow_symlinks=follow_symlinks
            )
    return _os_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)


@proxy_for(_os_lstat, module="os")
def lstat_proxy(path: Any, *, dir_fd: int | None = None) -> os.stat_result:
    found = managed(path, dir_fd)
    if found is not None:
        purpose = FOR_EXISTENCE if asking.existence else FOR_CONTENT
        session, name = found
        shown = name if dir_fd is None else os.fspath(path)
        result = _pycapio.stat(
            session.handle, encoded(name), purpose | NOFOLLOW, shown, never_waits
        )
        if result is not None:
            return result
        if dir_fd is not None:
            return with_user_path(_os_lstat, At(path, dir_fd), name)  # type: ignore[no-any-return]
    return _os_lstat(path, dir_fd=dir_fd)


@proxy_for(_os_access, module="os")
def access_proxy(
    path: Any,
    mode: int,
    *,
    dir_fd: int | None = None,
    effective_ids: bool = False,
    follow_symlinks: bool = True,
) -> bool:
    try:
        purpose = FOR_EXISTENCE if follow_symlinks else FOR_EXISTENCE | NOFOLLOW
        where = backing(path, purpose, dir_fd)
    except OSError:
        return False
    if where is None:
        return _os_access(
            path, mode, dir_fd=dir_fd, effective_ids=effective_ids, follow_symlinks=follow_symlinks
        )

    def answer(place: Any) -> bool:
        return _os_access(place, mode, effective_ids=effective_ids, follow_symlinks=follow_symlinks)

    if answer(where):
        return True
    elsewhere = moved(At(path, dir_fd), where)
    return elsewhere is not None and answer(elsewhere)


def _asking_for_existence(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """A call that may end in os.stat, which then waits for existence only."""
    before, asking.existence = asking.existence, True
    try:
        return original(*args, **options)
    finally:
        asking.existence = before


def _existing(original: Callable[[Any], bool], test: Callable[[int], bool], nofollow: int) -> Any:
    """A question of existence or kind: ``test`` of the path's mode, or the original's answer."""
    purpose = FOR_EXISTENCE | nofollow
    # What the original calls.
    stat: Any = _os_lstat if nofollow else _os_stat
    name_of_stat, twin = stat.__name__, lstat_proxy if nofollow else stat_proxy

    def ask(path: Any) -> bool:
        if table and isinstance(path, int):  # without the wait of os.stat for the size
            return bool(_asking_for_existence(original, path))
        try:
            found = managed(path)
            if found is None:
                # Through its own os.stat, if that is ours, it would come by here once more.
                if getattr(os, name_of_stat) is twin:
                    return test(stat(path).st_mode)
                return original(path)
            session, name = found
            mode = _pycapio.mode(session.handle, encoded(name), purpose, name, never_waits)
        except (OSError, ValueError):
            return False
        return original(path) if mode is None else test(mode)

    # The argument may be given by its name, which is not the same for all.
    if original.__name__ == "isdir":

        def proxy(s: Any) -> bool:
            return ask(s)

    else:

        def proxy(path: Any) -> bool:  # type: ignore[misc]
            return ask(path)

    proxy.__qualname__ = f"{original.__name__}_proxy"  # what it is called below
    return proxy_for(original)(proxy)


exists_proxy = _existing(posixpath.exists, bool, 0)
lexists_proxy = _existing(posixpath.lexists, bool, NOFOLLOW)
isfile_proxy = _existing(posixpath.isfile, _stat.S_ISREG, 0)
isdir_proxy = _existing(posixpath.isdir, _stat.S_ISDIR, 0)
islink_proxy = _existing(posixpath.islink, _stat.S_ISLNK, NOFOLLOW)


@proxy_for(_ismount, module="posixpath")
def ismount_proxy(path: Any) -> bool:
    # Compares a directory with its parent, which must not be of another layer.
    try:
        where = backing(path, FOR_EXISTENCE | NOFOLLOW)
    except (OSError, ValueError):
        return False
    return _ismount(path if where is None else where)


def _path_method(name: str) -> Any:
    """pathlib.Path's question ``name``: its own code, whose stat then waits for existence only."""
    original = getattr(pathlib.Path, name)

    @proxy_for(original, module="pathlib")
    def method(self: Any, **options: Any) -> Any:
        return _asking_for_existence(original, self, **options)

    return method


path_methods = {
    name: _path_method(name)
    for name in (
        *("exists", "is_file", "is_dir", "is_symlink"),
        *("is_block_device", "is_char_device", "is_fifo", "is_socket"),
    )
}
