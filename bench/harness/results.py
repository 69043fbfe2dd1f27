"""What came of a measure: its samples, and how they compare with its targets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from harness.targets import OURS, Target


class Measure(Protocol):
    name: str
    title: str
    section: str
    targets: tuple[Target, ...]
    moved: int
    calls: int


class Verdict(NamedTuple):
    target: Target
    value: float
    met: bool


class Row:
    """The samples (seconds) of one measure, by side."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.samples: dict[str, list[float]] = {}
        # Why there are no (more) samples of the peer.
        self.peer_note = ""

    def add(self, side: str, seconds: float) -> None:
        self.samples.setdefault(side, []).append(seconds)

    @property
    def medians(self) -> dict[str, float]:
        return {side: statistics.median(samples) for side, samples in self.samples.items()}

    @property
    def per_call(self) -> dict[str, float]:
        """The medians, of a single call where a sample is many."""
        calls = self.measure.calls or 1
        return {side: median / calls for side, median in self.medians.items()}

    @property
    def least(self) -> dict[str, float]:
        calls = self.measure.calls or 1
        return {side: min(samples) / calls for side, samples in self.samples.items()}

    def spread(self, side: str = OURS) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        samples = self.samples.get(side, [])
        if len(samples) < 2:
            return 0.0
        low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
        return (high - low) / 2 / median if median else 0.0

    def verdicts(self) -> Iterator[Verdict]:
        medians = self.per_call
        for target in self.measure.targets:
            if OURS in medians and target.against in medians:
                value = target.value(medians)
                yield Verdict(target, value, target.met(value))

    def as_json(self) -> dict[str, Any]:
        measure = self.measure
        return {
            "name": measure.name,
            "title": measure.title,
            "section": measure.section,
            "bytes": measure.moved,
            "calls": measure.calls,
            "samples": self.samples,
            "median": self.per_call,
            "least": self.least,
            "spread": {side: self.spread(side) for side in self.samples},
            "targets": [
                {
                    "against": verdict.target.against,
                    "wanted": verdict.target.wanted(),
                    "value": verdict.value,
                    "met": verdict.met,
                }
                for verdict in self.verdicts()
            ],
            "peer": self.peer_note,
        }
