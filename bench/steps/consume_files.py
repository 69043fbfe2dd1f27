"""A step that reads every file of a directory.

consume_files.py DIRECTORY FILES PASSES
"""

import os
import sys
import time

import gate
from work import Work

directory, files, passes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
work = Work(passes)
body = bytes(range(256)) * 4
begin = gate.wait()
numbers = set()
with os.scandir(directory) as entries:
    for entry in entries:
        with open(entry.path, "rb") as f:
            data = f.read()
        work.on(data)
        number = int.from_bytes(data[:8], "little")
        if entry.name != f"part{number}" or data[8:] != body[8:]:
            sys.exit(f"consume_files: {entry.name} has the wrong bytes")
        numbers.add(number)
end = time.monotonic()
if numbers != set(range(files)):
    sys.exit(f"consume_files: {len(numbers)} files instead of {files}")
gate.report(begin=begin, end=end)
