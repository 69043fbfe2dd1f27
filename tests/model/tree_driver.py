"""A process that performs actions on a directory tree, with or without pycapio.

As a script: ``tree_driver.py IN OUT``, two descriptors, for pickled requests and answers.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

# Seconds a single request may take: a call that waits here waits for ever.
LIMIT = 60


class Performer:
    """The child's side: one tree after the other."""

    def __init__(self) -> None:
        self.actor: Any = None
        self.context: Any = None

    def begin(self, root: str, workflow: str) -> None:
        """workflow: "" for a plain tree."""
        from tree_actions import Actor

        if workflow:
            from pycapio import CapioContext

            self.context = CapioContext(
                capio_dir=root, workflow_name=workflow, await_server_timeout_seconds=LIMIT
            )
            self.context.__enter__()
        self.actor = Actor(root, plain=not workflow)

    def do(self, action: str, arguments: dict[str, Any]) -> Any:
        return self.actor.do(action, arguments)

    def end(self) -> Any:
        """Closes what is open and returns the tree; then all of it is in the directory itself."""
        from twins import observed
        from workflows import _forget, wait_for_end

        said = observed(lambda _: [self.actor.close_all(), self.actor.tree()], self.actor.root)
        self.actor = None
        if self.context is not None:
            context, self.context = self.context, None
            server = context.session.server_pid
            context.__exit__(None, None, None)
            context.session.close(wait_seconds=LIMIT)
            _forget(context)
            if not wait_for_end(server, LIMIT):
                raise TimeoutError("the server has not ended by itself")
        return said


class Remote:
    """The parent's side."""

    def __init__(self, env: dict[str, str], stderr: str) -> None:
        ours, theirs = os.pipe(), os.pipe()
        with open(stderr, "wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(ours[0]), str(theirs[1])],
                env=env,
                pass_fds=[ours[0], theirs[1]],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        self._stderr = stderr
        os.close(ours[0])
        os.close(theirs[1])
        self._requests = Connection(ours[1], readable=False)
        self._answers = Connection(theirs[0], writable=False)

    def __call__(self, request: str, *arguments: Any) -> Any:
        try:
            self._requests.send((request, arguments))
            if not self._answers.poll(LIMIT * 1.5):
                self._process.send_signal(signal.SIGABRT)  # faulthandler shows where it is
                self._process.wait(LIMIT)
                raise AssertionError(f"{request} {arguments} takes for ever\n{self._errors()}")
            kind, value = self._answers.recv()
        except (EOFError, BrokenPipeError):
            status = self._process.wait(LIMIT)
            raise AssertionError(
                f"the process died ({status}) in {request} {arguments}\n{self._errors()}"
            ) from None
        if kind != "answer":
            raise AssertionError(f"{request} {arguments}: {value}\n{self._errors()}")
        return value

    def _errors(self) -> str:
        with open(self._stderr, errors="replace") as file:
            return file.read()[-8000:]

    def close(self) -> None:
        self._requests.close()
        try:
            self._process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._answers.close()


def main() -> None:
    import faulthandler
    import traceback

    faulthandler.enable()
    os.umask(0o022)
    requests = Connection(int(sys.argv[1]), writable=False)
    answers = Connection(int(sys.argv[2]), readable=False)
    performer = Performer()
    while True:
        try:
            request, arguments = requests.recv()
        except EOFError:
            return
        try:
            answer = "answer", getattr(performer, request)(*arguments)
            pickle.dumps(answer)
        except Exception:  # noqa: BLE001 - the parent shows it
            answer = "error", traceback.format_exc()
        answers.send(answer)


if __name__ == "__main__":
    main()
