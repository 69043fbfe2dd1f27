"""Questions about names, and listings."""

from __future__ import annotations

import os

from harness.sizes import Sizes
from harness.targets import Speed, TimeRatio
from measures.inprocess import IN, InProcess, WrongBytes, make_directories, timed

_SECTION = "Small files and names"


class _Query(InProcess):
    """The same question many times."""

    section = _SECTION
    targets = (TimeRatio("plain", 2.5), Speed("peer", 10))

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.calls = sizes.calls

    def prepare(self, directory: str) -> None:
        inputs, _ = make_directories(directory)
        with open(f"{inputs}/there", "wb") as f:
            f.write(b"x" * 100)


class Stat(_Query):
    name = "stat"
    title = "os.stat"
    # The peer does not intercept it.
    sides = ("plain", "pycapio")
    targets = (TimeRatio("plain", 2.5),)

    def sample(self, directory: str) -> float:
        path = f"{directory}/{IN}/there"
        calls = range(self.sizes.calls)

        def ask() -> None:
            for _ in calls:
                os.stat(path)

        return timed(ask)

    def verify(self, directory: str) -> None:
        if os.stat(f"{directory}/{IN}/there").st_size != 100:
            raise WrongBytes("os.stat")


class Exists(_Query):
    def __init__(self, sizes: Sizes, hit: bool) -> None:
        super().__init__(sizes)
        self.hit = hit
        self.name = "exists-hit" if hit else "exists-miss"
        self.title = "os.path.exists, " + ("hit" if hit else "miss")
        if not hit:  # it waits for ever
            self.sides = ("plain", "pycapio")
            self.targets = (TimeRatio("plain", 2.5),)

    def _path(self, directory: str) -> str:
        return f"{directory}/{IN}/there" if self.hit else f"{directory}/none"

    def sample(self, directory: str) -> float:
        path = self._path(directory)
        calls = range(self.sizes.calls)

        def ask() -> None:
            for _ in calls:
                os.path.exists(path)

        return timed(ask)

    def verify(self, directory: str) -> None:
        if os.path.exists(self._path(directory)) is not self.hit:
            raise WrongBytes("os.path.exists")


class Listing(InProcess):
    section = _SECTION
    targets = (TimeRatio("plain", 1.5), Speed("peer", 10))

    def __init__(self, sizes: Sizes, function: str) -> None:
        super().__init__(sizes)
        self.function = function
        self.name = function
        self.title = f"os.{function} of {sizes.entries:,}"

    def prepare(self, directory: str) -> None:
        inputs, _ = make_directories(directory)
        for i in range(self.sizes.entries):
            with open(f"{inputs}/entry{i}", "wb"):
                pass

    def _names(self, directory: str) -> list[str]:
        path = f"{directory}/{IN}"
        if self.function == "listdir":
            return os.listdir(path)
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_file()]

    def sample(self, directory: str) -> float:
        found: list[str] = []
        seconds = timed(lambda: found.extend(self._names(directory)))
        if len(found) != self.sizes.entries:
            raise WrongBytes(f"{len(found)} entries")
        return seconds

    def verify(self, directory: str) -> None:
        if set(self._names(directory)) != {f"entry{i}" for i in range(self.sizes.entries)}:
            raise WrongBytes(self.function)
