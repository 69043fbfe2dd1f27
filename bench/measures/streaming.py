"""What one step writes and another reads: at once, one after the other, or through a pipe."""

from __future__ import annotations

import os
import sys
from typing import Any

from harness.sizes import KIB, MIB, Sizes
from harness.targets import Speed, TimeRatio
from measures.inprocess import WrongBytes
from measures.together import STEPS_DIR, Place, Together, wall

sys.path.append(os.fspath(STEPS_DIR))
from work import seconds_of_a_pass

_SHOWN = {MIB: "1 MiB", 64 * KIB: "64 KiB"}


def graph(stream: dict[str, Any]) -> list[dict[str, Any]]:
    """Two steps with one thing between them."""
    names = stream.get("name") or [*stream["dirname"], f"{stream['dirname'][0]}/*"]
    return [
        {
            "name": Together.PRODUCER,
            "input_stream": [],
            "output_stream": names,
            "streaming": [stream],
        },
        {"name": Together.CONSUMER, "input_stream": names, "output_stream": []},
    ]


class Stream(Together):
    """work: seconds of computation of either step."""

    section = "Streaming"
    file = "stream.bin"

    def __init__(self, sizes: Sizes, chunk: int, *, work: float = 0) -> None:
        super().__init__(sizes)
        self.chunk = chunk
        self.work = work
        self.moved = sizes.worked_stream if work else sizes.stream
        amount = (
            f"{self.moved / (1 << 30):g} GiB" if self.moved >> 28 else f"{self.moved >> 20} MiB"
        )
        self.name = f"stream-{_SHOWN[chunk].replace(' ', '')}" + ("-work" if work else "")
        self.title = f"producer -> consumer, {amount}, {_SHOWN[chunk]} chunks"
        if work:
            self.title += f", {work:g} s of work each"
            self.sides = ("batch", "pipe", "pycapio", "peer")
            self.targets = (Speed("batch", 1.8), Speed("peer", 1))
        else:
            self.sides = ("batch", "pipe", "pycapio", "peer")
            self.targets = (TimeRatio("batch", 0.7), TimeRatio("pipe", 1.2), Speed("peer", 4))
        self._passes = 0

    def config(self) -> list[dict[str, Any]]:
        return graph({"name": [self.file], "committed": "on_close", "mode": "no_update"})

    def _calibrate(self) -> int:
        if self.work and not self._passes:
            chunks = self.moved // self.chunk
            self._passes = max(1, round(self.work / chunks / seconds_of_a_pass(bytes(self.chunk))))
        return self._passes

    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        path = place.directory(side) / self.file
        if side == "pipe":
            os.mkfifo(path)
        # Checking is one pass over every byte, on both sides.
        passes = 1 if check else self._calibrate()
        arguments = (path, self.moved, self.chunk, passes)
        produced, consumed = results = place.run(
            side,
            (self.PRODUCER, "produce.py", arguments),
            (self.CONSUMER, "consume.py", arguments),
        )
        if produced["digest"] != consumed["digest"]:
            raise WrongBytes(f"{self.name} on {side}")
        return wall(side, results)


class Files(Together):
    """Small files that come to be in a directory, each read once it is closed."""

    section = "Streaming"
    directory = "parts"

    def __init__(self, sizes: Sizes, *, work: float = 0) -> None:
        super().__init__(sizes)
        self.work = work
        self.calls = sizes.directory_files
        self.name = "directory-work" if work else "directory"
        self.title = f"{sizes.directory_files:,} small files through a directory"
        if work:
            self.title += f", {work:g} s of work each"
        self.sides = ("batch", "pycapio", "peer")
        self.targets = (TimeRatio("batch", 0.6), Speed("peer", 1 if work else 10))
        self._passes = 0

    def config(self) -> list[dict[str, Any]]:
        stream = {
            "dirname": [self.directory],
            "committed": "on_n_files",
            "n_files": self.sizes.directory_files,
            "mode": "no_update",
        }
        steps = graph(stream)
        steps[0]["streaming"].append({"name": [f"{self.directory}/*"], "committed": "on_close"})
        return steps

    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        if self.work and not self._passes:
            per_file = self.work / self.sizes.directory_files
            self._passes = max(1, round(per_file / seconds_of_a_pass(bytes(KIB))))
        path = place.directory(side) / self.directory
        arguments = (path, self.sizes.directory_files, self._passes)
        return wall(
            side,
            place.run(
                side,
                (self.PRODUCER, "produce_files.py", arguments),
                (self.CONSUMER, "consume_files.py", arguments),
            ),
        )


class Ping(Together):
    """How long it takes from bytes written to the reader's return: half of there and back."""

    name = "wake-up"
    title = "wake-up: bytes written -> reader returns"
    section = "Streaming"
    sides = ("pipe", "pycapio")
    targets = (TimeRatio("pipe", 1.3),)

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.calls = 1

    def config(self) -> list[dict[str, Any]]:
        def step(name: str, out: str, source: str) -> dict[str, Any]:
            rule = {"name": [out], "committed": "on_close", "mode": "no_update"}
            return {
                "name": name, "input_stream": [source], "output_stream": [out], "streaming": [rule]
            }  # fmt: skip

        return [step("ping", "there", "back"), step("pong", "back", "there")]

    def sample_on(self, side: str, place: Place, *, check: bool) -> float:
        there, back = (place.directory(side) / name for name in ("there", "back"))
        if side == "pipe":
            os.mkfifo(there)
            os.mkfifo(back)
        arguments = (there, back, self.sizes.pings)
        sent, _ = place.run(side, ("ping", "ping.py", arguments), ("pong", "pong.py", arguments))
        return float(sent["seconds"])
