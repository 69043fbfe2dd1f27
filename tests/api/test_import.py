"""What ``import pycapio`` loads: nothing it does not need, since every step pays for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cffi

import pycapio

# Of the standard library, beyond what cffi loads. mmap and pathlib are here as they are patched.
NEEDED = """
    __future__ _posixsubprocess atexit contextlib contextvars enum errno fcntl functools gc
    genericpath importlib.machinery importlib.util io mmap os pathlib posixpath re signal stat
    struct threading types typing warnings weakref
""".split()
# Of pycapio, what only the launcher, the build and other commands use.
ELSEWHERE = {"pycapio.__main__", "pycapio._build_ffi", "pycapio._runner", "pycapio.cl"}


def loaded(statement: str) -> set[str]:
    """The modules that a statement loads in an interpreter that has loaded cffi, and no more."""
    places = [os.path.dirname(os.path.dirname(module.__file__)) for module in (cffi, pycapio)]
    program = (
        f"import sys; sys.path[:0] = {places!r}\n"
        "import cffi, _cffi_backend\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    # -S: site, and the .pth files of others, load whatever they like.
    command = [sys.executable, "-I", "-S", "-c", program]
    return set(subprocess.run(command, check=True, text=True, stdout=-1).stdout.split())


def test_it_loads_no_more_than_it_needs() -> None:
    found = loaded("import pycapio")
    needed = loaded("import " + ", ".join(NEEDED))
    assert {name for name in found - needed if name.partition(".")[0] != "pycapio"} == set()
    assert needed - found == set()
    assert found & ELSEWHERE == set()


def test_it_neither_loads_the_library_nor_starts_anything(tmp_path: Path) -> None:
    environment = {**os.environ, "CAPIO_LIB": str(tmp_path / "absent"), "CAPIO_STORE": "/nowhere"}
    program = "import threading, pycapio; print(threading.active_count())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, check=True, text=True, stdout=-1)
    assert done.stdout == "1\n"
