"""Says so, once for each library, when native code is given the path of a managed file; or does
with Python what native code would do, for data bases and XML.

Such a library opens the file by itself, in CAPIO_DIR, and neither waits nor publishes; a directory
that only the store has is made there first. Its entry points are wrapped when it is imported. So
are two functions that are no library's.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final, NamedTuple

from pycapio import children
from pycapio.proxies import on_disk, sockets
from pycapio.proxies._dispatch import managed


class _EntryPoint(NamedTuple):
    name: str  # in the module, or "Class.method"
    at: int  # which argument is the path; the first one of a method is its object
    keyword: str  # and its name


_POLARS_READERS: Final = (
    "read_csv",
    "read_ipc",
    "read_ndjson",
    "read_parquet",
    "scan_csv",
    "scan_ipc",
    "scan_ndjson",
    "scan_parquet",
)
_POLARS_WRITERS: Final = ("write_csv", "write_ipc", "write_ndjson", "write_parquet")

_PYSAM_FILES: Final = ("AlignmentFile", "FastaFile", "FastxFile", "TabixFile", "VariantFile")

# By module: the entry points, and the way out.
_ENTRY_POINTS: Final[dict[str, tuple[tuple[_EntryPoint, ...], str]]] = {
    "duckdb": (
        (_EntryPoint("connect", 0, "database"),),
        "put the data base outside CAPIO_DIR, or exclude it",
    ),
    "h5py": (
        (_EntryPoint("File.__init__", 1, "name"),),
        "pass an open file: h5py.File(open(path, 'rb'), 'r')",
    ),
    "netCDF4": (
        (_EntryPoint("Dataset", 0, "filename"),),
        "pass its bytes: netCDF4.Dataset('name', memory=open(path, 'rb').read())",
    ),
    "polars": (
        (
            *(_EntryPoint(name, 0, "source") for name in _POLARS_READERS),
            *(_EntryPoint(f"DataFrame.{name}", 1, "file") for name in _POLARS_WRITERS),
        ),
        "pass an open file: polars.read_parquet(open(path, 'rb'))",
    ),
    "pyarrow": (
        (_EntryPoint("memory_map", 0, "path"), _EntryPoint("OSFile", 0, "path")),
        "pass an open file, as in pandas.read_parquet(open(path, 'rb'))",
    ),
    "pyarrow.csv": (
        (
            _EntryPoint("read_csv", 0, "input_file"),
            _EntryPoint("open_csv", 0, "input_file"),
            _EntryPoint("write_csv", 1, "output_file"),
        ),
        "pass an open file: pyarrow.csv.read_csv(open(path, 'rb'))",
    ),
    "pyarrow.dataset": (
        (_EntryPoint("dataset", 0, "source"), _EntryPoint("write_dataset", 1, "base_dir")),
        "read its files with pyarrow.parquet.read_table(open(path, 'rb'))",
    ),
    "pyarrow.feather": (
        (
            _EntryPoint("read_table", 0, "source"),
            _EntryPoint("read_feather", 0, "source"),
            _EntryPoint("write_feather", 1, "dest"),
        ),
        "pass an open file: pyarrow.feather.read_table(open(path, 'rb'))",
    ),
    "pyarrow.parquet": (
        (
            _EntryPoint("read_table", 0, "source"),
            _EntryPoint("write_table", 1, "where"),
            _EntryPoint("ParquetFile.__init__", 1, "source"),
            _EntryPoint("ParquetWriter.__init__", 1, "where"),
        ),
        "pass an open file: pyarrow.parquet.read_table(open(path, 'rb'))",
    ),
    "pysam": (
        tuple(_EntryPoint(name, 0, "filename") for name in _PYSAM_FILES),
        "pass an open file, where it takes one: pysam.AlignmentFile(open(path, 'rb'))",
    ),
    "rasterio": (
        (_EntryPoint("open", 0, "fp"),),
        "pass an open file: rasterio.open(open(path, 'rb'))",
    ),
    # Which sqlite3 has its functions from, and others take them from.
    "sqlite3.dbapi2": (
        (_EntryPoint("connect", 0, "database"),),
        "put the data base outside CAPIO_DIR, or exclude it",
    ),
}

# Data bases of native code, of which dbm.open and shelve.open take the first that Python has. New
# ones in CAPIO_DIR are of the kind that is written in Python.
_DATA_BASES: Final = ("dbm.gnu", "dbm.ndbm", "dbm.sqlite3")

# Functions that read the file that they are given the path of, or an open one.
_PARSERS: Final = {"lxml.etree": "parse", "lxml.objectify": "parse"}

# What else is replaced when it is imported: socket.bind, Process.start.
_OF_PYTHON: Final = ("socket", children.PROCESS_MODULE)

_Test = Callable[[str], bool]
_told: Final[set[str]] = set()


def watch(spec: ModuleSpec, is_managed: _Test) -> ModuleSpec:
    """Makes the import of one of these modules wrap its entry points."""
    loader: Any = spec.loader
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        if module.__name__ == "socket":
            sockets.install(module)
        elif module.__name__ == children.PROCESS_MODULE:
            from pycapio.proxies.table import patcher

            patcher.replace_late(children.start_site)
        else:
            _wrap(module, is_managed)

    # On the instance, so that the loader stays what it is for everybody else.
    loader.exec_module = exec_module
    return spec


def is_watched(fullname: str) -> bool:
    return any(fullname in those for those in (_ENTRY_POINTS, _DATA_BASES, _PARSERS, _OF_PYTHON))


def _wrap(module: ModuleType, is_managed: _Test) -> None:
    if module.__name__ in _DATA_BASES:
        module.open = _dumb_if_new(module.open, is_managed)  # type: ignore[attr-defined]
        return
    if name := _PARSERS.get(module.__name__):
        setattr(module, name, _parse_opened(getattr(module, name)))
        return
    points, way_out = _ENTRY_POINTS[module.__name__]
    library = module.__name__.partition(".")[0]

    def look(point: _EntryPoint, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Two frames below the caller of the library."""
        path = args[point.at] if len(args) > point.at else kwargs.get(point.keyword)
        if isinstance(path, list) and path:
            path = path[0]
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        text = os.fsdecode(path)
        if text[:1] == ":" or not is_managed(text):  # ":memory:"
            return
        try:
            on_disk.make_directory_of(text)
        except OSError:
            pass  # the library will say that it cannot make its file
        if library not in _told:
            _told.add(library)
            warnings.warn(
                f"pycapio: {module.__name__} opens {text!r} in native code, where it is neither "
                f"waited for nor streamed; {way_out} (docs/limits.md)",
                RuntimeWarning,
                stacklevel=3,
            )

    for point in points:
        owner_name, _, name = point.name.rpartition(".")
        owner: Any = getattr(module, owner_name, None) if owner_name else module
        original = getattr(owner, name, None)
        if original is None or hasattr(original, "_pycapio_watched"):
            continue
        watched = _watched_class if isinstance(original, type) else _watched
        try:
            setattr(owner, name, watched(original, functools.partial(look, point)))
        except TypeError:  # a class written in C, of another version of the library
            continue


def _dumb_if_new(original: Any, is_managed: _Test) -> Any:
    @functools.wraps(original)
    def open(*args: Any, **kwargs: Any) -> Any:
        flag = args[1] if len(args) > 1 else kwargs.get("flag", "r")
        if args and flag[:1] in ("c", "n") and is_managed(os.fsdecode(args[0])):
            import dbm.dumb

            return dbm.dumb.open(*args, **kwargs)
        return original(*args, **kwargs)

    return open


def _parse_opened(original: Any) -> Any:
    @functools.wraps(original)
    def parse(source: Any, *args: Any, **kwargs: Any) -> Any:
        if managed(source) is None or "://" in os.fsdecode(source):
            return original(source, *args, **kwargs)
        try:
            file = open(source, "rb")
        except (FileNotFoundError, IsADirectoryError, PermissionError):  # the library's own words
            return original(source, *args, **kwargs)
        with file:
            if kwargs.get("base_url") is None:
                kwargs["base_url"] = os.fsdecode(source)
            content: Any = file
            if file.peek(2)[:2] == b"\x1f\x8b":  # which libxml2 unpacks
                import gzip

                content = gzip.GzipFile(fileobj=file)
            return original(content, *args, **kwargs)

    return parse


_Look = Callable[[tuple[Any, ...], dict[str, Any]], None]


def _watched(original: Any, look: _Look) -> Any:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        look(args, kwargs)
        return original(*args, **kwargs)

    call._pycapio_watched = True  # type: ignore[attr-defined]
    return call


def _watched_class(original: Any, look: _Look) -> Any:
    """Stands for a class whose methods cannot be replaced: makes objects of that, which are its
    own instances, and may be derived from."""

    class Kind(type(original)):  # type: ignore[misc]
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            look(args, kwargs)
            return (
                original(*args, **kwargs)
                if cls is replacement
                else super().__call__(*args, **kwargs)
            )

        def __instancecheck__(cls, instance: Any) -> bool:
            return (
                isinstance(instance, original)
                if cls is replacement
                else super().__instancecheck__(instance)
            )

        def __subclasscheck__(cls, subclass: type) -> bool:
            return (
                issubclass(subclass, original)
                if cls is replacement
                else super().__subclasscheck__(subclass)
            )

    replacement = Kind(
        original.__name__,
        (original,),
        {
            "__module__": original.__module__,
            "__qualname__": original.__qualname__,
            "__doc__": original.__doc__,
            "_pycapio_watched": True,
        },
    )
    return replacement
