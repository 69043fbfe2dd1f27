"""One of many processes of a step: writes a file of its own, then reads everybody's.

one_of_many.py DIRECTORY NUMBER COUNT
"""

import sys

import gate

directory, number, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(f"{directory}/of{number}", "w") as f:
    f.write(f"{number}\n")
gate.wait()
for other in range(count):
    with open(f"{directory}/of{other}") as f:
        if f.read() != f"{other}\n":
            sys.exit(f"one_of_many: the file of {other} is wrong")
gate.report()
