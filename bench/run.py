"""Measures pycapio beside plain files on the same tmpfs, interleaved in one run.

    make bench                               plain files and pycapio
    .venv/bin/python bench/run.py --peer P   and PyCAPIO 0.0.2, with P the python of its own venv

Prints medians and ratios; --json FILE writes every sample. Bytes are checked where bytes are moved.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

MIB = 1 << 20
PEER_LIMIT = 60.0  # seconds; the peer may hang


class Measure:
    def __init__(self, name: str, unit: str, run: Callable[[Path], float]) -> None:
        self.name = name
        self.unit = unit
        self.run = run


def timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def write_chunks(chunk: int, total: int) -> Callable[[Path], float]:
    data = os.urandom(chunk)

    def run(directory: Path) -> float:
        path = os.fspath(directory / "w.bin")

        def action() -> None:
            with open(path, "wb") as f:
                for _ in range(total // chunk):
                    f.write(data)

        seconds = timed(action)
        if os.path.getsize(path) != total // chunk * chunk:
            raise RuntimeError(f"{path} has the wrong size")
        os.remove(path)
        return seconds

    return run


def read_chunks(chunk: int, total: int) -> Callable[[Path], float]:
    def run(directory: Path) -> float:
        path = os.fspath(directory / "r.bin")
        if not os.path.exists(path):
            with open(path, "wb") as f:
                f.write(b"\5" * total)

        def action() -> None:
            seen = 0
            with open(path, "rb") as f:
                while part := f.read(chunk):
                    seen += len(part)
            if seen != total:
                raise RuntimeError(f"{path}: read {seen} bytes of {total}")

        return timed(action)

    return run


def text_lines(directory: Path) -> float:
    path = os.fspath(directory / "t.txt")

    def action() -> None:
        with open(path, "w") as f:
            for i in range(100_000):
                f.write(f"{i} some words of a line\n")
        with open(path) as f:
            if sum(1 for _ in f) != 100_000:
                raise RuntimeError("lines are missing")

    seconds = timed(action)
    os.remove(path)
    return seconds


def small_files(directory: Path) -> float:
    names = [os.fspath(directory / f"s{i}") for i in range(500)]

    def action() -> None:
        for name in names:
            with open(name, "wb") as f:
                f.write(b"x" * 100)

    seconds = timed(action)
    for name in names:
        os.remove(name)
    return seconds / len(names)


def small_reads(directory: Path) -> float:
    path = os.fspath(directory / "small")
    with open(path, "wb") as f:
        f.write(b"x" * 100)

    def action() -> None:
        for _ in range(500):
            with open(path, "rb") as f:
                if len(f.read(100)) != 100:
                    raise RuntimeError("short read")

    return timed(action) / 500


def stats(directory: Path) -> float:
    path = os.fspath(directory / "small")

    def action() -> None:
        for _ in range(2000):
            os.stat(path)

    return timed(action) / 2000


def exists_miss(directory: Path) -> float:
    path = os.fspath(directory / "absent")

    def action() -> None:
        for _ in range(2000):
            os.path.exists(path)

    return timed(action) / 2000


def listing(directory: Path) -> float:
    folder = os.fspath(directory / "many")
    if not os.path.isdir(folder):
        os.mkdir(folder)
        for i in range(10_000):
            with open(f"{folder}/{i}", "wb"):
                pass

    def action() -> None:
        if len(os.listdir(folder)) != 10_000:
            raise RuntimeError("entries are missing")

    return timed(action)


def outside(_: Path) -> float:
    def action() -> None:
        for _ in range(5000):
            os.stat("/usr")

    return timed(action) / 5000


MEASURES = [
    Measure("write 64 MiB in 1 MiB chunks", "s", write_chunks(MIB, 64 * MIB)),
    Measure("write 64 MiB in 64 KiB chunks", "s", write_chunks(1 << 16, 64 * MIB)),
    Measure("write 64 MiB in 4 KiB chunks", "s", write_chunks(1 << 12, 64 * MIB)),
    Measure("read 64 MiB in 1 MiB chunks", "s", read_chunks(MIB, 64 * MIB)),
    Measure("read 64 MiB in 4 KiB chunks", "s", read_chunks(1 << 12, 64 * MIB)),
    Measure("write and iterate 100,000 lines", "s", text_lines),
    Measure("open + write 100 B + close, new file", "us", small_files),
    Measure("open + read 100 B + close", "us", small_reads),
    Measure("os.stat", "us", stats),
    Measure("os.path.exists, miss", "us", exists_miss),
    Measure("os.listdir of 10,000", "s", listing),
    Measure("os.stat outside CAPIO_DIR", "us", outside),
]


def attach(directory: Path) -> float:
    """Session and server start, seen from a running Python that has imported pycapio."""
    code = (
        "import time, pycapio\n"
        f"context = pycapio.CapioContext(capio_dir={os.fspath(directory)!r}, app_name='a',"
        f" workflow_name={uuid.uuid4().hex!r})\n"
        "start = time.perf_counter()\n"
        "with context: pass\n"
        "print(time.perf_counter() - start)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


PEER_NAMES = {
    "start": "attach, with server start",
    "small": "new file of 100 B",
    "write": "write 64 MiB",
}
PEER_CODE = """
import os, sys, time
from pycapio import CapioContext
directory, kind = sys.argv[1], sys.argv[2]
def start():
    pass
context = CapioContext(capio_dir=directory, app_name="a", workflow_name=sys.argv[2])
begin = time.perf_counter()
context(start)()
print("start", time.perf_counter() - begin, flush=True)
def small():
    for i in range(200):
        with open(f"{directory}/s{i}", "wb") as f:
            f.write(b"x" * 100)
begin = time.perf_counter()
context(small)()
print("small", (time.perf_counter() - begin) / 200, flush=True)
data = b"x" * (1 << 20)
def big():
    with open(f"{directory}/big", "wb") as f:
        for _ in range(64):
            f.write(data)
begin = time.perf_counter()
context(big)()
print("write", time.perf_counter() - begin, flush=True)
os.killpg(0, 9)  # its exit may hang
"""


def peer(python: str, directory: Path) -> dict[str, float]:
    """What the other implementation gave before the time limit."""
    workflow = f"bench{os.getpid()}"
    process = subprocess.Popen(
        [python, "-c", PEER_CODE, os.fspath(directory), workflow],
        stdout=subprocess.PIPE,
        cwd="/",  # not beside our own package
        # It looks for its server on PATH.
        env=os.environ | {"PATH": f"{os.path.dirname(python)}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        out, _ = process.communicate(timeout=PEER_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, _ = process.communicate()
    for left in Path("/dev/shm").glob(f"*{workflow}*"):
        left.unlink(missing_ok=True)
    rows = [line.split() for line in out.splitlines()]
    return {row[0]: float(row[1]) for row in rows if len(row) == 2 and row[0] in PEER_NAMES}


def shown(seconds: float, unit: str) -> str:
    return f"{seconds * 1e6:9.1f} us" if unit == "us" else f"{seconds * 1e3:9.2f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="samples of each measure")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--peer", help="python of a virtual environment with PyCAPIO 0.0.2")
    arguments = parser.parse_args()
    samples: dict[str, dict[str, list[float]]] = {}

    base = Path(tempfile.mkdtemp(prefix="pycapio-bench-", dir="/dev/shm"))
    os.environ["CAPIO_STORE"] = os.fspath(base)
    try:
        plain, managed = base / "plain", base / "managed"
        plain.mkdir()
        managed.mkdir()
        starts = [attach(managed) for _ in range(arguments.runs)]
        samples["attach, with server start"] = {"pycapio": starts}

        from pycapio import CapioContext

        context = CapioContext(
            capio_dir=os.fspath(managed), app_name="bench", workflow_name=uuid.uuid4().hex
        )
        for measure in MEASURES:
            row: dict[str, list[float]] = {"plain": [], "pycapio": []}
            for _ in range(arguments.runs):
                row["plain"].append(measure.run(plain))
                with context:
                    row["pycapio"].append(measure.run(managed))
            samples[measure.name] = row
        context.session.close(wait_seconds=30)

        print(f"{'':40}{'plain':>13}{'pycapio':>13}  ratio (spread of pycapio)")
        median = statistics.median(starts)
        print(f"{'attach, with server start':40}{'':13}{shown(median, 's'):>13}")
        for measure in MEASURES:
            row = samples[measure.name]
            ours, theirs = statistics.median(row["pycapio"]), statistics.median(row["plain"])
            spread = (max(row["pycapio"]) - min(row["pycapio"])) / ours
            print(
                f"{measure.name:40}{shown(theirs, measure.unit):>13}{shown(ours, measure.unit):>13}"
                f"  {ours / theirs:.2f} ({spread:.0%})"
            )
        if arguments.peer:
            print("\nPyCAPIO 0.0.2, one run, at most a minute:")
            for name, seconds in peer(arguments.peer, managed).items():
                print(f"  {PEER_NAMES[name]:38}{shown(seconds, 'us' if name == 'small' else 's')}")
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(samples, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
