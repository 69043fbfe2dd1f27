"""pycapio: files of a workflow's steps streamed while they are being written.

``CapioContext`` (a decorator and context manager) and the launcher ``pycapio`` intercept Python's
file accesses under one directory and serve them through CAPIO, so that a step can read what
another is still writing. Nothing is loaded or started before the first intercepted call.
"""

from functools import wraps
from typing import Any

from pycapio._pycapio import (
    CAPIO_DEFAULT_APP_NAME,
    CAPIO_DEFAULT_WORKFLOW_NAME,
    PyCAPIOException,
)
from pycapio._version import __version__
from pycapio.context import CapioContext
from pycapio.files import FILE_MODES, PyCapioBinaryIOWrapper, PyCapioTextIOWrapper
from pycapio.path import PyCapioPath
from pycapio.proxies import (
    listdir_proxy,
    makedirs_proxy,
    mkdir_proxy,
    open_proxy,
    scandir_proxy,
)
from pycapio.rules import CapioCLRule
from pycapio.scandir import DirEntry, PyCapioScandirWrapper
from pycapio.session import (
    backing_path as resolve,
)
from pycapio.session import (
    pycapio_get_capio_dir,
    pycapio_init,
    pycapio_mkdir,
    pycapio_open,
    pycapio_teardown,
)

__all__ = [
    "CAPIO_DEFAULT_APP_NAME",
    "CAPIO_DEFAULT_WORKFLOW_NAME",
    "FILE_MODES",
    "Any",
    "CapioCLRule",
    "CapioContext",
    "DirEntry",
    "PyCAPIOException",
    "PyCapioBinaryIOWrapper",
    "PyCapioPath",
    "PyCapioScandirWrapper",
    "PyCapioTextIOWrapper",
    "__version__",
    "listdir_proxy",
    "makedirs_proxy",
    "mkdir_proxy",
    "open_proxy",
    "pycapio_get_capio_dir",
    "pycapio_init",
    "pycapio_mkdir",
    "pycapio_open",
    "pycapio_teardown",
    "resolve",
    "scandir_proxy",
    "wraps",
]
