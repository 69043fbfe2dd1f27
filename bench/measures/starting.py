"""What it costs to start: attaching, with and without a server, and the launcher as a whole."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

from harness.sizes import Sizes
from harness.steps import STEP_LIMIT, Step, run_together
from harness.targets import AtMost, Speed
from measures.together import STEPS_DIR, Place, Together


class Attach(Together):
    """A process that has imported everything attaches. entry: with the first entry of a context."""

    section = "Starting"

    def __init__(self, sizes: Sizes, *, running: bool, entry: bool = False) -> None:
        super().__init__(sizes)
        self.running = running
        self.kind = "entry" if entry else "session"
        self.name = "attach-running" if running else "attach-start"
        self.title = "attach " + ("to a running server" if running else "with server start")
        if entry:
            self.name = "first-entry"
            self.title += ", and first entry of a context"
        self.sides = ("pycapio", "peer") if entry else ("pycapio",)
        limit = 5e-3 if running else 60e-3
        self.targets = (AtMost(limit), Speed("peer", 10)) if entry else (AtMost(limit),)

    def config(self) -> list[dict[str, Any]]:
        return []

    def _step(self, side: str, place: Place, app: str, *stay: str) -> Step:
        env = place.site.env | {"PYTHONPATH": os.fspath(STEPS_DIR)}
        python = sys.executable
        if side == "peer" and place.peer is not None:
            env, python = place.peer.env(env), os.fspath(place.peer.python)
        script = os.fspath(STEPS_DIR / "attach.py")
        where = (self.kind, os.fspath(place.site.managed), place.site.workflow)
        command = [python, script, *where, app, *stay]
        return Step(command, env, limit=place.limit, cwd=os.fspath(place.site.base))

    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        if side == "peer":
            step = self._step(side, place, "step")
            try:
                step.await_ready()
                step.go()
                return float(step.result()["seconds"])
            finally:
                step.kill()
        holder = None
        try:
            if self.running:
                holder = self._step(side, place, "holder", "stay")
                holder.await_ready()
                holder.go()
                holder.result()
            seconds = float(run_together([self._step(side, place, "step")])[0]["seconds"])
            if holder is not None:
                holder.go()
                holder.finish()
            return seconds
        finally:
            if holder is not None:
                holder.kill()


class Launch(Together):
    """Two commands of a shell, from the first one's start to the last one's end."""

    name = "launcher"
    title = "python script.py, doing nothing / pycapio script.py"
    section = "Starting"
    sides = ("batch", "pycapio")
    targets = ()

    def config(self) -> list[dict[str, Any]]:
        return [{"name": self.PRODUCER, "output_stream": []}]

    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        prefix = place.site.launcher(self.PRODUCER) if side == "pycapio" else [sys.executable]
        command = [*prefix, os.fspath(STEPS_DIR / "nothing.py")]
        start = time.perf_counter()
        subprocess.run(command, env=place.site.env, cwd="/", check=True, timeout=STEP_LIMIT)
        return time.perf_counter() - start


class WholeCommands(Together):
    """The stream without computation, with all that its commands cost besides: interpreters,
    imports, the server."""

    section = "Starting"
    sides = ("batch", "pycapio")
    targets = ()

    def __init__(self, sizes: Sizes, stream: Any) -> None:
        super().__init__(sizes)
        self.stream = stream
        self.moved = stream.moved
        self.name = "commands-" + stream.name
        self.title = stream.title + ", from the commands' start to their end"

    def config(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = self.stream.config()
        return steps

    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        env = place.site.env | {"PYTHONPATH": os.fspath(STEPS_DIR)}
        path = place.directory(side) / self.stream.file
        arguments = map(str, (path, self.moved, self.stream.chunk, self.stream._calibrate()))
        arguments = list(arguments)

        def start(app: str, script: str) -> subprocess.Popen[bytes]:
            prefix = place.site.launcher(app) if side == "pycapio" else [sys.executable]
            return subprocess.Popen(
                [*prefix, os.fspath(STEPS_DIR / script), *arguments],
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

        begin = time.perf_counter()
        started = []
        for app, script in ((self.PRODUCER, "produce.py"), (self.CONSUMER, "consume.py")):
            process = start(app, script)
            if side == "batch":
                process.wait(STEP_LIMIT)
            started.append(process)
        try:
            for process in started:
                process.wait(STEP_LIMIT)
        finally:
            for process in started:
                process.kill()
        seconds = time.perf_counter() - begin
        if any(process.returncode != 0 for process in started):
            raise RuntimeError(f"{self.name}: a step failed")
        return seconds
