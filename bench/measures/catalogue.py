"""All measures, in the order of the report."""

from __future__ import annotations

from harness.sizes import KIB, MIB, Sizes
from measures.bulk import SequentialRead, SequentialWrite
from measures.calls import Decorated, Outside
from measures.inprocess import InProcess
from measures.lines import ReadLines, WriteLines
from measures.names import Exists, Listing, Stat
from measures.small import SmallRead, SmallWrite
from measures.starting import Attach, Launch, WholeCommands
from measures.streaming import Files, Ping, Stream
from measures.together import Together


def in_process(sizes: Sizes) -> list[InProcess]:
    chunks = (MIB, 64 * KIB, 4 * KIB)
    return [
        *(SequentialWrite(sizes, chunk) for chunk in chunks),
        *(SequentialRead(sizes, chunk) for chunk in (*chunks, 0)),
        WriteLines(sizes),
        ReadLines(sizes),
        SmallWrite(sizes),
        SmallRead(sizes),
        Stat(sizes),
        Exists(sizes, hit=True),
        Exists(sizes, hit=False),
        Listing(sizes, "listdir"),
        Listing(sizes, "scandir"),
        Decorated(sizes, active=False),
        Decorated(sizes, active=True),
        Outside(sizes, "stat"),
        Outside(sizes, "exists"),
        Outside(sizes, "open"),
    ]


def together(sizes: Sizes) -> list[Together]:
    work = sizes.work_seconds
    plain, worked = Stream(sizes, MIB), Stream(sizes, MIB, work=work)
    return [
        plain,
        Stream(sizes, 64 * KIB),
        worked,
        Files(sizes),
        Files(sizes, work=work),
        Ping(sizes),
        Attach(sizes, running=False),
        Attach(sizes, running=True),
        Attach(sizes, running=False, entry=True),
        Launch(sizes),
        WholeCommands(sizes, plain),
        WholeCommands(sizes, worked),
    ]
