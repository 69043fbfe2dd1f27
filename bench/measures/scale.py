"""What does not grow: the cost of a call with many files, the server, the control segment."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from harness.site import Site
from harness.sizes import MIB
from measures.streaming import Stream, graph
from measures.together import Place, wall

# Of calls, in turn.
_GROUPS = 25


class ScaleSizes(NamedTuple):
    few: int
    many: int
    processes: int
    stream: int  # bytes
    large: int  # bytes; only where there is memory for it


FULL = ScaleSizes(few=1_000, many=100_000, processes=64, stream=1 << 30, large=8 << 30)
QUICK = ScaleSizes(few=100, many=2_000, processes=8, stream=16 * MIB, large=32 * MIB)


class Finding(NamedTuple):
    title: str
    value: str
    wanted: str
    met: bool | None  # None: not measured


def findings(sizes: ScaleSizes, tell: Callable[[str], None]) -> Iterator[Finding]:
    for part in (_files, _processes, _server, _large):
        tell(part.__name__.strip("_"))
        yield from part(sizes)


def _files(sizes: ScaleSizes) -> Iterator[Finding]:
    """Four processes take turns: few and many files, plain and managed."""
    keys = [(side, files) for side in ("plain", "pycapio") for files in (sizes.few, sizes.many)]
    costs: dict[tuple[str, int], list[dict[str, float]]] = {key: [] for key in keys}
    with ExitStack() as stack:
        steps, sites = {}, {}
        for side, files in keys:
            site = sites[side, files] = stack.enter_context(Site())
            config = graph({"dirname": ["many"], "committed": "on_termination"})
            config[0]["streaming"].append({"name": ["many/*"], "committed": "on_close"})
            place = Place(site, None, config)
            place.limit = 600
            arguments = (place.directory(side) / "many", files)
            steps[side, files] = place.step(side, "produce", "many_files.py", *arguments)
            stack.callback(steps[side, files].kill)
        for step in steps.values():
            step.await_ready()
        for _ in range(_GROUPS):
            for key, step in steps.items():
                step.go()
                costs[key].append(step.result())
        control = [_control_bytes(sites["pycapio", files]) for files in (sizes.few, sizes.many)]
        for step in steps.values():
            step.finish()

    def cost(side: str, files: int, name: str) -> float:
        return statistics.median(group[name] for group in costs[side, files])

    shown = {"make": "a new file", "read": "open + read + close", "ask": "os.stat"}
    for name, title in shown.items():
        few, many = (cost("pycapio", files, name) for files in (sizes.few, sizes.many))
        plain = cost("plain", sizes.many, name) / cost("plain", sizes.few, name)
        yield Finding(
            f"{title}: with {sizes.many:,} files / with {sizes.few:,}",
            f"{many * 1e6:.1f} us / {few * 1e6:.1f} us = {many / few:.2f} (plain: {plain:.2f})",
            "<= 1.2",
            many / few <= 1.2,
        )
    each = (control[1] - control[0]) / (sizes.many - sizes.few)
    yield Finding("control segment, bytes for each file", f"{each:.0f}", "<= 512", each <= 512)


def _control_bytes(site: Site) -> int:
    return sum(control.stat().st_blocks * 512 for control in site.store.glob("*/*/control"))


def _processes(sizes: ScaleSizes) -> Iterator[Finding]:
    with Site() as site:
        config = [
            {
                "name": "produce",
                "output_stream": ["of*"],
                "streaming": [{"name": ["of*"], "committed": "on_close"}],
            }
        ]
        place = Place(site, None, config)
        place.limit = 300
        steps = []
        start = time.perf_counter()
        try:
            for number in range(sizes.processes):
                arguments = (site.managed, number, sizes.processes)
                steps.append(place.step("pycapio", "produce", "one_of_many.py", *arguments))
            for step in steps:
                step.await_ready()
            for step in steps:
                step.go()
            for step in steps:
                step.result()
            for step in steps:
                step.finish()
        finally:
            for step in steps:
                step.kill()
        seconds = time.perf_counter() - start
    yield Finding(
        f"{sizes.processes} processes attached at once, each reads a file of every other",
        f"{seconds:.1f} s in all",
        "all succeed",
        True,
    )


def _server(sizes: ScaleSizes) -> Iterator[Finding]:
    stream = _sized(sizes.stream)
    with Site() as site:
        seconds, server = _streamed(site, stream)
    yield Finding(
        "server: memory while data flows",
        f"{server.resident / MIB:.1f} MiB",
        "< 20 MB",
        server.resident < 20e6,
    )
    share = server.cpu / seconds
    yield Finding(
        f"server: processor time while {sizes.stream / (1 << 30):g} GiB flow in {seconds:.2f} s",
        f"{server.cpu * 1e3:.0f} ms ({share:.1%})",
        "near zero",
        share < 0.02,
    )


def _large(sizes: ScaleSizes) -> Iterator[Finding]:
    title = f"a file of {sizes.large / (1 << 30):g} GiB written and streamed: memory of the steps"
    wanted = "<= 64 MiB each"
    with Site() as site:
        room = os.statvfs(site.base)
        if min(_available(), room.f_bavail * room.f_frsize) < 2 * sizes.large:
            yield Finding(title, "not enough memory free", wanted, None)
            return
        seconds, _ = _streamed(site, _sized(sizes.large), peaks := [])
    peak = max(peaks)
    yield Finding(title, f"{peak / MIB:.0f} MiB, {seconds:.1f} s", wanted, peak <= 64 * MIB)


def _sized(size: int) -> Stream:
    from harness.sizes import FULL as COMMON

    return Stream(COMMON._replace(stream=size), MIB)


class _Server(NamedTuple):
    resident: int  # bytes
    cpu: float  # seconds


def _streamed(site: Site, stream: Stream, peaks: list[int] | None = None) -> tuple[float, _Server]:
    """Streams once; seconds, and what the server took meanwhile."""
    place = Place(site, None, stream.config())
    arguments = (site.managed / stream.file, stream.moved, stream.chunk, 0)
    steps = [
        place.step("pycapio", stream.PRODUCER, "produce.py", *arguments),
        place.step("pycapio", stream.CONSUMER, "consume.py", *arguments),
    ]
    try:
        for step in steps:
            step.await_ready()
        pid = site.server_pids()[0]
        before = _cpu(pid)
        for step in steps:
            step.go()
        results = [step.result() for step in steps]
        server = _Server(_status(pid, "VmRSS"), _cpu(pid) - before)
        if peaks is not None:
            peaks.extend(int(result["peak"]) for result in results)
        for step in steps:
            step.finish()
    finally:
        for step in steps:
            step.kill()
    return wall("pycapio", results), server


def _cpu(pid: int) -> float:
    fields: Any = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int, name: str) -> int:
    return _kilobytes(Path(f"/proc/{pid}/status"), name)


def _available() -> int:
    return _kilobytes(Path("/proc/meminfo"), "MemAvailable")


def _kilobytes(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{path} has no {name}")
