"""Where a relative path is taken from: the current directory, or a directory descriptor.

The kernel's own names say it, without any book-keeping of ours: what ``/proc/self/fd`` and getcwd
show of a directory of the store is translated back to the directory of CAPIO_DIR that it stands
for. So it is right for descriptors that came by dup, by inheritance or over a socket, and after the
directory was renamed.
"""

from __future__ import annotations

import os
from typing import Any

from pycapio.session import current

_fstat = os.fstat
_readlink = os.readlink
_getcwd = os.getcwd


def user_path(name: str) -> str | None:
    """The user's path of what the kernel calls by an absolute name; None if it is not CAPIO's."""
    for session in reversed(current()):
        if session.handle is not None:
            found = session.user_path(name)
            if found is not None:
                return found
    return None


def current_directory() -> str:
    """os.getcwd: the user's path. OSError as of that."""
    name = _getcwd()
    found = user_path(name)
    return name if found is None else found


def kernel_name(fd: Any) -> str | None:
    """What the kernel calls an open file; None if it has no name, any more."""
    if not isinstance(fd, int) or fd < 0:
        return None
    try:
        name = _readlink(f"/proc/self/fd/{fd}")
        if name[:1] != "/" or (name.endswith(" (deleted)") and not _fstat(fd).st_nlink):
            return None
    except OSError:
        return None
    return name


def path_of(fd: Any) -> str | None:
    """The user's path of a file or directory of CAPIO_DIR, real or in the store, that fd is open
    on."""
    name = kernel_name(fd) if current() else None
    return None if name is None else user_path(name)


def below(dir_fd: Any, path: Any) -> Any:
    """The absolute path of what a path means relative to a directory descriptor; None if that is
    no directory of CAPIO_DIR."""
    if not isinstance(dir_fd, int):
        return None  # the original says what is wrong with that
    if path[:1] in ("/", b"/"):
        return path
    directory = path_of(dir_fd)
    return None if directory is None else joined(directory, path)


def joined(directory: str, path: Any) -> Any:
    return os.path.join(directory if isinstance(path, str) else os.fsencode(directory), path)
