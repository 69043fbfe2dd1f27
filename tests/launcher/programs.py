"""The small programs that are run both plainly and under pycapio, and how they are compared."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TIME_LIMIT = 60.0

PLAIN = [sys.executable]
LAUNCHER = [sys.executable, "-m", "pycapio"]
COMMAND = [str(Path(sys.executable).with_name("pycapio"))]


@dataclass
class Place:
    """A directory with the targets, which is also CAPIO_DIR, and the environment to run them in."""

    directory: Path
    env: dict[str, str]

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        process = self.start(command)
        return finish(process, stdin)

    @property
    def server_was_started(self) -> bool:
        return any(Path(self.env["CAPIO_STORE"]).iterdir())


def finish(process: subprocess.Popen[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    try:
        stdout, stderr = process.communicate(stdin, timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        pytest.fail(f"still running after {TIME_LIMIT} s\nstdout: {stdout}\nstderr: {stderr}")
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    directory = tmp_path / "data"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(HERE / "targets", directory, ignore=ignore)
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CAPIO_", "PYTHON", "COVERAGE"))
    }
    store = tmp_path / "store"
    store.mkdir()
    env["CAPIO_STORE"] = str(store)
    env["CAPIO_WORKFLOW_NAME"] = tmp_path.name
    env["PYTHONHASHSEED"] = "0"
    env["COLUMNS"] = "100"
    return Place(directory, env)


def same(place: Place, target: Sequence[str], plain: Sequence[str], stdin: str = "") -> None:
    """Runs a target both ways and compares all that can be seen from outside."""
    expected = place.run([*PLAIN, *plain], stdin)
    actual = place.run([*LAUNCHER, *target], stdin)
    assert actual.stdout == expected.stdout
    assert actual.stderr == expected.stderr
    assert actual.returncode == expected.returncode


SCRIPTS: list[tuple[str, ...]] = [
    ("state.py", "a", "--silent"),
    ("./state.py",),
    ("folder/../state.py",),
    ("args.py", "--capio-dir", "nowhere", "--", "-h", "-m", "", "a b", "*"),
    ("args.py", "--help"),
    ("args.py", "--"),
    ("exit_with.py", "None"),
    ("exit_with.py", "0"),
    ("exit_with.py", "3"),
    ("exit_with.py", "-1"),
    ("exit_with.py", "256"),
    ("exit_with.py", "True"),
    ("exit_with.py", "'a text'"),
    ("exit_with.py", "('a', 'tuple')"),
    ("exit_with.py", "2.5"),
    ("exit_subclass.py",),
    ("error.py",),
    ("error_chain.py",),
    pytest.param(
        ("error_group.py",),
        marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new"),
    ),
    ("error_import.py",),
    ("error_in_import.py",),
    ("error_hook.py",),
    pytest.param(
        ("error_hook_fails.py",),
        marks=pytest.mark.skipif(
            sys.version_info < (3, 11), reason="a traceback cannot be replaced in an except block"
        ),
    ),
    ("error_hook_missing.py",),
    ("error_reraised.py",),
    ("interrupt.py",),
    ("interrupt_handled.py",),
    ("warn.py",),
    ("pickling.py",),
    ("at_exit.py",),
    ("at_exit_error.py",),
    ("thread_outlives.py",),
    ("processes.py", "fork"),
    ("processes.py", "spawn"),
    ("processes.py", "forkserver"),
    ("fork.py",),
    ("read_stdin.py",),
    ("os_exit.py",),
    ("kill_self.py", "SIGTERM"),
    ("kill_self.py", "SIGKILL"),
    ("kill_self.py", "SIGHUP"),
    ("introspect.py",),
    ("no_future.py",),
    ("folder", "a"),
    ("./folder/",),
]
