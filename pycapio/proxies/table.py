"""The table of what is patched: every function, where it lives, and its twin.

A function that only needs its path translated has no code of its own: it is a row of _TRANSLATED.
What Python itself builds from these (os.renames, removedirs, walk, fwalk, shutil, glob) needs none.
"""

from __future__ import annotations

import _posixsubprocess
import builtins
import genericpath
import io
import os
import pathlib
import posixpath
import sys
from typing import Any, Final

from pycapio import children
from pycapio._pycapio import FOR_CHANGE, FOR_CREATE, FOR_EXISTENCE
from pycapio.patching import Patcher, Replacement
from pycapio.proxies import (
    descriptors,
    directories,
    importing,
    loaders,
    names,
    opening,
    queries,
    raw,
    sockets,
    spawning,
    translated,
)
from pycapio.proxies.translated import Links, Row
from pycapio.scandir import DirEntry

_TRANSLATED: Final = (
    Row("chmod", FOR_CHANGE, Links.ARGUMENT),
    Row("chown", FOR_CHANGE, Links.ARGUMENT),
    Row("lchown", FOR_CHANGE, Links.ITSELF),
    Row("fchmod", FOR_CHANGE),
    Row("fchown", FOR_CHANGE),
    Row("utime", FOR_CHANGE, Links.ARGUMENT, shows_path=sys.version_info >= (3, 13)),
    Row("readlink", FOR_EXISTENCE, Links.ITSELF),
    Row("statvfs", FOR_EXISTENCE),
    Row("pathconf", FOR_EXISTENCE),
    Row("mkfifo", FOR_CREATE, shows_path=False),
    Row("mknod", FOR_CREATE, shows_path=False),
    Row("listxattr", FOR_EXISTENCE, Links.ARGUMENT),
    Row("getxattr", FOR_EXISTENCE, Links.ARGUMENT),
    Row("setxattr", FOR_CHANGE, Links.ARGUMENT),
    Row("removexattr", FOR_CHANGE, Links.ARGUMENT),
)

_WRITTEN: Final[tuple[tuple[Any, str, Any], ...]] = (
    (builtins, "open", opening.open_proxy),
    (io, "open", opening.open_proxy),
    (io, "FileIO", raw.FileIO),
    (io, "open_code", opening.open_code_proxy),
    (os, "_exit", opening.exit_proxy),
    *descriptors.TWINS,
    *loaders.TWINS,
    (os, "execv", spawning.execv_proxy),
    (os, "execve", spawning.execve_proxy),
    (os, "kill", spawning.kill_proxy),
    (os, "posix_spawn", spawning.posix_spawn_proxy),
    (os, "posix_spawnp", spawning.posix_spawnp_proxy),
    (os, "system", spawning.system_proxy),
    (os, "wait", spawning.wait_proxy),
    (os, "wait3", spawning.wait3_proxy),
    (os, "wait4", spawning.wait4_proxy),
    (os, "waitid", spawning.waitid_proxy),
    (os, "waitpid", spawning.waitpid_proxy),
    (_posixsubprocess, "fork_exec", spawning.fork_exec_proxy),
    (os, "mkdir", names.mkdir_proxy),
    (os, "makedirs", names.makedirs_proxy),
    (os, "scandir", names.scandir_proxy),
    (os, "listdir", names.listdir_proxy),
    (os, "remove", names.remove_proxy),
    (os, "unlink", names.unlink_proxy),
    (os, "rmdir", names.rmdir_proxy),
    (os, "rename", names.rename_proxy),
    (os, "replace", names.replace_proxy),
    (os, "link", names.link_proxy),
    (os, "symlink", names.symlink_proxy),
    (os, "chdir", directories.chdir_proxy),
    (os, "getcwd", directories.getcwd_proxy),
    (os, "getcwdb", directories.getcwdb_proxy),
    (os, "stat", queries.stat_proxy),
    (os, "lstat", queries.lstat_proxy),
    (os, "access", queries.access_proxy),
    (os, "DirEntry", DirEntry),
    (genericpath, "exists", queries.exists_proxy),
    (genericpath, "isfile", queries.isfile_proxy),
    (genericpath, "isdir", queries.isdir_proxy),
    (posixpath, "exists", queries.exists_proxy),
    (posixpath, "isfile", queries.isfile_proxy),
    (posixpath, "isdir", queries.isdir_proxy),
    (posixpath, "lexists", queries.lexists_proxy),
    (posixpath, "islink", queries.islink_proxy),
    (posixpath, "ismount", queries.ismount_proxy),
)


def _replacements() -> list[Replacement]:
    rows = [Replacement(owner, name, proxy) for owner, name, proxy in _WRITTEN]
    rows += [
        Replacement(os, row.name, translated.twin(row))
        for row in _TRANSLATED
        if hasattr(os, row.name)  # xattr calls are Linux's, others not on every system
    ]
    if "socket" in sys.modules:  # otherwise when it is imported
        socket = sys.modules["socket"]
        rows.append(Replacement(socket.socket, "bind", sockets.bind_for(socket)))
    # Where they are defined, which in Python 3.13 is not pathlib.Path itself.
    rows += [
        Replacement(next(kind for kind in pathlib.Path.__mro__ if name in vars(kind)), name, proxy)
        for name, proxy in queries.path_methods.items()
    ]
    return rows


patcher: Final = Patcher(
    _replacements(),
    finder=importing.Finder,
    sites=(children.start_site,),
    # ntpath is imported everywhere, and about another system's paths.
    exclude=("pycapio", "_pycapio_gates", "ntpath"),
)
