"""CPython's own tests pass in a CAPIO directory as they do in any other.

Every test of a module that passes in a temporary directory has to pass under the launcher with
that directory, its current directory and TMPDIR, in CAPIO_DIR. expectations.py lists the modules,
and the exceptions with their reasons. CAPIO_CONFORMANCE=all runs all modules in all versions of
Python that ``make conformance`` has prepared.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from expectations import ALL, DEFAULT, EXPECTED, THROUGH_CAPIO_ONLY
from module_runs import MODULE_LIMIT, ROOT, Outcome, Run, compare, run_module
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


@pytest.mark.timeout(2 * MODULE_LIMIT)
@pytest.mark.parametrize("version", VERSIONS if EVERYTHING else [OWN])
@pytest.mark.parametrize("module", ALL if EVERYTHING else DEFAULT)
def test_module(capio: Any, tmp_path: Path, version: str, module: str) -> None:
    python = interpreter(version)
    env = {**capio.env, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    plain = run_module(python, module, tmp_path / "plain", env, launcher=False)
    if plain.skipped:
        pytest.skip(f"CPython skips it: {plain.skipped}")
    if not plain.complete or not any(o.kind == "passed" for o in plain.outcomes.values()):
        pytest.fail(f"the plain run did not get through:\n{plain.stderr}")
    managed = run_module(python, module, tmp_path / "capio", env, launcher=True)

    numbers = tuple(int(part) for part in version.split("."))
    wrong = compare(plain, managed, [e for e in EXPECTED if e.since <= numbers <= e.until])
    if not managed.complete:
        wrong.append(f"the run under pycapio did not get through:\n{managed.stderr}")
    if module in THROUGH_CAPIO_ONLY and managed.touched:
        wrong.append("something was made in the real directory")
    if not managed.opened:
        wrong.append("no file went through CAPIO")
    if wrong:
        pytest.fail("\n".join([f"{len(wrong)} differences", *wrong])[:100_000], pytrace=False)


def test_comparison_finds_what_differs() -> None:
    plain = Run({"a": Outcome("passed"), "b": Outcome("passed"), "c": Outcome("failed")})
    managed = Run({"a": Outcome("failed", "why"), "c": Outcome("passed")})
    assert compare(plain, managed, []) == ["a: failed\nwhy", "b: not run\n"]
    from module_runs import Expected

    assert compare(plain, managed, [Expected("a", "because", "w.y")]) == ["b: not run\n"]
    assert compare(plain, managed, [Expected("a", "because", "other")])[0].startswith("a: failed")
    assert compare(plain, managed, [Expected("*", "because")]) == []
    assert compare(plain, plain, []) == []
