"""Measures of several processes: steps of a workflow, run one after the other or at once."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from harness.peer import Peer
from harness.site import Site
from harness.sizes import Sizes
from harness.steps import STEP_LIMIT, Step, run_together
from harness.targets import Target

STEPS_DIR = Path(__file__).resolve().parent.parent / "steps"


class Together(ABC):
    """One row of the report.

    sample_on: seconds on one side, in a site whose workflow is new. check: the run is not for its
    time; every byte is checked.
    """

    name: str
    title: str
    section: str
    targets: tuple[Target, ...]
    sides: tuple[str, ...] = ("batch", "pycapio")
    # Bytes or calls of one sample, to show throughput or the time of one call.
    moved = 0
    calls = 0
    # Of the two steps, by name.
    PRODUCER: ClassVar = "produce"
    CONSUMER: ClassVar = "consume"

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    @abstractmethod
    def config(self) -> list[dict[str, Any]]:
        """IO_Graph of the workflow."""

    @abstractmethod
    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        """Seconds."""


class Place:
    """How the steps of a measure are run, on each side."""

    def __init__(self, site: Site, peer: Peer | None, config: Sequence[dict[str, Any]]) -> None:
        self.site = site
        self.peer = peer
        self.limit = STEP_LIMIT
        self.config = site.write_config(config)

    def step(self, side: str, app: str, script: str, *arguments: object) -> Step:
        """Starts a script of bench/steps as that app. Only pycapio and the peer know of apps."""
        env = self.site.env | {"PYTHONPATH": os.fspath(STEPS_DIR)}
        if side == "pycapio":
            prefix = self.site.launcher(app)
        elif side == "peer":
            if self.peer is None:
                raise ValueError("there is no peer")
            env = self.peer.env(env)
            prefix = [
                *(os.fspath(self.peer.python), os.fspath(STEPS_DIR / "under_peer.py")),
                *(os.fspath(self.site.managed), self.site.workflow, app),
                os.fspath(self.config),
            ]
        else:
            prefix = [sys.executable]
        command = [*prefix, os.fspath(STEPS_DIR / script), *map(str, arguments)]
        return Step(command, env, limit=self.limit, cwd=os.fspath(self.site.base))

    def directory(self, side: str) -> Path:
        return self.site.managed if side in ("pycapio", "peer") else self.site.plain

    def run(self, side: str, *steps: tuple[str, str, Sequence[object]]) -> list[Any]:
        """Runs steps (app, script, arguments) at once; on side "batch" one after the other."""
        if side == "batch":
            return [
                run_together([self.step(side, app, script, *arguments)])[0]
                for app, script, arguments in steps
            ]
        started: list[Step] = []
        try:
            for app, script, arguments in steps:
                started.append(self.step(side, app, script, *arguments))
                if side == "peer":
                    # It cannot start two servers at once; its server is up when the step is.
                    started[-1].await_ready()
            if side == "peer":
                for step in started:
                    step.go()
                results = [step.result() for step in started]
                return results
            return run_together(started)
        finally:
            if side == "peer":  # its end may hang
                for step in started:
                    step.kill()


def wall(side: str, results: Sequence[Any]) -> float:
    """Seconds from the moment the steps were let go to the end of the last one; of a batch, the
    sum."""
    if side == "batch":
        return sum(float(result["end"] - result["begin"]) for result in results)
    begin = min(float(result["begin"]) for result in results)
    return max(float(result["end"]) for result in results) - begin
