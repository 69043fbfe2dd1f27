"""What the tests of packaging share."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def clean_environment() -> dict[str, str]:
    """The environment without what would lead to another library or another Python."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CAPIO_", "PYTHON", "VIRTUAL_ENV"))
    }


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Runs a command that has to succeed; returns its stdout."""
    result = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment() if env is None else env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert result.returncode == 0, f"{command}\n{result.stdout[-8000:]}\n{result.stderr[-8000:]}"
    return result.stdout


@dataclass(frozen=True)
class Distributions:
    sdist: Path
    wheel: Path


@dataclass(frozen=True)
class Installation:
    """A virtual environment."""

    path: Path

    @property
    def python(self) -> Path:
        return self.path / "bin" / "python"

    def evaluate(self, code: str, **variables: str) -> str:
        """What a program prints there, started outside the source tree."""
        env = {**clean_environment(), **variables}
        return run(self.python, "-c", code, cwd=self.path, env=env).strip()
