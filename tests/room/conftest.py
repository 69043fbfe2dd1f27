"""Small memories: a tmpfs of a few MiB, and a memory cgroup."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cgroups import Cgroup

from workflows import Workflow


@pytest.fixture
def small_memory(capio: Workflow) -> Iterator[Callable[[int], Workflow]]:
    """Puts the workflow's store on a tmpfs of so many MiB."""
    mounted = False

    def mount(size: int) -> Workflow:
        nonlocal mounted
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "capio-test"]
        done = subprocess.run([*command, str(capio.store)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
        mounted = True
        return capio

    try:
        yield mount
    finally:
        try:
            capio.close()
        finally:
            if mounted:
                subprocess.run(["umount", str(capio.store)], check=True)


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    name = f"capio-test-{uuid.uuid4().hex[:12]}"
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found: list[tuple[Path, bool]] = []
    for left, right in mounts:
        kind, _, options = right.split(" ", 2)
        place = Path(left.split()[4])
        if kind == "cgroup" and "memory" in options.split(","):
            found.insert(0, (place, True))
        elif kind == "cgroup2":
            found.append((place, False))
    if not found:
        pytest.skip("no memory cgroups are mounted")
    place, version1 = found[0]
    directory = place / name
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    made = Cgroup(directory, version1)
    try:
        if not (directory / ("memory.limit_in_bytes" if version1 else "memory.max")).exists():
            pytest.skip("the cgroups made here have no memory controller")
        yield made
    finally:
        directory.rmdir()
