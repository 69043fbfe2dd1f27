"""A reader gets the lines of a file while the writer still has it open.

Two functions in two processes, each a step of the workflow in pair.json: ``python pair.py``
"""

from __future__ import annotations

from multiprocessing import Process, Queue
from pathlib import Path
from typing import TYPE_CHECKING

from pycapio import CapioContext

if TYPE_CHECKING:
    Received = Queue[str]

WORKFLOW = str(Path(__file__).with_name("pair.json"))


@CapioContext(
    capio_dir=".",
    app_name="writer",
    workflow_name="pair",
    capio_cl_configuration_file=WORKFLOW,
)
def write(path: str, received: Received) -> None:
    with open(path, "w") as file:
        for number in range(3):
            file.write(f"line {number}\n")
            file.flush()
            # Not needed for the file: it only proves that the reader has the line already.
            print(f"writer: the file is open, and the reader has {received.get()!r}", flush=True)


@CapioContext(
    capio_dir=".",
    app_name="reader",
    workflow_name="pair",
    capio_cl_configuration_file=WORKFLOW,
)
def read(path: str, received: Received) -> None:
    with open(path) as file:  # waits until the writer has made the file
        for line in file:  # waits for each line, and ends when the writer has closed the file
            received.put(line)
    print("reader: the writer has closed the file, so this is its end", flush=True)


def main() -> None:
    received: Received = Queue()
    steps = [
        Process(target=read, args=("numbers.txt", received)),
        Process(target=write, args=("numbers.txt", received)),
    ]
    for step in steps:
        step.start()
    for step in steps:
        step.join()
    if any(step.exitcode != 0 for step in steps):
        raise SystemExit("pair: a step failed")


if __name__ == "__main__":
    main()
