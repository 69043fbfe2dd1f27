"""Twin of socket.bind: an address of the Unix family is a name that the kernel itself makes.

It makes it in CAPIO_DIR, where any program finds it. So a directory that only the store has is made
there first (``multiprocessing`` puts its sockets below TMPDIR), and a name that the store has is in
use.
"""

from __future__ import annotations

import errno
import os
from types import ModuleType
from typing import Any

from pycapio._pycapio import FOR_LOOKUP, NOFOLLOW
from pycapio.patching import proxy_for
from pycapio.proxies import on_disk, places
from pycapio.proxies._dispatch import backing, managed


def bind_for(socket: ModuleType) -> Any:
    """The twin of socket.socket.bind."""
    unix = socket.AF_UNIX
    original = socket.socket.bind

    @proxy_for(original, module="socket")
    def bind(self: Any, address: Any, /) -> Any:
        # Names that begin with a NUL are no files.
        if self.family == unix and isinstance(address, (str, bytes)) and managed(address):
            _prepare(address)
        return original(self, address)

    return bind


def install(socket: ModuleType) -> None:
    """Replaces bind in a socket module that is imported while functions are replaced."""
    kind: Any = socket.socket
    if "bind" not in vars(kind):
        kind.bind = bind_for(socket)


def _prepare(address: Any) -> None:
    if _exists(places.joined(places.current_directory(), address)):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    on_disk.make_directory_of(address)


def _exists(path: Any) -> bool:
    """Whether CAPIO has something by that name."""
    try:
        where = backing(path, FOR_LOOKUP | NOFOLLOW)
    except OSError:
        return False
    return where is not None and on_disk.is_there(where)
