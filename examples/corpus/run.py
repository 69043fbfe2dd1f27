"""Runs two steps of a workflow as a batch and streaming, and compares them.

    python run.py [--runs N]

The steps are produce.py and consume.py, two programs that know nothing of pycapio. In a batch the
second one is started when the first one has ended; streaming, both are started at once under
pycapio, and workflow.json says which files they share. The results have to be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STEPS = ("produce", "consume")
TMPFS = Path("/dev/shm")


class DemoError(Exception):
    """A run did not do what it should; the text says what."""


@dataclass
class Run:
    """What came of one run of both steps."""

    seconds: float
    result: str  # checksum of result.json
    size: int  # of corpus.txt
    read_at_close: int  # by step 2, when step 1 closed corpus.txt
    delay: float  # from that close until step 2 had read the last byte


def main() -> None:
    parser = argparse.ArgumentParser(description="Compares a batch with a streaming run.")
    parser.add_argument("--runs", type=_positive, default=3, help="of each kind (default: 3)")
    parser.add_argument(
        "--megabytes", type=float, default=40.0, help="length of the corpus, at most"
    )
    arguments = parser.parse_args()
    try:
        compare(arguments.runs, arguments.megabytes)
    except DemoError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")


def compare(runs: int, megabytes: float) -> None:
    on_tmpfs = TMPFS.is_dir() and os.access(TMPFS, os.W_OK)
    place = TMPFS if on_tmpfs else Path(tempfile.gettempdir())
    print("Step 1 writes the text of Python's standard library as a corpus with an index,")
    print("step 2 counts its tokens and checks it by the index.")
    print(f"batch:     one step after the other, files in {place}", end="")
    print(" (in memory, tmpfs)" if on_tmpfs else "")
    print("streaming: both steps at once under pycapio", end="\n\n", flush=True)

    begin, others = time.monotonic(), busy_with_others()
    batch: list[Run] = []
    streaming: list[Run] = []
    print("run       batch   streaming")
    for number in range(1, runs + 1):
        batch.append(run_once(place, megabytes, streaming=False))
        print(f"{number:3}  {batch[-1].seconds:8.2f} s", end="", flush=True)
        streaming.append(run_once(place, megabytes, streaming=True))
        print(f"  {streaming[-1].seconds:8.2f} s", flush=True)
        if len({run.result for run in batch + streaming}) > 1:
            raise DemoError("the results of batch and streaming are not identical.")
    before = statistics.median(run.seconds for run in batch)
    after = statistics.median(run.seconds for run in streaming)
    print(f"median {before:6.2f} s  {after:8.2f} s   {before / after:.2f} times as fast")

    usual = min(streaming, key=lambda run: abs(run.seconds - after))
    share = usual.read_at_close / usual.size if usual.size else 0.0
    print()
    print(f"When step 1 closed the corpus of {usual.size / 1e6:.1f} MB, step 2 had read", end=" ")
    print(f"{usual.read_at_close / 1e6:.1f} MB ({share:.0%});")
    print(f"it had read the last byte {max(usual.delay, 0.0):.3f} s later.")
    print(f"The results are identical (sha256 {usual.result[:16]}...).")
    if len(os.sched_getaffinity(0)) == 1:
        print("There is only one processor here, so the steps could not run at the same time.")
    elif busy_with_others() - others > 0.2 * (time.monotonic() - begin):
        print("Other programs were using the processors meanwhile: the times are not exact.")


def busy_with_others() -> float:
    """Seconds of processor time that were spent on anything but our steps."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split()[1:4])
    ours = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - ours.ru_utime - ours.ru_stime


def run_once(place: Path, megabytes: float, *, streaming: bool) -> Run:
    """Runs both steps in a directory of their own."""
    with tempfile.TemporaryDirectory(prefix="corpus-", dir=place) as scratch:
        directory = Path(scratch, "data")
        directory.mkdir()
        arguments = {"produce": [str(directory), f"--megabytes={megabytes}"]}
        arguments["consume"] = [str(directory)]
        begin = time.monotonic()
        if streaming:
            commands = [
                [
                    *(sys.executable, "-m", "pycapio"),
                    *("--capio-dir", str(directory), "--app-name", step),
                    *("--workflow-name", Path(scratch).name),
                    *("--capio-cl", str(HERE / "workflow.json")),
                    *(str(HERE / f"{step}.py"), *arguments[step]),
                ]
                for step in STEPS
            ]
            try:
                run_steps(Path(scratch), STEPS, commands)
            except BaseException:
                wait_for_server(directory, Path(scratch).name)
                raise
        else:
            for step in STEPS:
                command = [sys.executable, str(HERE / f"{step}.py"), *arguments[step]]
                run_steps(Path(scratch), [step], [command])
        seconds = time.monotonic() - begin

        try:
            result = hashlib.sha256((directory / "result.json").read_bytes()).hexdigest()
        except FileNotFoundError:
            raise DemoError("step consume ended well, but there is no result.json.") from None
        closed = next(e for e in events(Path(scratch), "produce") if e["event"] == "closed")
        reads = list(events(Path(scratch), "consume"))
        return Run(
            seconds=seconds,
            result=result,
            size=int(closed["bytes"]),
            read_at_close=int(
                max((e["bytes"] for e in reads if e["time"] <= closed["time"]), default=0)
            ),
            delay=reads[-1]["time"] - closed["time"],
        )


def run_steps(scratch: Path, steps: Sequence[str], commands: Sequence[Sequence[str]]) -> None:
    """Runs commands at the same time, each one's output to STEP.out and STEP.err."""
    with started(scratch, steps, commands) as processes:
        # Whichever ends first is looked at first: if it failed, another may wait for it for ever.
        ended: queue.SimpleQueue[str] = queue.SimpleQueue()
        for step, process in processes.items():
            threading.Thread(target=_wait, args=(process, step, ended), daemon=True).start()
        for _ in processes:
            step = ended.get()
            code = processes[step].returncode
            if code != 0:
                error = (scratch / f"{step}.err").read_text(errors="replace").rstrip()
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                raise DemoError(f"step {step} failed ({how})." + (f"\n{error}" if error else ""))


def wait_for_server(directory: Path, workflow: str) -> None:
    """Waits until pycapio has put aside what a failed step had written: this demo's is to go."""
    from pycapio import PyCAPIOException, pycapio_init, pycapio_teardown

    try:
        for step in STEPS:  # the server would give one that has not come yet another minute
            pycapio_init(str(directory), step, workflow, await_server_timeout_seconds=30)
            pycapio_teardown(teardown_server=True)
    except PyCAPIOException:
        pass  # there is no server to wait for, and the failure of the step says more


@contextmanager
def started(
    scratch: Path, steps: Sequence[str], commands: Sequence[Sequence[str]]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The processes of the steps, none of which is left behind."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for step, command in zip(steps, commands, strict=True):
            with (
                open(scratch / f"{step}.out", "wb") as out,
                open(scratch / f"{step}.err", "wb") as err,
            ):
                processes[step] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err
                )
        yield processes
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()
            process.wait()


def _wait(process: subprocess.Popen[bytes], step: str, ended: queue.SimpleQueue[str]) -> None:
    process.wait()
    ended.put(step)


def events(scratch: Path, step: str) -> Iterator[dict[str, Any]]:
    """What a step has printed about itself, with the time of the clock that all processes share."""
    for line in (scratch / f"{step}.out").read_text().splitlines():
        yield json.loads(line)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least one run is needed")
    return number


if __name__ == "__main__":
    main()
