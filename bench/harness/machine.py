"""The machine a run was made on, and how much of it others used meanwhile."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path


def describe() -> dict[str, str]:
    cpu, memory = "?", "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = f"{int(line.split()[1]) / (1 << 20):.1f} GiB"
    hypervisor = "hypervisor" in Path("/proc/cpuinfo").read_text()
    return {
        "processors": f"{len(os.sched_getaffinity(0))} x {cpu}"
        + (" (a virtual machine)" if hypervisor else ""),
        "memory": memory,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "store": "tmpfs /dev/shm",
    }


class Others:
    """How much of the processors other programs used since this was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._before = self._busy()

    def share(self) -> float:
        """0 to 1."""
        seconds = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        return max(0.0, (self._busy() - self._before) / seconds) if seconds else 0.0

    @staticmethod
    def _busy() -> float:
        fields = Path("/proc/stat").read_text().split()
        user, nice, system = map(int, fields[1:4])
        steal = int(fields[8])
        ours = 0.0
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(who)
            ours += usage.ru_utime + usage.ru_stime
        return (user + nice + system + steal) / os.sysconf("SC_CLK_TCK") - ours
