"""A step that reads a file in chunks, with or without computation.

consume.py PATH TOTAL CHUNK PASSES
"""

import sys
import time

import gate
from work import Work

path, total, chunk, passes = sys.argv[1], *map(int, sys.argv[2:5])
work = Work(passes)
begin = gate.wait()
seen = wrong = 0
with open(path, "rb") as f:
    while data := f.read(chunk):
        wrong += int.from_bytes(data[:8], "little") != seen // chunk % 8
        seen += len(data)
        work.on(data)
end = time.monotonic()
if seen != total or wrong:
    sys.exit(f"consume: {seen} bytes instead of {total}, {wrong} wrong chunks")
gate.report(begin=begin, end=end, digest=work.digest)
