"""Twins of calls about one path that need only its translation: they are generated from rows."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any, NamedTuple

from pycapio._pycapio import FOR_CHANGE, FOR_ENTRY, NOFOLLOW
from pycapio.patching import proxy_for
from pycapio.proxies import places
from pycapio.proxies._dispatch import At, backing, with_user_path
from pycapio.session import current


class Links(Enum):
    """What a call does with a path that ends in a symbolic link."""

    FOLLOWED = "the call is about what the link leads to"
    ITSELF = "the call is about the link"
    ARGUMENT = "follow_symlinks says which"


class Row(NamedTuple):
    """A function of os whose first argument is a path, or a descriptor."""

    name: str
    purpose: int  # FOR_*: what the path is resolved for, and so what is waited for
    links: Links = Links.FOLLOWED
    shows_path: bool = True  # whether the original's errors hold the path


def _changes(fd: int) -> None:
    """A file that has been written back is so once more when its owner, mode or times change: to be
    called before that and, as it may be written back meanwhile, after it."""
    name = places.kernel_name(fd) if current() else None
    path = None if name is None else places.user_path(name)
    if path is not None:
        backing(path, FOR_CHANGE)


def twin(row: Row) -> Any:
    """Resolves the path, relative to dir_fd if that is given, and calls the original."""
    original = getattr(os, row.name)
    purpose = row.purpose | NOFOLLOW if row.links is Links.ITSELF else row.purpose
    by_argument = row.links is Links.ARGUMENT

    @proxy_for(original, module="os")
    def proxy(path: Any, *args: Any, **kwargs: Any) -> Any:
        wanted = purpose
        if by_argument and not kwargs.get("follow_symlinks", True):
            wanted |= NOFOLLOW
        try:
            dir_fd = kwargs.get("dir_fd")
            where = backing(path, wanted, dir_fd)
            if where is None:
                if row.purpose != FOR_CHANGE or not isinstance(path, int):
                    return original(path, *args, **kwargs)
                _changes(path)
                result = original(path, *args, **kwargs)
                _changes(path)
                return result
            kwargs.pop("dir_fd", None)
            shown = At(path, dir_fd)
            if row.purpose == FOR_CHANGE:
                # A directory may be in CAPIO_DIR itself, too, and is changed there first.
                below = backing(path, FOR_ENTRY | wanted & ~255, dir_fd)
                if below is not None and below != where:
                    with_user_path(original, shown, below, *args, **kwargs)
            result = with_user_path(original, shown, where, *args, **kwargs)
            if row.purpose == FOR_CHANGE:
                backing(path, wanted, dir_fd)  # for the reason that _changes names
            return result
        except OSError as error:
            if row.shows_path:
                raise
            raise OSError(error.errno, error.strerror) from None

    return proxy
