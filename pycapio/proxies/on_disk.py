"""Directories that only the store has, made in CAPIO_DIR itself: for what somebody else than Python
is about to make there by its name."""

from __future__ import annotations

import os
import posixpath
import stat as _stat
from typing import Any

from pycapio._pycapio import FOR_LOOKUP
from pycapio.proxies import places
from pycapio.proxies._dispatch import backing

_mkdir = os.mkdir
_os_lstat = os.lstat
_os_stat = os.stat


def is_there(path: Any) -> bool:
    """Whether the kernel has something by this very name."""
    try:
        _os_lstat(path)
    except OSError:
        return False
    return True


def make_directory_of(path: Any) -> None:
    """Makes the directory that a path of CAPIO_DIR is in, and those above it, with their modes, as
    far as the store has them. Raises OSError if one cannot be made."""
    directory = posixpath.dirname(places.joined(places.current_directory(), path))
    missing = []
    try:
        while not is_there(directory):
            where = backing(directory, FOR_LOOKUP)
            if where is None:
                return
            missing.append((directory, _stat.S_IMODE(_os_stat(where).st_mode)))
            directory = posixpath.dirname(directory)
    except FileNotFoundError:
        return  # the kernel says so, too
    for directory, mode in reversed(missing):
        try:
            _mkdir(directory, mode)
        except FileExistsError:
            continue
