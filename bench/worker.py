"""The process that takes the samples of one measure.

    worker.py prepare MEASURE SIZES DIRECTORY
    worker.py sample MEASURE SIZES SAMPLES PLAIN MANAGED WORKFLOW CONFIG
    worker.py peer MEASURE SIZES SAMPLES MANAGED WORKFLOW CONFIG

`sample` alternates between plain files and pycapio; `peer` is run by the Python of the peer's
virtual environment. Each sample is a line of JSON, {"side": seconds}; the last one is {"end": 0}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from harness.sizes import SIZES
from measures.catalogue import in_process
from measures.inprocess import F, InProcess, Side


class Ours(Side):
    name = "pycapio"

    def __init__(self, context: Any) -> None:
        self.context = context

    def active(self) -> AbstractContextManager[object]:
        context: AbstractContextManager[object] = self.context
        return context

    def decorate(self, function: F) -> F:
        decorated: F = self.context(function)
        return decorated


class Theirs(Side):
    """The peer's context is only a decorator."""

    name = "peer"

    def __init__(self, context: Any) -> None:
        self.context = context

    def run(self, function: Callable[[], Any]) -> Any:
        return self.context(function)()

    def decorate(self, function: F) -> F:
        decorated: F = self.context(function)
        return decorated


def tell(name: str, seconds: float) -> None:
    print(json.dumps({name: seconds}), flush=True)


def measure_of(name: str, sizes: str) -> InProcess:
    for measure in in_process(SIZES[sizes]):
        if measure.name == name:
            for module in measure.imports:
                importlib.import_module(module)
            return measure
    raise SystemExit(f"worker: there is no measure {name!r}")


def context_of(managed: str, workflow: str, config: str) -> Any:
    from pycapio import CapioContext

    return CapioContext(
        capio_dir=managed,
        app_name="bench",
        workflow_name=workflow,
        capio_cl_configuration_file=config,
        await_server_timeout_seconds=10,
    )


def sample(measure: InProcess, samples: int, sides: list[tuple[Side, str]]) -> None:
    for number in range(samples):
        for side, directory in sides:
            seconds = measure.sample_on(side, directory)
            if number == 0:
                measure.verify_on(side, directory)
            else:
                # The first one warms up.
                tell(side.name, seconds)
            if side.name != "peer":  # which removes nothing
                side.run(partial(measure.tidy, directory))


def main(arguments: list[str]) -> None:
    command, name, sizes = arguments[:3]
    measure = measure_of(name, sizes)
    if command == "prepare":
        measure.prepare(arguments[3])
        return
    samples = int(arguments[3]) + 1
    if command == "sample":
        plain, managed, workflow, config = arguments[4:]
        sample(
            measure,
            samples,
            [(Side(), plain), (Ours(context_of(managed, workflow, config)), managed)],
        )
        tell("end", 0)
        return
    managed, workflow, config = arguments[4:]
    try:
        peer = Theirs(context_of(managed, workflow, config))
        peer.run(lambda: measure.prepare(managed))
        sample(measure, samples, [(peer, managed)])
        tell("end", 0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs into the report
        text = str(error).splitlines() or [""]
        print(json.dumps({"error": f"{type(error).__name__}: {text[0]}"}), flush=True)
    sys.stdout.flush()
    os._exit(0)  # its own end may hang


if __name__ == "__main__":
    main(sys.argv[1:])
