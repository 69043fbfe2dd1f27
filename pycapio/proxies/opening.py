"""Twins of the calls that open and close files, and of the process's exit."""

from __future__ import annotations

import builtins
import io
import os
from typing import Any

from pycapio import descriptors
from pycapio import session as _session
from pycapio._pycapio import FOR_LOOKUP
from pycapio.files import adopt, open_in_session
from pycapio.patching import proxy_for
from pycapio.proxies._dispatch import managed, never_waits

_open = builtins.open
_open_code = io.open_code
_os_open = os.open
_os_exit = os._exit


@proxy_for(_open, module="io")
def open_proxy(
    file: Any,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """``open``: for a path inside CAPIO_DIR the file object waits and publishes as CAPIO-CL says.

    Arguments, result and errors are those of the built-in. A consumer of a declared output that
    does not exist yet waits for it; OSError EOWNERDEAD if its producer failed.
    """
    found = None if opener is not None or not isinstance(mode, str) else managed(file)
    if found is None:
        result = _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if (opener is not None or isinstance(file, int)) and descriptors.table:
            return adopt(result, mode, buffering)
        return result
    # The file object shows the path as text, whatever it was given as.
    session, name = found
    return open_in_session(
        session, name, mode, buffering, encoding, errors, newline, closefd, never_waits
    )


@proxy_for(_open_code, module="io")
def open_code_proxy(path: Any) -> Any:
    # Sources never wait.
    found = managed(path)
    backing = None if found is None else found[0].resolve(found[1], FOR_LOOKUP)
    return _open_code(path if backing is None else backing)


@proxy_for(_os_exit, module="os")
def exit_proxy(status: int) -> None:
    # No exit handler will run: this is the last chance to say how the process ends.
    _session.goodbye_all(bad=status != 0)
    _os_exit(status)
