"""Says so, once for each library, when native code is given the path of a managed file.

Such a library opens the file by itself, in CAPIO_DIR, and neither waits nor publishes. Its entry
points are wrapped when it is imported.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

# By module: the entry points, as (owner in the module or "", name, which argument is the path), and
# the way out.
_ENTRY_POINTS: Final[dict[str, tuple[tuple[tuple[str, str, int], ...], str]]] = {
    "h5py": ((("File", "__init__", 1),), "pass an open file: h5py.File(open(path, 'rb'), 'r')"),
    "pyarrow.parquet": (
        (("", "read_table", 0), ("", "write_table", 1), ("ParquetFile", "__init__", 1)),
        "pass an open file: pyarrow.parquet.read_table(open(path, 'rb'))",
    ),
    "sqlite3": ((("", "connect", 0),), "put the data base outside CAPIO_DIR, or exclude it"),
}

_Test = Callable[[str], bool]


def watch(spec: ModuleSpec, is_managed: _Test) -> ModuleSpec:
    """Makes the import of one of these modules wrap its entry points."""
    loader: Any = spec.loader
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        _wrap(module, is_managed)

    # On the instance, so that the loader stays what it is for everybody else.
    loader.exec_module = exec_module
    return spec


def is_watched(fullname: str) -> bool:
    return fullname in _ENTRY_POINTS


def _wrap(module: ModuleType, is_managed: _Test) -> None:
    points, way_out = _ENTRY_POINTS[module.__name__]
    told: list[str] = []
    for owner_name, name, at in points:
        owner: Any = getattr(module, owner_name, None) if owner_name else module
        original = getattr(owner, name, None)
        if original is None or hasattr(original, "_pycapio_watched"):
            continue
        replacement = _watched(original, at, module.__name__, way_out, is_managed, told)
        try:
            setattr(owner, name, replacement)
        except TypeError:  # a class written in C, of another version of the library
            continue


def _watched(
    original: Any, at: int, module: str, way_out: str, is_managed: _Test, told: list[str]
) -> Any:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        path = args[at] if len(args) > at else None
        if not told and isinstance(path, (str, bytes, os.PathLike)):
            text = os.fsdecode(path)
            if text[:1] != ":" and is_managed(text):  # ":memory:"
                told.append(text)
                warnings.warn(
                    f"pycapio: {module} opens {text!r} in native code, where it is neither waited "
                    f"for nor streamed; {way_out} (docs/limits.md)",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return original(*args, **kwargs)

    call._pycapio_watched = True  # type: ignore[attr-defined]
    return call
