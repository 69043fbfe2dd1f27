"""Processes of a measure: started together, let go together, with a bound on everything."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

STEP_LIMIT = 120.0  # seconds


class StepError(Exception):
    """A process of a measure failed, or took too long."""


class Step:
    """A process that says ``ready`` on a line, waits for a line, works, and prints one JSON line.

    It leads a process group of its own; what it leaves running there can be ended with it.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        limit: float = STEP_LIMIT,
        cwd: str = "/",  # never beside our own package, for the peer
    ) -> None:
        self.command = command
        self._deadline = time.monotonic() + limit
        self._text = b""
        self._finished = False
        # A file, since the peer's server holds it, too, and writes to it without end.
        self._errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )

    def line(self) -> str:
        """The next line of its output. Raises StepError at its end and when the time is over."""
        stream = self.process.stdout
        if stream is None:
            raise StepError("the step has no output")
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        while b"\n" not in self._text:
            left = self._deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                self.kill()
                raise StepError(f"no answer in time from: {' '.join(self.command)}")
            data = os.read(stream.fileno(), 1 << 16)
            if not data:
                raise StepError(self._end_text())
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def await_ready(self) -> None:
        while self.line() != "ready":
            pass

    def go(self) -> None:
        stdin = self.process.stdin
        if stdin is None:
            raise StepError("the step has no input")
        try:
            stdin.write(b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise StepError(self._end_text()) from None

    def result(self) -> Any:
        """What it printed as JSON."""
        while True:
            line = self.line()
            if line.startswith("{"):
                return json.loads(line)

    def finish(self) -> None:
        """Waits for its end; raises StepError unless that is a good one."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            status = self.process.wait(max(0.1, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()
            raise StepError(f"does not end: {' '.join(self.command)}") from None
        if status != 0:
            raise StepError(self._end_text())
        self._finished = True
        self._close()

    def kill(self) -> None:
        """Ends it and its process group at once; nothing after finish()."""
        if self._finished:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:
                    pass

    def _end_text(self) -> str:
        """Why its output ended; it gets a second to end by itself."""
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            status = self.process.wait()
        self._errors.seek(0)
        tail = "\n".join(self._errors.read().decode(errors="replace").splitlines()[-15:])
        self._close()
        return f"status {status} of: {' '.join(self.command)}\n{tail}"


def run_together(steps: Sequence[Step]) -> list[Any]:
    """Lets all go once all are ready; their results. Ends them all if one fails."""
    try:
        for step in steps:
            step.await_ready()
        for step in steps:
            step.go()
        results = [step.result() for step in steps]
        for step in steps:
            step.finish()
        return results
    except BaseException:
        for step in steps:
            step.kill()
        raise
