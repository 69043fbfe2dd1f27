"""Runs the launcher with a session that writes down what is asked of it, to the first file."""

from __future__ import annotations

import json
import sys
from typing import NoReturn

import pycapio.context
from pycapio.__main__ import main


class RecordingSession:
    """Knows only what the launcher needs of a session."""

    def __init__(self, path: str, options: object) -> None:
        self._path = path
        names = (
            "capio_dir app_name workflow_name silent server_exec_path capio_cl_configuration_file "
            "await_server_timeout_seconds teardown_server persist resume "
            "resolve_prefix"
        ).split()
        self._record("launch", {name: getattr(options, name) for name in names})

    def end(self, bad: bool) -> None:
        self._record("end", bad)

    def cancel_waits(self) -> None:
        self._record("cancel_waits", None)

    def _record(self, event: str, value: object) -> None:
        with open(self._path, "a") as file:
            file.write(json.dumps([event, value]) + "\n")


def run() -> NoReturn:
    path = sys.argv.pop(1)
    pycapio.context.launch = lambda options, children: RecordingSession(path, options)  # type: ignore[assignment, misc]
    sys.exit(main())


run()
