"""Measures of one process: the same code on plain files and on managed ones, taking turns.

These modules are imported by the peer's Python, too: the standard library only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, TypeVar

from harness.sizes import Sizes
from harness.targets import Target

F = TypeVar("F", bound=Callable[..., Any])

# Input of the measuring step lies under IN, made by another step; what it makes itself under OUT.
IN = "in"
OUT = "out"
STEPS = (
    {
        "name": "maker",
        "output_stream": [f"{IN}/*"],
        "streaming": [{"name": [f"{IN}/*"], "committed": "on_close"}],
    },
    {
        "name": "bench",
        "input_stream": [f"{IN}/*"],
        "output_stream": [f"{OUT}/*"],
        "streaming": [{"name": [f"{OUT}/*"], "committed": "on_close"}],
    },
)


class WrongBytes(Exception):
    """What was moved is not what should have been."""


class Side:
    """How code is run on plain files: as it is."""

    name = "plain"

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def run(self, function: Callable[[], Any]) -> Any:
        with self.active():
            return function()

    def decorate(self, function: F) -> F:
        return function


class InProcess:
    """One row of the report.

    prepare: makes input in a directory that is then measured in, as another step.
    sample: seconds of one sample in the directory. verify: raises WrongBytes; not timed.
    """

    name: str
    title: str
    section: str
    targets: tuple[Target, ...]
    sides: ClassVar[tuple[str, ...]] = ("plain", "pycapio", "peer")
    imports: ClassVar[tuple[str, ...]] = ()
    # Bytes or calls of one sample, to show throughput or the time of one call.
    moved = 0
    calls = 0

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes

    def prepare(self, directory: str) -> None:
        """Nothing by default."""

    def sample(self, directory: str) -> float:
        # Not abstract: those that take sample_on over have none.
        raise NotImplementedError

    def verify(self, directory: str) -> None:
        """Nothing by default."""

    def tidy(self, directory: str) -> None:
        """Removes what the last sample made, where that would be too much to keep."""

    def sample_on(self, side: Side, directory: str) -> float:
        seconds: float = side.run(lambda: self.sample(directory))
        return seconds

    def verify_on(self, side: Side, directory: str) -> None:
        side.run(lambda: self.verify(directory))


def make_directories(directory: str) -> tuple[str, str]:
    """directory/in and directory/out."""
    paths = f"{directory}/{IN}", f"{directory}/{OUT}"
    for path in paths:
        os.makedirs(path, exist_ok=True)
    return paths


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def pattern(size: int) -> bytes:
    """Bytes that tell any two places of a file apart, the same in every process."""
    words = bytearray()
    state = 0x9E3779B97F4A7C15
    block = bytearray()
    for _ in range(1024):
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        block += state.to_bytes(8, "little")
    while len(words) < size:
        block[:8] = len(words).to_bytes(8, "little")
        words += block
    return bytes(words[:size])
