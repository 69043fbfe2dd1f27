"""Where one measure runs: a directory on tmpfs with plain files, managed ones and the store."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import struct
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TMPFS = Path("/dev/shm")
# Seconds that a server may take to stop; it may have unread files to write to CAPIO_DIR.
_STOP_LIMIT = 60.0


class Site:
    """A fresh directory on tmpfs. As a context manager it leaves no server and no file behind."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="pycapio-bench-", dir=TMPFS))
        self.plain = self.base / "plain"
        self.managed = self.base / "managed"
        self.store = self.base / "store"
        self.workflow = f"bench-{uuid.uuid4().hex[:12]}"
        self.plain.mkdir()
        self.managed.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("CAPIO_")}
        self.env = kept | {
            "CAPIO_STORE": os.fspath(self.store),
            "CAPIO_LINGER": "5",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.config = self.base / "workflow.json"

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop_servers()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def write_config(self, steps: Sequence[Mapping[str, Any]]) -> Path:
        """A CAPIO-CL file of these steps."""
        # The peer insists on keys that may be left out.
        keys: dict[str, Any] = {"input_stream": [], "output_stream": [], "streaming": []}
        graph = [keys | dict(step) for step in steps]
        whole = {"name": self.workflow, "version": 1.1, "IO_Graph": graph}
        self.config.write_text(json.dumps(whole), encoding="utf-8")
        return self.config

    def launcher(self, app: str) -> list[str]:
        """The command that runs a script as a step of the workflow."""
        return [
            *(sys.executable, "-m", "pycapio", "--capio-dir", os.fspath(self.managed)),
            *("--workflow-name", self.workflow, "--app-name", app),
            *("--capio-cl", os.fspath(self.config)),
        ]

    def new_workflow(self) -> None:
        """The next run is another one: ends the servers, empties the directories."""
        self.stop_servers()
        self.workflow = f"bench-{uuid.uuid4().hex[:12]}"
        for directory in (self.plain, self.managed):
            shutil.rmtree(directory)
            directory.mkdir()

    def stop_servers(self) -> None:
        """Ends the servers of this site and waits until they are gone."""
        for left in TMPFS.glob(f"*{self.workflow}*"):  # the peer's, who leaves them
            left.unlink(missing_ok=True)
        for pid in self.server_pids():
            _end(pid)

    def server_pids(self) -> list[int]:
        holders = [_lock_holder(locks) for locks in self.store.glob("capio-*/*/locks")]
        return [pid for pid in holders if pid]


def _lock_holder(locks: Path) -> int:
    """The process that holds byte 0, which is the server's; 0 if none does."""
    try:
        with open(locks, "r+b") as f:
            asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(f, fcntl.F_GETLK, asked))
    except FileNotFoundError:
        return 0
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def _end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        for number in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, number)
            if poll.poll(_STOP_LIMIT * 1000):
                return
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
