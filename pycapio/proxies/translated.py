"""Twins of calls about one path that need only its translation: they are generated from rows."""

from __future__ import annotations

import os
from enum import Enum
from typing import Any, NamedTuple

from pycapio import _pycapio
from pycapio._pycapio import FOR_CHANGE, FOR_ENTRY, NOFOLLOW, encoded
from pycapio.patching import proxy_for
from pycapio.proxies import places
from pycapio.proxies._dispatch import At, backing, managed, with_user_path


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


def _changed(path: Any, dir_fd: Any = None) -> None:
    """A file that has been written back is so once more when its owner, mode or times change. Where
    it is looked up for the change, that is noted; it may be written back between that and the
    change. Waits for nothing, as the call has been done."""
    found = managed(path, dir_fd)
    if found is None:
        return
    session, name = found
    try:
        _pycapio.notice_change(session.handle, encoded(name), path)
    except OSError:
        pass  # removed since


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
                name = places.path_of(path)
                if name is None:
                    return original(path, *args, **kwargs)
                backing(name, FOR_CHANGE)
                result = original(path, *args, **kwargs)
                _changed(name)
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
                _changed(path, dir_fd)
            return result
        except OSError as error:
            if row.shows_path:
                raise
            raise OSError(error.errno, error.strerror) from None

    return proxy
