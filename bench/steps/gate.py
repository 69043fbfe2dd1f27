"""How the steps of a measure begin and end together: imported by them, knows nothing of CAPIO."""

import json
import sys
import time

_cpu = 0.0


def wait() -> float:
    """Says that the step is ready, waits until all are, and returns the time, of a clock that all
    processes share."""
    print("ready", flush=True)
    sys.stdin.readline()
    global _cpu
    _cpu = time.process_time()
    return time.monotonic()


def report(**values: object) -> None:
    """What the step has to say, the processor time it took since it was let go, and the most memory
    it ever had, in bytes."""
    print(json.dumps(values | {"cpu": time.process_time() - _cpu, "peak": _peak()}), flush=True)


def _peak() -> int:
    # Not ru_maxrss: that begins with what the process had before exec, a copy of the harness.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
