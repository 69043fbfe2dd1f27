"""CAPIO-aware twins of open, os.* and os.path.*: the original call outside CAPIO_DIR."""

from pycapio.proxies.names import (
    listdir_proxy,
    makedirs_proxy,
    mkdir_proxy,
    remove_proxy,
    rename_proxy,
    replace_proxy,
    rmdir_proxy,
    scandir_proxy,
    unlink_proxy,
)
from pycapio.proxies.opening import open_proxy
from pycapio.proxies.queries import (
    access_proxy,
    exists_proxy,
    isdir_proxy,
    isfile_proxy,
    islink_proxy,
    lexists_proxy,
    lstat_proxy,
    stat_proxy,
)

__all__ = [
    "access_proxy",
    "exists_proxy",
    "isdir_proxy",
    "isfile_proxy",
    "islink_proxy",
    "lexists_proxy",
    "listdir_proxy",
    "lstat_proxy",
    "makedirs_proxy",
    "mkdir_proxy",
    "open_proxy",
    "remove_proxy",
    "rename_proxy",
    "replace_proxy",
    "rmdir_proxy",
    "scandir_proxy",
    "stat_proxy",
    "unlink_proxy",
]
