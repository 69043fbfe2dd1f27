"""Twins of the calls about the current directory.

A process enters CAPIO_DIR's own directory where there is one, since that is what programs that are
not Python see, and else the store's; then the kernel's current directory is one of the store's, and
getcwd shows the user's path. What the process leaves in that state when it stops using CAPIO is
``Session.leave_store``'s business.
"""

from __future__ import annotations

import os
from typing import Any

from pycapio._pycapio import FOR_ENTRY
from pycapio.patching import proxy_for
from pycapio.proxies import places
from pycapio.proxies._dispatch import backing, with_user_path

_chdir = os.chdir
_getcwd = os.getcwd
_getcwdb = os.getcwdb


@proxy_for(_chdir, module="os")
def chdir_proxy(path: Any) -> None:
    """``os.chdir``. A consumer waits for a declared directory to exist."""
    where = backing(path, FOR_ENTRY)
    if where is None:
        return _chdir(path)
    with_user_path(_chdir, path, where)


@proxy_for(_getcwd, module="os")
def getcwd_proxy() -> str:
    return places.current_directory()


@proxy_for(_getcwdb, module="os")
def getcwdb_proxy() -> bytes:
    return os.fsencode(places.current_directory())
