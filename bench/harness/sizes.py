"""How much is measured."""

from __future__ import annotations

from typing import Final, NamedTuple

KIB: Final = 1 << 10
MIB: Final = 1 << 20


class Sizes(NamedTuple):
    """Amounts of work of one sample, and how many samples are taken."""

    rounds: int  # how often all measures are gone through
    samples: int  # of every side, in one round
    pairs: int  # runs of a measure of several processes, in one round; 0: the check is the sample
    sequential: int  # bytes
    lines: int
    small_files: int
    calls: int
    entries: int
    stream: int  # bytes
    worked_stream: int  # bytes, with computation
    work_seconds: float  # of computation of either step
    directory_files: int
    pings: int
    peer_seconds: float  # time limit of one attempt of the peer


FULL: Final = Sizes(
    rounds=3,
    samples=7,
    pairs=3,
    sequential=64 * MIB,
    lines=200_000,
    small_files=500,
    calls=2_000,
    entries=10_000,
    stream=1 << 30,
    worked_stream=256 * MIB,
    work_seconds=1.0,
    directory_files=5_000,
    pings=5_000,
    peer_seconds=30,
)

# Whether everything works, not how fast: a second or so for each measure.
QUICK: Final = Sizes(
    rounds=1,
    samples=1,
    pairs=0,
    sequential=2 * MIB,
    lines=1_000,
    small_files=20,
    calls=20,
    entries=100,
    stream=4 * MIB,
    worked_stream=2 * MIB,
    work_seconds=0.02,
    directory_files=50,
    pings=50,
    peer_seconds=20,
)

SIZES: Final = {"full": FULL, "quick": QUICK}
