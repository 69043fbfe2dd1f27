"""PyCAPIO 0.0.2: its virtual environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REQUIREMENT = "pycapio==0.0.2"


class PeerUnavailable(Exception):
    """The peer cannot be installed here; the text says why."""


class Peer:
    """The peer's own virtual environment, made on first use."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.python = self.bin / "python"

    def install(self) -> None:
        stamp = self.directory / "installed"
        if stamp.exists():
            return
        try:
            subprocess.run([sys.executable, "-m", "venv", self.directory], check=True)
            subprocess.run(
                [self.python, "-m", "pip", "install", "--quiet", REQUIREMENT],
                check=True,
                capture_output=True,
                text=True,
            )
        except subprocess.CalledProcessError as error:
            lines = (error.stderr or "").splitlines() or [str(error)]
            raise PeerUnavailable(f"{REQUIREMENT} cannot be installed: {lines[-1]}") from None
        stamp.touch()

    def env(self, env: dict[str, str]) -> dict[str, str]:
        """It looks for its server on PATH, and knows nothing of our store."""
        kept = {k: v for k, v in env.items() if not k.startswith("CAPIO_")}
        return kept | {"PATH": f"{self.bin}{os.pathsep}{env.get('PATH', os.defpath)}"}
