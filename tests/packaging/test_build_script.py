"""scripts/build_capio.sh: its command line and its advice. That it builds, the other tests show."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from build_helpers import ROOT, clean_environment

# One worker: two builds in one source tree would get in each other's way.
pytestmark = pytest.mark.xdist_group("wheel")


SCRIPT = ROOT / "scripts" / "build_capio.sh"


def build(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments],
        env={**clean_environment(), "PYTHON": sys.executable, **variables},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--bogus"], "unknown argument '--bogus'"),
        (["extra"], "unknown argument 'extra'"),
        (["--prefix"], "--prefix needs a directory"),
        (["--prefix="], "--prefix needs a directory"),
        (["--prefix", "--debug"], "--prefix needs a directory"),
        (["--prefix=a", "--native=b"], "exclude each other"),
        (["--sanitize=memory"], "--sanitize is 'memory'"),
        (["--debug", "--sanitize=thread"], "exclude each other"),
    ],
)
def test_bad_options_are_one_sentence_and_status_2(
    arguments: list[str], reason: str, tmp_path: Path
) -> None:
    result = build(*arguments, CAPIO_BUILD_DIR=str(tmp_path / "build"))
    assert result.returncode == 2
    assert result.stderr.startswith("build_capio.sh: ") and reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "build").exists()


def test_help_names_every_option() -> None:
    result = build("--help")
    assert result.returncode == 0
    for option in ("--prefix", "--native", "--debug", "--sanitize", "--tests"):
        assert option in result.stdout


def test_without_a_compiler_it_says_what_to_install(
    path_without_compilers: str, tmp_path: Path
) -> None:
    result = build(PATH=path_without_compilers, CAPIO_BUILD_DIR=str(tmp_path / "build"))
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "apt install g++" in result.stderr and "dnf install gcc-c++" in result.stderr


def test_absent_cxx_is_named(tmp_path: Path) -> None:
    result = build(CXX="/absent/c++", CAPIO_BUILD_DIR=str(tmp_path / "build"))
    assert result.returncode == 1
    assert "CXX='/absent/c++'" in result.stderr


def test_absent_json_headers_are_named(tmp_path: Path) -> None:
    result = build(NLOHMANN_JSON_INCLUDE_DIR=str(tmp_path), CAPIO_BUILD_DIR=str(tmp_path / "build"))
    assert result.returncode == 1
    assert "does not hold nlohmann/json.hpp" in result.stderr
