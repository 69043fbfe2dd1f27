"""Makes a virtual environment with cffi for every version of Python that pycapio supports.

``make conformance`` runs it; the argument is the directory to make them in. A version that is not
found is left out, and its tests are skipped.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13")


def find(version: str) -> str | None:
    """An interpreter of that version with the ``test`` package of its standard library."""
    candidates = glob.glob(os.path.expanduser(f"~/.pyenv/versions/{version}.*/bin/python3"))
    on_path = shutil.which(f"python{version}")
    for candidate in [*candidates, *([on_path] if on_path else [])]:
        asked = f"import sys, test.test_fileio; sys.exit(sys.version_info[:2] != {_pair(version)})"
        if not subprocess.run([candidate, "-c", asked], capture_output=True).returncode:
            return candidate
    return None


def _pair(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def main() -> None:
    base = Path(sys.argv[1])
    for version in VERSIONS:
        python = base / version / "bin" / "python"
        if python.exists():
            continue
        found = find(version)
        if found is None:
            print(f"no Python {version} with its test package: left out")
            continue
        subprocess.run([found, "-m", "venv", base / version], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "cffi"], check=True)


if __name__ == "__main__":
    main()
