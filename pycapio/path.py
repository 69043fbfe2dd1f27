"""PyCapioPath: os.path for CAPIO, whether or not anything is patched."""

from __future__ import annotations

import os
import posixpath
from typing import Any

from pycapio.proxies import queries


class _PosixPathNames(type):
    """Every name of posixpath that needs no file system is posixpath's own."""

    def __getattr__(cls, name: str) -> Any:
        return getattr(posixpath, name)

    def __dir__(cls) -> list[str]:
        return sorted({*super().__dir__(), *posixpath.__all__})


def _stat(path: Any) -> os.stat_result:
    return queries.stat_proxy(path)


def _same(first: Any, second: Any) -> bool:
    return bool(posixpath.samestat(first, second))


class PyCapioPath(metaclass=_PosixPathNames):
    """Every name of ``posixpath``, with its exact results; questions about a CAPIO path are
    answered through CAPIO. Use the class itself, as one uses the module ``os.path``.

    exists, lexists, isfile, isdir and islink wait, for a consumer of a declared output, until it
    exists; getsize and the get*time functions until it is committed.
    """

    exists = staticmethod(queries.exists_proxy)
    lexists = staticmethod(queries.lexists_proxy)
    isfile = staticmethod(queries.isfile_proxy)
    isdir = staticmethod(queries.isdir_proxy)
    islink = staticmethod(queries.islink_proxy)
    ismount = staticmethod(queries.ismount_proxy)

    @staticmethod
    def getsize(filename: Any) -> int:
        return _stat(filename).st_size

    @staticmethod
    def getmtime(filename: Any) -> float:
        return _stat(filename).st_mtime

    @staticmethod
    def getatime(filename: Any) -> float:
        return _stat(filename).st_atime

    @staticmethod
    def getctime(filename: Any) -> float:
        return _stat(filename).st_ctime

    @staticmethod
    def samefile(f1: Any, f2: Any) -> bool:
        return _same(_stat(f1), _stat(f2))
