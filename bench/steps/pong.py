"""Answers every byte with the same one.

pong.py THERE BACK PINGS
"""

import sys

import gate

there, back = sys.argv[1], sys.argv[2]
gate.wait()
with open(there, "rb", buffering=0) as questions, open(back, "wb", buffering=0) as out:
    while byte := questions.read(1):
        out.write(byte)
gate.report(end=0)
