"""A step that writes many small files into a directory.

produce_files.py DIRECTORY FILES PASSES
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
os.makedirs(directory, exist_ok=True)
for number in range(files):
    data = number.to_bytes(8, "little") + body[8:]
    work.on(data)
    with open(f"{directory}/part{number}", "wb") as f:
        f.write(data)
gate.report(begin=begin, end=time.monotonic())
