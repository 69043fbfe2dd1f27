"""The low-level API: one session per process, descriptors and the wrappers around them."""

from pycapio._pycapio import CAPIO_DEFAULT_APP_NAME, CAPIO_DEFAULT_WORKFLOW_NAME, PyCAPIOException
from pycapio.files import FILE_MODES, PyCapioBinaryIOWrapper, PyCapioTextIOWrapper
from pycapio.path import PyCapioPath
from pycapio.scandir import DirEntry, PyCapioScandirWrapper
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
    "DirEntry",
    "PyCAPIOException",
    "PyCapioBinaryIOWrapper",
    "PyCapioPath",
    "PyCapioScandirWrapper",
    "PyCapioTextIOWrapper",
    "pycapio_get_capio_dir",
    "pycapio_init",
    "pycapio_mkdir",
    "pycapio_open",
    "pycapio_teardown",
]
