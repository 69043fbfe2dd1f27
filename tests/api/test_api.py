"""Every public name, signature and default; what importing pycapio loads."""

from __future__ import annotations

import builtins
import importlib.metadata
import inspect
import os
import pickle
import re
import subprocess
import sys
import typing
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

import pycapio
from pycapio import _pycapio, internals

PACKAGE = Path(pycapio.__file__).parent

HIGH = [
    "CapioContext", "open_proxy", "mkdir_proxy", "makedirs_proxy", "scandir_proxy", "listdir_proxy",
    "PyCAPIOException", "wraps", "Any", "PyCapioPath", "FILE_MODES", "PyCapioBinaryIOWrapper",
    "PyCapioTextIOWrapper", "PyCapioScandirWrapper", "DirEntry", "CAPIO_DEFAULT_APP_NAME",
    "CAPIO_DEFAULT_WORKFLOW_NAME", "pycapio_open",
]  # fmt: skip
LOW = [
    "CAPIO_DEFAULT_APP_NAME", "CAPIO_DEFAULT_WORKFLOW_NAME", "pycapio_init", "pycapio_teardown",
    "pycapio_get_capio_dir", "pycapio_open", "pycapio_mkdir", "DirEntry", "PyCapioBinaryIOWrapper",
    "PyCapioTextIOWrapper", "PyCapioScandirWrapper", "FILE_MODES",
]  # fmt: skip


@pytest.mark.parametrize(
    ("module", "name"),
    [(pycapio, name) for name in HIGH]
    + [(internals, name) for name in LOW]
    + [(_pycapio, name) for name in [*LOW, "PyCapioPath", "PyCAPIOException", "CapioContext"]],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_public_names(module: Any, name: str) -> None:
    value = getattr(module, name)
    if name in LOW:
        assert value is getattr(internals, name)
    if module is not _pycapio:
        assert name in module.__all__


def test_all_is_what_is_there() -> None:
    for module in (pycapio, internals):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _pycapio.no_such_name  # noqa: B018


def test_names_of_the_standard_library_are_its_own() -> None:
    assert pycapio.wraps is wraps
    assert pycapio.Any is typing.Any


def test_defaults() -> None:
    assert pycapio.CAPIO_DEFAULT_APP_NAME == "writer"
    assert pycapio.CAPIO_DEFAULT_WORKFLOW_NAME == "workflow"
    for name in ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_CREAT", "O_APPEND"):
        assert getattr(pycapio.FILE_MODES, name) == getattr(os, name)


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.default, p.kind) for p in inspect.signature(function).parameters.values()]


POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD = inspect.Parameter.KEYWORD_ONLY
NONE = inspect.Parameter.empty


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "CapioContext",
            [
                ("capio_dir", ".", KEYWORD),
                ("app_name", "writer", KEYWORD),
                ("workflow_name", "workflow", KEYWORD),
                ("silent", True, KEYWORD),
                ("server_exec_path", "capio_server", KEYWORD),
                ("capio_cl_configuration_file", "", KEYWORD),
                ("await_server_timeout_seconds", 2, KEYWORD),
                ("teardown_server", True, KEYWORD),
            ],
        ),
        (
            "pycapio_init",
            [
                ("CAPIO_DIR", ".", POSITIONAL),
                ("CAPIO_APP_NAME", "writer", POSITIONAL),
                ("CAPIO_WORKFLOW_NAME", "workflow", POSITIONAL),
                ("capio_server_exec_path", "capio_server", POSITIONAL),
                ("capio_cl_configuration_file", "", POSITIONAL),
                ("await_server_timeout_seconds", 2, POSITIONAL),
            ],
        ),
        ("pycapio_teardown", [("teardown_server", False, POSITIONAL)]),
        ("pycapio_get_capio_dir", []),
        (
            "pycapio_open",
            [("path", NONE, POSITIONAL), ("flags", NONE, POSITIONAL), ("mode", 0, POSITIONAL)],
        ),
        ("pycapio_mkdir", [("path", NONE, POSITIONAL), ("flags", 0o777, POSITIONAL)]),
        ("PyCapioBinaryIOWrapper", [("fd", NONE, POSITIONAL), ("chunk_size", 16384, POSITIONAL)]),
        ("PyCapioTextIOWrapper", [("fd", NONE, POSITIONAL), ("chunk_size", 4096, POSITIONAL)]),
    ],
)
def test_signatures(name: str, expected: list[Any]) -> None:
    """Parameters may be added behind these, if calls without them go on working."""
    found = parameters(getattr(_pycapio, name))
    assert found[: len(expected)] == expected
    assert all(default is not NONE for _, default, _ in found[len(expected) :])


def test_main_takes_nothing() -> None:
    from pycapio.__main__ import main

    assert parameters(main) == []


def test_scandir_wrapper_takes_a_path() -> None:
    assert [name for name, _, _ in parameters(pycapio.PyCapioScandirWrapper)] == ["path"]


@pytest.mark.parametrize(
    ("proxy", "original"),
    [
        (pycapio.open_proxy, builtins.open),
        (pycapio.mkdir_proxy, os.mkdir),
        (pycapio.makedirs_proxy, os.makedirs),
        (pycapio.scandir_proxy, os.scandir),
        (pycapio.listdir_proxy, os.listdir),
    ],
    ids=lambda function: function.__name__,
)
def test_proxies_present_themselves_as_the_original(proxy: Any, original: Any) -> None:
    assert proxy is not original
    assert inspect.signature(proxy) == inspect.signature(original)
    assert proxy.__name__ == original.__name__
    assert proxy.__doc__


def signature_of(function: Any) -> Any:
    try:
        return inspect.signature(function)
    except ValueError as error:  # os.utime's text is none that inspect can read
        return type(error)


def test_every_patched_function_has_the_signature_of_its_original() -> None:
    from pycapio.proxies.table import patcher

    for replacement in patcher._replacements:
        original = getattr(replacement.owner, replacement.name)
        if isinstance(original, type):
            continue
        assert signature_of(replacement.proxy) == signature_of(original)
        assert replacement.proxy.__name__ == original.__name__


def test_proxies_pickle(tmp_path: Path) -> None:
    context = pycapio.CapioContext(capio_dir=str(tmp_path))
    assert pickle.loads(pickle.dumps(pycapio.PyCapioPath)) is pycapio.PyCapioPath
    assert context is not None


def test_exception_is_a_plain_exception() -> None:
    assert issubclass(pycapio.PyCAPIOException, Exception)
    assert not issubclass(pycapio.PyCAPIOException, OSError)
    error = pycapio.PyCAPIOException("sentence", 22)
    assert (str(error), error.errno) == ("sentence", 22)
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.errno) == ("sentence", 22)


def test_version_is_that_of_the_distribution() -> None:
    assert pycapio.__version__ == importlib.metadata.version("pycapio")


def test_only_the_binding_uses_ffi() -> None:
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if re.search(
            r"^\s*(?:import|from) (?:_?cffi|pycapio\._capio_abi)|\bffi\.|\blib\.capio_|\bdlopen\(",
            path.read_text(),
            re.MULTILINE,
        )
    }
    assert using <= {"_pycapio.py", "_capio_abi.py", "_build_ffi.py"}


def loaded_by(statement: str) -> set[str]:
    code = (
        f"import sys; before = set(sys.modules); {statement};"
        "print(*sorted(set(sys.modules) - before))"
    )
    # Without site, so that what is measured is ours.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    loaded = loaded_by("import pycapio")
    heavy = {
        "cffi", "_cffi_backend", "shutil", "tempfile", "subprocess", "socket", "asyncio", "logging",
        "inspect", "argparse", "json", "multiprocessing", "runpy", "dataclasses", "ast",
        "importlib.metadata", "concurrent.futures", "numpy",
    }  # fmt: skip
    assert not loaded & heavy


def test_import_touches_nothing(tmp_path: Path) -> None:
    code = (
        "import builtins, io, os, threading;"
        "before = (builtins.open, io.open, os.stat, os.getcwd());"
        "import pycapio; assert before == (builtins.open, io.open, os.stat, os.getcwd());"
        "assert threading.active_count() == 1"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
