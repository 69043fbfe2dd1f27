"""A memory cgroup of a test's own."""

from __future__ import annotations

from pathlib import Path


class Cgroup:
    """Its directory, in version 1 or 2 of the interface."""

    def __init__(self, directory: Path, version1: bool) -> None:
        self.directory = directory
        self.version1 = version1

    def limit(self, size: int) -> None:
        name = "memory.limit_in_bytes" if self.version1 else "memory.max"
        (self.directory / name).write_text(str(size))

    def oom_kills(self) -> int:
        events = self.directory / ("memory.oom_control" if self.version1 else "memory.events")
        fields = dict(line.split() for line in events.read_text().splitlines())
        return int(fields["oom_kill"])

    @property
    def prefix(self) -> list[str]:
        """What starts a command in it."""
        return ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(self.directory)]
