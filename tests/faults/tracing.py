"""Stops a process before or after its n-th system call from here, by ptrace(2).

A count of system calls is a point of a program that does not depend on speed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from typing import Any

import pytest

_SYSCALL = 24
_DETACH = 17
_SEIZE = 0x4206
_INTERRUPT = 0x4207
_TRACESYSGOOD = 1
_WALL = 0x40000000

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def _request(request: int, tid: int, data: int = 0) -> None:
    if _ptrace(request, tid, None, data) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace({request}, {tid}): {os.strerror(error)}")


class Traced:
    """One thread of a process, seized. All calls from the thread of the tests that made it."""

    def __init__(self, tid: int) -> None:
        self.tid = tid
        self.calls = 0
        self.ended = False
        self.status: int | None = None
        try:
            _request(_SEIZE, tid, _TRACESYSGOOD)
        except PermissionError as error:
            pytest.skip(f"ptrace is not allowed here: {error}")
        _request(_INTERRUPT, tid)
        self._pass_on = self._stopped()

    def _stopped(self) -> int:
        """Waits for a stop. Returns the signal to be delivered when it goes on; counts calls."""
        _, status = os.waitpid(self.tid, _WALL)
        if not os.WIFSTOPPED(status):
            self.ended = True
            self.status = os.waitstatus_to_exitcode(status)
            return 0
        number, event = os.WSTOPSIG(status), status >> 16
        if number == signal.SIGTRAP | 0x80:
            self.calls += 1
            return 0
        return 0 if event else number

    def run(self, stops: int) -> bool:
        """Lets it go on to that many entries into and returns from system calls (for ever, if
        negative). False if it has ended instead."""
        goal = self.calls + stops
        while not self.ended and (stops < 0 or self.calls < goal):
            try:
                _request(_SYSCALL, self.tid, self._pass_on)
            except ProcessLookupError:  # killed while it was stopped
                pass
            self._pass_on = self._stopped()
        return not self.ended

    def release(self, number: int = 0) -> None:
        """No longer traced; the signal is delivered."""
        if not self.ended:
            _request(_DETACH, self.tid, number)
            self.ended = True

    def kill(self) -> None:
        """SIGKILL to its process at this very point; it is gone when this returns."""
        if not self.ended:
            os.kill(self.tid, signal.SIGKILL)
            self.run(-1)

    def reap(self, process: subprocess.Popen[Any]) -> None:
        """Tells the object of a child that has ended here how it did."""
        if self.status is not None:
            process.returncode = self.status
