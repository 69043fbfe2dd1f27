"""Twins of the calls that make, list, remove and rename names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from pycapio import _pycapio
from pycapio import scandir as _scandir
from pycapio._pycapio import encoded
from pycapio.patching import proxy_for
from pycapio.proxies import places
from pycapio.proxies._dispatch import At, managed, managed_directory, with_user_path
from pycapio.proxies.queries import exists_proxy, isdir_proxy
from pycapio.session import Session

_mkdir = os.mkdir
_makedirs = os.makedirs
_scandir_original = os.scandir
_listdir = os.listdir
_remove = os.remove
_unlink = os.unlink
_rmdir = os.rmdir
_rename = os.rename
_replace = os.replace
_link = os.link
_symlink = os.symlink


@proxy_for(_mkdir, module="os")
def mkdir_proxy(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    """``os.mkdir``, inside CAPIO_DIR in the store. Never waits; errors as os.mkdir's."""
    found = managed(path, dir_fd) if isinstance(mode, int) else None
    if found is None:
        return _mkdir(path, mode, dir_fd=dir_fd)
    session, name = found
    if not _pycapio.mkdir(session.handle, encoded(name), mode, os.fspath(path)):
        with_user_path(_mkdir, At(path, dir_fd), name, mode)


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
    found = managed_directory(path)
    if found is None:
        return _scandir_original(path)
    return _scandir.iterate("." if path is None else path, found[1])


@proxy_for(_listdir, module="os")
def listdir_proxy(path: Any = None) -> Any:
    """``os.listdir``: inside CAPIO_DIR the union of store and directory, in creation order."""
    found = managed_directory(path)
    if found is not None:
        names = _scandir.list_names(found[0], found[1], path if isinstance(path, int) else found[1])
        if names is not None:
            return names
    return _listdir(path)


_Removal = Callable[[Any, bytes, Any], bool]


def _removed(call: _Removal, original: Any, path: Any, dir_fd: Any) -> None:
    found = managed(path, dir_fd)
    if found is None:
        original(path, dir_fd=dir_fd)
    elif not call(found[0].handle, encoded(found[1]), os.fspath(path)):
        with_user_path(original, At(path, dir_fd), found[1])


@proxy_for(_remove, module="os")
def remove_proxy(path: Any, *, dir_fd: int | None = None) -> None:
    _removed(_pycapio.unlink, _remove, path, dir_fd)


@proxy_for(_unlink, module="os")
def unlink_proxy(path: Any, *, dir_fd: int | None = None) -> None:
    _removed(_pycapio.unlink, _unlink, path, dir_fd)


@proxy_for(_rmdir, module="os")
def rmdir_proxy(path: Any, *, dir_fd: int | None = None) -> None:
    _removed(_pycapio.rmdir, _rmdir, path, dir_fd)


# ---- calls with two paths -----------------------------------------------------------------------


class _Ends:
    """The two paths of a call."""

    def __init__(self, src: Any, dst: Any, src_dir_fd: Any, dst_dir_fd: Any) -> None:
        self.shown = os.fspath(src), os.fspath(dst)
        found = managed(src, src_dir_fd), managed(dst, dst_dir_fd)
        # The sessions to be asked. Neither path may be CAPIO's.
        self.sessions: list[Session] = []
        for one in found:
            if one is not None and one[0] not in self.sessions:
                self.sessions.append(one[0])
        descriptors = src_dir_fd, dst_dir_fd
        self.names = [
            self._name(*each) for each in zip(found, self.shown, descriptors, strict=True)
        ]
        names = [encoded(name) for name in self.names]
        if any(b"\0" in name for name in names):
            self.sessions = []
        self.encoded = names[0], names[1]

    @staticmethod
    def _name(found: Any, path: Any, dir_fd: Any) -> Any:
        if found is not None:
            return found[1]
        if dir_fd is None or path[:1] in ("/", b"/", "", b""):
            return path
        # Beside a path of CAPIO's one that a descriptor outside leads to.
        directory = places.kernel_name(dir_fd)
        return path if directory is None else places.joined(directory, path)

    def original(self, call: Callable[..., None], **options: Any) -> None:
        """The original call, of two paths that are not CAPIO's after all."""
        try:
            call(*self.names, **options)
        except OSError as error:
            error.filename, error.filename2 = self.shown
            raise


def _ends(src: Any, dst: Any, src_dir_fd: Any, dst_dir_fd: Any) -> _Ends | None:
    """None if the call is the original's business, which says what is wrong, too."""
    try:
        ends = _Ends(src, dst, src_dir_fd, dst_dir_fd)
    except TypeError:
        return None
    return ends if ends.sessions else None


def _renamed(original: Any, src: Any, dst: Any, src_dir_fd: Any, dst_dir_fd: Any) -> None:
    ends = _ends(src, dst, src_dir_fd, dst_dir_fd)
    if ends is None:
        return original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)  # type: ignore[no-any-return]
    for session in ends.sessions:
        if _pycapio.rename(session.handle, *ends.encoded, *ends.shown):
            return
    ends.original(original)


@proxy_for(_rename, module="os")
def rename_proxy(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    _renamed(_rename, src, dst, src_dir_fd, dst_dir_fd)


@proxy_for(_replace, module="os")
def replace_proxy(
    src: Any, dst: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None
) -> None:
    _renamed(_replace, src, dst, src_dir_fd, dst_dir_fd)


@proxy_for(_link, module="os")
def link_proxy(
    src: Any,
    dst: Any,
    *,
    src_dir_fd: int | None = None,
    dst_dir_fd: int | None = None,
    follow_symlinks: bool = True,
) -> None:
    ends = _ends(src, dst, src_dir_fd, dst_dir_fd)
    if ends is None:
        return _link(
            src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks
        )
    # Python calls link(2), which follows nothing, unless it needs linkat(2).
    described = src_dir_fd is not None or dst_dir_fd is not None
    follow = bool(follow_symlinks) and described
    for session in ends.sessions:
        if _pycapio.link(session.handle, *ends.encoded, follow, *ends.shown):
            return
    ends.original(_link, follow_symlinks=follow_symlinks)


@proxy_for(_symlink, module="os")
def symlink_proxy(
    src: Any, dst: Any, target_is_directory: bool = False, *, dir_fd: int | None = None
) -> None:
    found = managed(dst, dir_fd)
    try:
        content = encoded(os.fspath(src))
    except TypeError:
        found = None
    if found is None or b"\0" in content:
        return _symlink(src, dst, target_is_directory, dir_fd=dir_fd)
    session, name = found
    shown = os.fspath(src), os.fspath(dst)
    if not _pycapio.symlink(session.handle, content, encoded(name), *shown):
        try:
            _symlink(src, name, target_is_directory)
        except OSError as error:
            error.filename2 = shown[1]
            raise
