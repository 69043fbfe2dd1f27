"""Computation: real work of the processor, as much as the run was calibrated to."""

import hashlib
import time


class Work:
    """Every byte goes into the digest; more passes only cost time."""

    def __init__(self, passes: int) -> None:
        self.passes = passes
        self._digest = hashlib.sha256()

    def on(self, data: bytes) -> None:
        if self.passes:
            self._digest.update(data)
        for _ in range(self.passes - 1):
            hashlib.sha256(data).digest()

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()


def seconds_of_a_pass(data: bytes, passes: int = 200) -> float:
    work = Work(passes)
    start = time.perf_counter()
    work.on(data)
    return (time.perf_counter() - start) / passes
