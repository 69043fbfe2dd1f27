"""Calls that do no I/O of a workflow: what it costs to be intercepted."""

from __future__ import annotations

import os

from harness.sizes import Sizes
from harness.targets import Excess
from measures.inprocess import InProcess, Side, make_directories, timed


class Outside(InProcess):
    """Calls that have nothing to do with CAPIO, while it is active."""

    section = "Calls"
    sides = ("plain", "pycapio")

    def __init__(self, sizes: Sizes, function: str) -> None:
        super().__init__(sizes)
        self.calls = sizes.calls
        self.function = function
        self.name = f"outside-{function}"
        shown = {"stat": "os.stat", "exists": "os.path.exists", "open": "open + close"}
        self.title = f"{shown[function]} outside CAPIO_DIR"
        self.targets = (Excess("plain", 2e-6),)

    def sample(self, directory: str) -> float:
        path = __file__
        calls = range(self.sizes.calls)

        def stat() -> None:
            for _ in calls:
                os.stat(path)

        def exists() -> None:
            for _ in calls:
                os.path.exists(path)

        def opening() -> None:
            for _ in calls:
                open(path, "rb").close()

        return timed({"stat": stat, "exists": exists, "open": opening}[self.function])


class Decorated(InProcess):
    """A call of a decorated function that does no I/O, in a program with large libraries."""

    section = "Calls"
    sides = ("plain", "pycapio")
    imports = ("numpy", "pandas")

    def __init__(self, sizes: Sizes, active: bool) -> None:
        super().__init__(sizes)
        self.active = active
        self.calls = sizes.calls
        self.name = "call-active" if active else "call-outermost"
        self.title = "decorated call, " + ("already active" if active else "outermost")
        self.targets = (Excess("plain", 5e-6 if active else 40e-6),)

    def prepare(self, directory: str) -> None:
        make_directories(directory)

    def sample_on(self, side: Side, directory: str) -> float:
        call = side.decorate(_nothing)
        calls = range(self.sizes.calls)

        def loop() -> None:
            for _ in calls:
                call()

        call()  # the first one attaches
        if self.active:
            seconds: float = side.run(lambda: timed(loop))
            return seconds
        return timed(loop)


def _nothing() -> None:
    pass
