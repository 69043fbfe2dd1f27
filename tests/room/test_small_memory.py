"""Workflows larger than memory: on a small tmpfs, in a small memory cgroup."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cgroups import Cgroup

from workflows import Workflow

MIB = 1 << 20

# Content that can be told from its name: a block of a hash, over and over. The processes of these
# tests hold little of it at a time, since their own memory is counted, too.
CONTENT = """
import hashlib, os, sys

def blocks(name, size):
    seed = hashlib.shake_256(name.encode()).digest(1021) * 64
    for at in range(0, size, len(seed)):
        yield seed[: size - at]

def write(name, size):
    with open(name, "wb") as f:
        for block in blocks(name, size):
            f.write(block)

def check(name, size):
    with open(name, "rb") as f:
        for block in blocks(name, size):
            assert f.read(len(block)) == block, name
        assert f.read() == b"", name

def size_of(i):
    return ((i * 7) % 13 + 1) << 18
"""


def rules(capio: Workflow, makers: int, commit: str) -> None:
    capio.config(
        [
            {
                "name": f"maker{m}",
                "input_stream": [],
                "output_stream": [f"m{m}/*"],
                "streaming": [{"name": [f"m{m}/*"], "committed": commit, "mode": "no_update"}],
            }
            for m in range(makers)
        ]
        + [
            {
                "name": "reader",
                "input_stream": [f"m{m}/*" for m in range(makers)],
                "output_stream": ["sums"],
            }
        ],
        permanent=["sums", "m0/f1*"],
    )


def run_larger_than_memory(capio: Workflow, total: int, commit: str = "on_close") -> None:
    """Two makers and a reader that follows both; every byte is compared."""
    files = total // 2 // (7 << 18)
    rules(capio, 2, commit)
    reader = capio.step(
        "reader",
        CONTENT
        + """
files = int(sys.argv[1])
done = 0
for i in range(files):
    for m in range(2):
        name = f"m{m}/f{i}"
        check(name, size_of(i))
        assert os.path.getsize(name) == size_of(i)
        done += size_of(i)
# And again: by now most have been moved.
for i in range(files):
    for m in range(2):
        check(f"m{m}/f{i}", size_of(i))
assert sorted(os.listdir("m1")) == sorted(f"f{i}" for i in range(files))
with open("sums", "w") as f:
    f.write(str(done))
""",
        str(files),
    )
    makers = [
        capio.step(
            f"maker{m}",
            CONTENT
            + """
files, m = map(int, sys.argv[1:])
os.mkdir(f"m{m}")
for i in range(files):
    write(f"m{m}/f{i}", size_of(i))
""",
            str(files),
            str(m),
        )
        for m in range(2)
    ]
    for step in (*makers, reader):
        step.finish(limit=240)
    assert capio.wait_for_server_end()
    written = sum(((i * 7) % 13 + 1) << 18 for i in range(files)) * 2
    assert (capio.dir / "sums").read_text() == str(written)
    assert written > 0.9 * total
    kept = sorted(path.name for path in (capio.dir / "m0").iterdir())
    assert kept == sorted(f"f{i}" for i in range(files) if str(i).startswith("1"))
    assert not (capio.dir / ".capio").exists()


@pytest.mark.parametrize("commit", ["on_close", "on_termination"])
def test_five_times_larger_than_a_tmpfs(
    small_memory: Callable[[int], Workflow], commit: str
) -> None:
    capio = small_memory(24)
    run_larger_than_memory(capio, 5 * 24 * MIB, commit)


@pytest.mark.parametrize("commit", ["on_close", "on_termination"])
def test_five_times_larger_than_a_memory_cgroup(
    small_memory: Callable[[int], Workflow], cgroup: Cgroup, commit: str
) -> None:
    capio = small_memory(512)
    cgroup.limit(64 * MIB)
    capio.prefix = cgroup.prefix
    run_larger_than_memory(capio, 5 * 64 * MIB, commit)
    assert cgroup.oom_kills() == 0


def test_without_rules_in_a_memory_cgroup(
    small_memory: Callable[[int], Workflow], cgroup: Cgroup
) -> None:
    """One script, plainly started: nothing is complete before it ends."""
    capio = small_memory(512)
    cgroup.limit(64 * MIB)
    capio.prefix = cgroup.prefix
    capio.run(
        "script",
        CONTENT
        + """
for i in range(40):
    write(f"f{i}", 8 << 20)
for i in range(40):
    check(f"f{i}", 8 << 20)
""",
    )
    assert capio.wait_for_server_end()
    assert cgroup.oom_kills() == 0
    assert sorted(path.name for path in capio.dir.iterdir()) == sorted(f"f{i}" for i in range(40))
    assert all(Path(capio.dir, f"f{i}").stat().st_size == 8 * MIB for i in range(40))
