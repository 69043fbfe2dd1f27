"""Enters a CapioContext, having imported everything, and says how long that took.

    attach.py CAPIO_DIR WORKFLOW APP

In the peer's Python, too, whose context is only a decorator.
"""

import sys
import time

import gate
from pycapio import CapioContext

context = CapioContext(capio_dir=sys.argv[1], workflow_name=sys.argv[2], app_name=sys.argv[3])
function = context(lambda: None)
gate.wait()
start = time.perf_counter()
function()
gate.report(seconds=time.perf_counter() - start)
if len(sys.argv) > 4:  # stay, until told to go
    sys.stdin.readline()
