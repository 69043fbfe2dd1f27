"""Sequential writing and reading of one large file."""

from __future__ import annotations

import os
import zlib

from harness.sizes import KIB, MIB, Sizes
from harness.targets import Speed
from measures.inprocess import IN, OUT, InProcess, WrongBytes, make_directories, pattern, timed

_SHOWN = {MIB: "1 MiB", 64 * KIB: "64 KiB", 4 * KIB: "4 KiB"}
_SECTION = "Sequential files"


class SequentialWrite(InProcess):
    section = _SECTION
    targets = (Speed("plain", 0.9), Speed("peer", 4))

    def __init__(self, sizes: Sizes, chunk: int) -> None:
        super().__init__(sizes)
        self.chunk = chunk
        self.name = f"write-{_SHOWN[chunk].replace(' ', '')}"
        self.title = f"write, {_SHOWN[chunk]} chunks"
        self.moved = sizes.sequential
        self.data = pattern(sizes.sequential)
        self._number = 0

    def _parts(self) -> list[bytes]:
        data = self.data
        return [data[at : at + self.chunk] for at in range(0, len(data), self.chunk)]

    def prepare(self, directory: str) -> None:
        make_directories(directory)

    def _path(self, directory: str) -> str:
        # A new file every time: what is measured is the first writing of pages.
        return f"{directory}/{OUT}/written{self._number}.bin"

    def tidy(self, directory: str) -> None:
        os.remove(self._path(directory))

    def sample(self, directory: str) -> float:
        self._number += 1
        path = self._path(directory)
        parts = self._parts()

        def write() -> None:
            with open(path, "wb") as f:
                for part in parts:
                    f.write(part)

        return timed(write)

    def verify(self, directory: str) -> None:
        path = self._path(directory)
        with open(path, "rb") as f:
            if f.read() != self.data:
                raise WrongBytes(path)


class SequentialRead(InProcess):
    """chunk 0: the whole file by one read()."""

    section = _SECTION
    targets = (Speed("plain", 0.95), Speed("peer", 4))

    def __init__(self, sizes: Sizes, chunk: int) -> None:
        super().__init__(sizes)
        self.chunk = chunk
        self.name = f"read-{_SHOWN[chunk].replace(' ', '')}" if chunk else "read-whole"
        self.title = f"read, {_SHOWN[chunk]} chunks" if chunk else "read() of the whole file"
        self.moved = sizes.sequential

    def prepare(self, directory: str) -> None:
        inputs, _ = make_directories(directory)
        with open(f"{inputs}/input.bin", "wb") as f:
            f.write(pattern(self.sizes.sequential))

    def sample(self, directory: str) -> float:
        path = f"{directory}/{IN}/input.bin"
        chunk = self.chunk or -1
        seen = 0

        def read() -> None:
            nonlocal seen
            with open(path, "rb") as f:
                while part := f.read(chunk):
                    seen += len(part)

        seconds = timed(read)
        if seen != self.sizes.sequential:
            raise WrongBytes(f"{path}: {seen} bytes")
        return seconds

    def verify(self, directory: str) -> None:
        path = f"{directory}/{IN}/input.bin"
        crc = 0
        with open(path, "rb") as f:
            while part := f.read(self.chunk or -1):
                crc = zlib.crc32(part, crc)
        if crc != zlib.crc32(pattern(self.sizes.sequential)):
            raise WrongBytes(path)
