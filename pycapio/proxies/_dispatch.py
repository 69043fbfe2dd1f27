"""What every proxy starts with: is this call about a CAPIO path, and what is its backing path?"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from pycapio._pycapio import FOR_LOOKUP, NOFOLLOW
from pycapio.proxies import places
from pycapio.session import Session, session_for

# Sources, modules and tracebacks never wait (S3): a step's script may lie in CAPIO_DIR under "*".
_SOURCE_SUFFIXES = (".py", ".pyc", ".pyi", ".pyw")
# Who shows a traceback asks these for every source in it, whatever its name.
_SOURCE_READERS = ("linecache", "tokenize", "traceback", "inspect")


def never_waits(path: Any) -> bool:
    """Whether the path is one that Python itself reads to run or to explain a program."""
    text = path if isinstance(path, str) else os.fsdecode(path)
    if text.endswith(_SOURCE_SUFFIXES) or "__pycache__" in text:
        directory = os.path.dirname(os.path.abspath(text))
        for entry in sys.path:
            root = os.path.abspath(entry or ".")
            if directory == root or directory.startswith(root.rstrip("/") + "/"):
                return True
    if sys.argv and text == sys.argv[0]:
        return True
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith("pycapio."):
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return frame.f_globals.get("__name__") in _SOURCE_READERS


def managed(path: Any, dir_fd: Any = None) -> tuple[Session, Any] | None:
    """The session that may have the path, and the path as str or bytes: with a dir_fd, which is
    not needed any more, an absolute one. None for what is not ours, and for what cannot be a path:
    the original says what is wrong with that."""
    name = path
    if not isinstance(name, (str, bytes)):
        if isinstance(path, int):
            return None
        try:
            name = os.fspath(path)
        except TypeError:
            return None
    if not name:
        return None
    if dir_fd is not None:
        name = places.below(dir_fd, name)
        if name is None:
            return None
    session = session_for(name)
    if session is None:
        return None
    nul: Any = "\0" if isinstance(name, str) else b"\0"
    return None if nul in name else (session, name)


def managed_directory(path: Any) -> tuple[Session, Any] | None:
    """The same for a directory to be listed, which may be given by a descriptor."""
    if not isinstance(path, int):
        return managed("." if path is None else path)
    directory = places.path_of(path)
    return None if directory is None else managed(directory)


def backing(path: Any, purpose: int, dir_fd: Any = None) -> Any:
    """The path for the original, which then takes no dir_fd; None if the call is its business
    altogether. May wait."""
    found = managed(path, dir_fd)
    if found is None:
        return None
    session, name = found
    where = session.resolve(name, purpose, never_waits, os.fspath(path))
    return name if where is None and dir_fd is not None else where


class _Asking(threading.local):
    """Whether the calling thread asks for existence or kind only."""

    existence = False


asking = _Asking()


def with_user_path(
    call: Callable[..., Any], path: Any, where: Any, *args: Any, **kwargs: Any
) -> Any:
    """Calls with the backing path ``where`` of a path; an error shows the path the user gave."""
    while True:
        try:
            return call(where, *args, **kwargs)
        except OSError as error:
            elsewhere = moved(path, where) if isinstance(error, FileNotFoundError) else None
            if elsewhere is None:
                if error.filename is not None:  # os.utime names no file
                    error.filename = os.fspath(getattr(path, "shown", path))
                raise
            where = elsewhere


class At:
    """A path relative to a directory descriptor."""

    def __init__(self, path: Any, dir_fd: Any) -> None:
        self.shown = path
        self.dir_fd = dir_fd


def moved(path: Any, where: Any) -> Any:
    """Where a path is now if it is there, but no longer at ``where``: the server moves files from
    memory to disk. None otherwise."""
    try:
        now = backing(
            getattr(path, "shown", path), FOR_LOOKUP | NOFOLLOW, getattr(path, "dir_fd", None)
        )
    except OSError:
        return None
    return now if now != where else None
