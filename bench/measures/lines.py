"""Text, line by line."""

from __future__ import annotations

import os

from harness.sizes import Sizes
from harness.targets import Speed
from measures.inprocess import IN, OUT, InProcess, WrongBytes, make_directories, timed

_SECTION = "Text"


def _line(number: int) -> str:
    return f"{number} some words of a line\n"


class WriteLines(InProcess):
    name = "lines-write"
    title = "writing lines"
    section = _SECTION
    targets = (Speed("plain", 0.95), Speed("peer", 4))

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self._number = 0

    def prepare(self, directory: str) -> None:
        make_directories(directory)

    def _path(self, directory: str) -> str:
        return f"{directory}/{OUT}/lines{self._number}.txt"

    def tidy(self, directory: str) -> None:
        os.remove(self._path(directory))

    def sample(self, directory: str) -> float:
        self._number += 1
        path = self._path(directory)
        lines = [_line(i) for i in range(self.sizes.lines)]

        def write() -> None:
            with open(path, "w") as f:
                for line in lines:
                    f.write(line)

        return timed(write)

    def verify(self, directory: str) -> None:
        path = self._path(directory)
        with open(path) as f:
            if f.read() != "".join(map(_line, range(self.sizes.lines))):
                raise WrongBytes(path)


class ReadLines(InProcess):
    name = "lines-read"
    title = "iterating lines"
    section = _SECTION
    targets = (Speed("plain", 0.95), Speed("peer", 4))

    def prepare(self, directory: str) -> None:
        inputs, _ = make_directories(directory)
        with open(f"{inputs}/lines.txt", "w") as f:
            f.writelines(map(_line, range(self.sizes.lines)))

    def sample(self, directory: str) -> float:
        path = f"{directory}/{IN}/lines.txt"
        seen = 0

        def read() -> None:
            nonlocal seen
            with open(path) as f:
                for _ in f:
                    seen += 1

        seconds = timed(read)
        if seen != self.sizes.lines:
            raise WrongBytes(f"{path}: {seen} lines")
        return seconds

    def verify(self, directory: str) -> None:
        path = f"{directory}/{IN}/lines.txt"
        with open(path) as f:
            if any(line != _line(i) for i, line in enumerate(f)):
                raise WrongBytes(path)
