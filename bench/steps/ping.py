"""Sends a byte and waits for the answer, many times; `pong.py` is the other end.

ping.py THERE BACK PINGS
"""

import sys
import time

import gate

there, back, pings = sys.argv[1], sys.argv[2], int(sys.argv[3])
gate.wait()
times = []
with open(there, "wb", buffering=0) as out, open(back, "rb", buffering=0) as answers:
    for number in range(pings):
        sent = bytes((number & 0xFF,))
        start = time.perf_counter()
        out.write(sent)
        got = answers.read(1)
        times.append(time.perf_counter() - start)
        if got != sent:
            sys.exit(f"ping: {got!r} instead of {sent!r}")
times.sort()
# One way; the first ones warm up, and are at the end of the sorted list, which the median ignores.
gate.report(seconds=times[len(times) // 2] / 2, quick=times[len(times) // 20] / 2)
