"""What a measure has to reach. Samples are seconds; targets look at the medians of the sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

OURS = "pycapio"


class Target(Protocol):
    @property
    def against(self) -> str:
        """The side that pycapio is compared with; its own name if with none."""

    def value(self, medians: Mapping[str, float]) -> float: ...

    def met(self, value: float) -> bool: ...

    def wanted(self) -> str: ...

    def shown(self, value: float) -> str: ...


class TimeRatio(NamedTuple):
    """pycapio takes at most so many times what the other side takes."""

    against: str
    limit: float

    def value(self, medians: Mapping[str, float]) -> float:
        return medians[OURS] / medians[self.against]

    def met(self, value: float) -> bool:
        return value <= self.limit

    def wanted(self) -> str:
        return f"<= {self.limit:g} x {self.against}"

    def shown(self, value: float) -> str:
        return f"{value:.2f} x"


class Speed(NamedTuple):
    """pycapio is at least so many times as fast as the other side."""

    against: str
    limit: float

    def value(self, medians: Mapping[str, float]) -> float:
        return medians[self.against] / medians[OURS]

    def met(self, value: float) -> bool:
        return value >= self.limit

    def wanted(self) -> str:
        return f">= {self.limit:g} x speed of {self.against}"

    def shown(self, value: float) -> str:
        return f"{value:.2f} x"


class Excess(NamedTuple):
    """pycapio takes at most so many seconds more than the other side."""

    against: str
    limit: float

    def value(self, medians: Mapping[str, float]) -> float:
        return medians[OURS] - medians[self.against]

    def met(self, value: float) -> bool:
        return value <= self.limit

    def wanted(self) -> str:
        return f"<= {self.limit * 1e6:g} us beyond {self.against}"

    def shown(self, value: float) -> str:
        return f"{value * 1e6:+.2f} us"


class AtMost(NamedTuple):
    """pycapio takes at most so many seconds."""

    limit: float
    against: str = OURS

    def value(self, medians: Mapping[str, float]) -> float:
        return medians[OURS]

    def met(self, value: float) -> bool:
        return value <= self.limit

    def wanted(self) -> str:
        return f"<= {self.limit * 1e3:g} ms"

    def shown(self, value: float) -> str:
        return f"{value * 1e3:.2f} ms"
