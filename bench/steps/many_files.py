"""Makes many files and says what one more, one read and one stat cost when there are few and many.

many_files.py DIRECTORY FEW MANY
"""

import os
import random
import sys
import time

import gate

_CALLS = 100
directory, many = sys.argv[1], int(sys.argv[2])
made = 0
chosen = random.Random(1)


def make(count: int) -> None:
    global made
    for _ in range(count):
        with open(f"{directory}/file{made}", "wb") as f:
            f.write(b"x" * 100)
        made += 1


def read(count: int) -> None:
    for number in (chosen.randrange(made) for _ in range(count)):
        with open(f"{directory}/file{number}", "rb") as f:
            if len(f.read()) != 100:
                sys.exit(f"many_files: file{number} is short")


def ask(count: int) -> None:
    for number in (chosen.randrange(made) for _ in range(count)):
        if os.stat(f"{directory}/file{number}").st_size != 100:
            sys.exit(f"many_files: file{number} has the wrong size")


def cost() -> dict[str, float]:
    """Processor seconds of one call."""
    costs = {}
    for function in (make, read, ask):
        start = time.process_time()
        function(_CALLS)
        costs[function.__name__] = (time.process_time() - start) / _CALLS
    return costs


os.makedirs(directory, exist_ok=True)
make(many)
gate.wait()
while True:
    gate.report(**cost(), files=made)
    if sys.stdin.readline() != "\n":
        break
