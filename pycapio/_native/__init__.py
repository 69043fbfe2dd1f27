"""Where libcapio.so and capio_server are.

Both lie in this directory once the package is built. ``CAPIO_LIB`` names another library, as a file
or as an installation prefix; its server is then the one beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

LIBRARY_NAME = "libcapio.so"
SERVER_NAME = "capio_server"

_HERE = Path(__file__).resolve().parent


class LibraryNotFound(RuntimeError):
    """libcapio.so or capio_server was not found; the text says where it was looked for."""


def library_path() -> Path:
    """The libcapio.so to load.

    A ``CAPIO_LIB`` that leads nowhere is an error, never a reason to load the bundled library.
    """
    chosen = os.environ.get("CAPIO_LIB")
    if not chosen:
        bundled = _HERE / LIBRARY_NAME
        if bundled.is_file():
            return bundled
        raise LibraryNotFound(
            f"the bundled library {bundled} does not exist; build it with scripts/build_capio.sh, "
            "reinstall pycapio, or set CAPIO_LIB to a libcapio.so or to the prefix of one"
        )
    path = Path(chosen)
    if path.is_file():
        return path.resolve()
    if not path.is_dir():
        raise LibraryNotFound(
            f"CAPIO_LIB is '{chosen}', which does not exist; "
            f"set it to a {LIBRARY_NAME} or to the prefix it is installed under, or unset it"
        )
    for found in _libraries_under(path):
        return found.resolve()
    raise LibraryNotFound(
        f"CAPIO_LIB is '{chosen}', which holds no {LIBRARY_NAME} (looked for "
        + ", ".join(str(path / pattern) for pattern in _LIBRARY_PATTERNS)
        + "); set it to the library or to the prefix it is installed under, or unset it"
    )


# A prefix: lib, lib64, or Debian's lib/<triplet>; or the directory of the library itself.
_LIBRARY_PATTERNS = (LIBRARY_NAME, f"lib*/{LIBRARY_NAME}", f"lib*/*/{LIBRARY_NAME}")


def _libraries_under(prefix: Path) -> Iterator[Path]:
    for pattern in _LIBRARY_PATTERNS:
        yield from (path for path in sorted(prefix.glob(pattern)) if path.is_file())


def server_path() -> Path:
    """The capio_server that belongs to library_path().

    It lies beside the library, in the ``bin`` of its prefix, or else on ``PATH``.
    """
    library = library_path()
    # lib/libcapio.so, or lib/<triplet>/libcapio.so
    looked_for = [
        library.parent / SERVER_NAME,
        library.parent.parent / "bin" / SERVER_NAME,
        library.parent.parent.parent / "bin" / SERVER_NAME,
    ]
    for candidate in looked_for:
        if _is_native(candidate):
            return candidate
    import shutil  # too slow to load for every start

    for directory in os.get_exec_path():
        on_path = shutil.which(SERVER_NAME, path=directory or os.curdir)
        if on_path is not None and _is_native(Path(on_path)):
            return Path(on_path).resolve()
    raise LibraryNotFound(
        f"{SERVER_NAME} was not found for {library} (looked for "
        + ", ".join(str(path) for path in looked_for)
        + ", and in PATH); install it beside the library or put its directory in PATH"
    )


def _is_native(path: Path) -> bool:
    """Whether path is a program. The command of that name may be exec_server, a script."""
    if not os.access(path, os.X_OK) or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def exec_server() -> NoReturn:
    """The command ``capio_server``: becomes the bundled server."""
    try:
        server = server_path()
        os.execv(server, [SERVER_NAME, *sys.argv[1:]])
    except (LibraryNotFound, OSError) as error:
        print(f"pycapio: {error}", file=sys.stderr)
        raise SystemExit(2) from None
