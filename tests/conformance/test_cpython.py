"""CPython's own tests pass in a CAPIO directory as they do in any other.

Every test of a module that passes in a temporary directory has to pass under the launcher with
that directory, its current directory and TMPDIR, in CAPIO_DIR. expectations.py lists the modules,
and the exceptions with their reasons; an exception that is none is an error, too. The companion
check: no test changes the real directory, so that its files were CAPIO's, apart from exceptions of
the same kind. CAPIO_CONFORMANCE=all runs all modules in all versions of Python that
``make conformance`` has prepared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expectations import ALL, DEFAULT, EXPECTED, ON_DISK
from module_runs import (
    MODULE_LIMIT,
    ROOT,
    Expected,
    Outcome,
    Run,
    compare,
    on_disk,
    record,
    run_module,
)
from pythons import VERSIONS

EVERYTHING = os.environ.get("CAPIO_CONFORMANCE") == "all"
PREPARED = ROOT / "build" / "conformance"
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def interpreter(version: str) -> str:
    if not EVERYTHING:
        if subprocess.run([sys.executable, "-c", "import test.test_fileio"]).returncode:
            pytest.skip(f"Python {version} comes without the test package of its standard library")
        return sys.executable
    python = PREPARED / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no Python {version} with its test package was found on this machine")
    return str(python)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Names of sockets have 107 bytes at most, below it, too."""
    with tempfile.TemporaryDirectory(prefix="capio-") as path:
        yield Path(path)


@pytest.mark.timeout(2 * MODULE_LIMIT)
@pytest.mark.parametrize("version", VERSIONS if EVERYTHING else [OWN])
@pytest.mark.parametrize("module", ALL if EVERYTHING else DEFAULT)
def test_module(capio: Any, short_path: Path, version: str, module: str) -> None:
    python = interpreter(version)
    env = {**capio.env, "PYTHONPATH": f"{ROOT}:{site_of(python)}", "PYTHONDONTWRITEBYTECODE": "1"}
    plain = run_module(python, module, short_path / "plain", env, launcher=False)
    if plain.skipped:
        pytest.skip(f"CPython skips it: {plain.skipped}")
    if not plain.complete or not any(o.kind == "passed" for o in plain.outcomes.values()):
        pytest.fail(f"the plain run did not get through:\n{plain.stderr}")
    managed = run_module(python, module, short_path / "capio", env, launcher=True)

    numbers = tuple(int(part) for part in version.split("."))

    def of_this(exceptions: tuple[Expected, ...]) -> list[Expected]:
        return [
            entry
            for entry in exceptions
            if entry.pattern.startswith(f"test.{module}.") and entry.since <= numbers <= entry.until
        ]

    wrong = compare(plain, managed, of_this(EXPECTED))
    wrong += on_disk(module, managed, of_this(ON_DISK))
    if not managed.complete:
        wrong.append(f"the run under pycapio did not get through:\n{managed.stderr}")
    if not managed.opened:
        wrong.append("no file went through CAPIO")
    if EVERYTHING:
        record(PREPARED, version, module, plain, managed)
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)} differences", *wrong])[:100_000], pytrace=False)


def site_of(python: str) -> str:
    """Where an interpreter has cffi, for children that are the one its environment is made of."""
    program = "import cffi, os; print(os.path.dirname(os.path.dirname(cffi.__file__)))"
    return subprocess.run([python, "-c", program], check=True, text=True, stdout=-1).stdout.strip()


def test_exceptions_are_precise() -> None:
    for entry in (*EXPECTED, *ON_DISK):
        assert any(entry.pattern.startswith(f"test.{module}.") for module in ALL), entry
        assert entry.reason


def test_comparison_finds_what_differs() -> None:
    plain = Run({"a": Outcome("passed"), "b": Outcome("passed"), "c": Outcome("failed")})
    managed = Run({"a": Outcome("failed", "why"), "c": Outcome("passed")})
    assert compare(plain, managed, []) == ["a: failed\nwhy", "b: not run\n"]
    assert compare(plain, managed, [Expected("a", "because", "w.y")]) == ["b: not run\n"]
    assert compare(plain, managed, [Expected("a", "because", "other")])[0].startswith("a: failed")
    assert compare(plain, managed, [Expected("*", "because")]) == []
    assert compare(plain, plain, []) == []
    # An exception has to be one; of tests that are skipped it is not known.
    assert compare(plain, plain, [Expected("a", "because")]) == ["a needs no exception: because"]
    assert compare(plain, plain, [Expected("c", "because"), Expected("d", "because")]) == []


def test_comparison_finds_what_is_on_disk() -> None:
    managed = Run({"a": Outcome("passed", touched=True), "b": Outcome("passed")})
    assert on_disk("m", managed, []) == ["a: changed something on disk"]
    assert on_disk("m", managed, [Expected("a", "because")]) == []
    found = on_disk("m", managed, [Expected("[ab]", "because"), Expected("b", "because")])
    assert found == ["b needs no exception: because"]
    after = "test.m.tearDownModule"
    assert on_disk("m", Run(touched=True), []) == [f"{after}: changed something on disk"]
    assert on_disk("m", Run(touched=True), [Expected(after, "because")]) == []
