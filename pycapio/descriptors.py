"""Which descriptor numbers of this process are CAPIO's, and the handle that watches each.

Descriptors can be closed behind our back, by C code or a child's ``dup2``, and their numbers be
given to other files: an entry counts only as long as the number still means the same file.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Final

from pycapio import _pycapio

_fstat = os.fstat
_get_inheritable = os.get_inheritable


class Descriptor:
    """One descriptor that CAPIO watches.

    ``with descriptor as handle`` keeps the close of another thread from counting before the call is
    done, which may write by other means than the handle; it is None if one has closed already.
    """

    __slots__ = (
        "_busy",
        "_closing",
        "_fate",
        "_handle",
        "_handled_at_open",
        "_open",
        "device",
        "fd",
        "inode",
        "name",
        "owner",
        "session",
        "write_failed",
        "writer",
    )

    def __init__(self, fd: int, session: Any, handle: Any, name: Any, writer: bool) -> None:
        """name: the user's, for what goes wrong while waiting."""
        status = _fstat(fd)
        self.fd = fd
        self.device, self.inode = status.st_dev, status.st_ino
        self.session = session
        self.name = name
        self.writer = writer
        self.write_failed = False
        # A weak reference to the file object that owns the descriptor, if there is one.
        self.owner: Any = None
        self._handle = handle
        self._handled_at_open = sys.exc_info()[1]
        # Lists, since what appends to them and pops from them needs no lock.
        self._busy: list[None] = []
        self._open: list[None] = [None]
        self._closing: int | None = None
        self._fate = _pycapio.FD_CLOSED

    def __enter__(self) -> Any:
        self._busy.append(None)
        return self._handle if self._closing is None else None

    def __exit__(self, *error: object) -> None:
        self._busy.pop()
        if self._closing is not None:
            self._end(self._closing)

    def holds(self) -> bool:
        """Whether the number is still this file's."""
        try:
            status = _fstat(self.fd)
        except OSError:
            return False
        return status.st_ino == self.inode and status.st_dev == self.device

    def closing(self) -> None:
        """The descriptor is about to be closed by its number: calls of other threads, which may be
        on their way to it, end first."""
        _pycapio.file_quiesce(self._handle)

    def closed(self) -> None:
        """The descriptor has been closed: that counts, once nobody uses the handle any more."""
        owner = None if self.owner is None else self.owner()
        if owner is not None:
            owner.lose_handle()
        how = _pycapio.CLOSE_COUNT
        if self.write_failed:
            how = _pycapio.CLOSE_FAILED
        elif self.writer:
            error = sys.exc_info()[1]
            if error is not None and left_by(error, self._handled_at_open):
                how = _pycapio.CLOSE_ABANDONED
        self.end(how, _pycapio.FD_CLOSED)

    def end(self, how: int, fate: int) -> None:
        """As ``closed``, when it is known what the close means, and what becomes of the
        descriptor."""
        self._fate = fate
        self._closing = how
        self._end(how)

    def _end(self, how: int) -> None:
        if self._busy:
            return
        try:
            self._open.pop()
        except IndexError:  # another thread was faster
            return
        _pycapio.file_close(self._handle, how, self._fate)


def left_by(error: BaseException, handled_at_open: BaseException | None) -> bool:
    """Whether a close while this exception is handled is one on its way out: the file may lack
    what was still to come.

    handled_at_open: the exception that was being handled when the file was opened, which is not
    meant. A generator that is closed early (GeneratorExit) is not an error.
    """
    return error is not handled_at_open and not isinstance(
        error, (GeneratorExit, StopIteration, StopAsyncIteration)
    )


# By number. While it is empty a patched call goes straight to the original.
table: Final[dict[int, Descriptor]] = {}

# Held while a file object enters the table, which is about to be closed in another thread, perhaps.
# Reentrant, since a finalizer may close one in between.
entering = threading.RLock()


def register(fd: int, session: Any, handle: Any, name: Any, writer: bool) -> Descriptor:
    """The handle watches the descriptor from now on, until that is closed."""
    entry = Descriptor(fd, session, handle, name, writer)
    stale = enter(entry)
    if stale is not None:
        stale.closed()
    return entry


def enter(entry: Descriptor) -> Descriptor | None:
    """Puts an entry in the table. Returns the one that had its number before, and has been
    closed."""
    stale = table.get(entry.fd)
    table[entry.fd] = entry
    return stale


def find(fd: Any) -> Descriptor | None:
    """The entry of a descriptor; None if it is an ordinary one."""
    try:
        entry = table.get(fd)
    except TypeError:  # no number: the original says what is wrong
        return None
    if entry is None or entry.holds():
        return entry
    forget(entry)
    entry.closed()
    return None


def take(fd: Any) -> Descriptor | None:
    """The entry of a descriptor that is about to be closed, no longer in the table."""
    entry = find(fd)
    if entry is not None:
        forget(entry)
    return entry


def forget(entry: Descriptor) -> None:
    """Takes an entry out of the table, if it is there."""
    if table.get(entry.fd) is entry:
        del table[entry.fd]


def duplicated(fd: int, copy: int) -> None:
    """``copy`` has been made a duplicate of ``fd``: it is watched like that."""
    entry = find(fd)
    if entry is None:
        return
    with entry as handle:
        if handle is not None:
            made = _pycapio.file_duplicate(handle, copy)
            register(copy, entry.session, made, entry.name, entry.writer)


def expose(fd: int) -> None:
    """Says that others get the descriptor, a child perhaps: a consumer's file is waited for until
    it is complete, and a writer's is complete only when they, too, have closed it."""
    entry = find(fd)
    if entry is not None:
        with entry as handle:
            if handle is not None:
                _pycapio.file_expose(handle, entry.name)


def expose_inheritable() -> None:
    """Exposes what a program gets that is started without a list of descriptors to pass."""
    for fd, entry in list(table.items()):
        if entry.holds() and _get_inheritable(fd):
            expose(fd)


def any_of(session: Any) -> bool:
    """Whether a descriptor of the session is open."""
    return any(
        entry.session is session and find(fd) is not None for fd, entry in list(table.items())
    )


def _after_fork_in_child() -> None:
    global entering
    entering = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
