"""Small files: what opening and closing costs."""

from __future__ import annotations

from harness.sizes import Sizes
from harness.targets import Speed, TimeRatio
from measures.inprocess import IN, OUT, InProcess, WrongBytes, make_directories, timed

_SECTION = "Small files and names"
SMALL = bytes(range(100))


class SmallWrite(InProcess):
    name = "small-write"
    title = "open + write 100 B + close, new file"
    section = _SECTION
    targets = (TimeRatio("plain", 1.6), Speed("peer", 10))

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.calls = sizes.small_files
        self._sample = 0

    def prepare(self, directory: str) -> None:
        make_directories(directory)

    def _paths(self, directory: str) -> list[str]:
        return [f"{directory}/{OUT}/small{self._sample}-{i}" for i in range(self.sizes.small_files)]

    def sample(self, directory: str) -> float:
        self._sample += 1
        paths = self._paths(directory)

        def write() -> None:
            for path in paths:
                with open(path, "wb") as f:
                    f.write(SMALL)

        return timed(write)

    def verify(self, directory: str) -> None:
        for path in self._paths(directory):
            with open(path, "rb") as f:
                if f.read() != SMALL:
                    raise WrongBytes(path)


class SmallRead(InProcess):
    name = "small-read"
    title = "open + read 100 B + close"
    section = _SECTION
    targets = (TimeRatio("plain", 1.8), Speed("peer", 10))

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        self.calls = sizes.small_files

    def prepare(self, directory: str) -> None:
        inputs, _ = make_directories(directory)
        for i in range(self.sizes.small_files):
            with open(f"{inputs}/small{i}", "wb") as f:
                f.write(SMALL)

    def sample(self, directory: str) -> float:
        paths = [f"{directory}/{IN}/small{i}" for i in range(self.sizes.small_files)]
        wrong = 0

        def read() -> None:
            nonlocal wrong
            for path in paths:
                with open(path, "rb") as f:
                    if f.read(100) != SMALL:
                        wrong += 1

        seconds = timed(read)
        if wrong:
            raise WrongBytes(f"{wrong} small files")
        return seconds
