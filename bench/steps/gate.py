"""How the steps of a measure begin and end together: imported by them, knows nothing of CAPIO."""

import json
import sys
import time


def wait() -> float:
    """Says that the step is ready, waits until all are, and returns the time, of a clock that all
    processes share."""
    print("ready", flush=True)
    sys.stdin.readline()
    return time.monotonic()


def report(**values: object) -> None:
    print(json.dumps(values), flush=True)
