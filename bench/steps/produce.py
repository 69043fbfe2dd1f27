"""A step that writes a file in chunks, with or without computation.

produce.py PATH TOTAL CHUNK PASSES
"""

import sys
import time

import gate
from work import Work

path, total, chunk, passes = sys.argv[1], *map(int, sys.argv[2:5])
work = Work(passes)
# Neighbours differ; made beforehand, since it is not their making that is measured.
chunks = [
    number.to_bytes(8, "little") + (bytes(range(256)) * (chunk // 256))[8:] for number in range(8)
]
begin = gate.wait()
with open(path, "wb") as f:
    for number in range(total // chunk):
        data = chunks[number % 8]
        work.on(data)
        f.write(data)
gate.report(begin=begin, end=time.monotonic(), digest=work.digest)
