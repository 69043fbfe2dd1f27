"""Attaches, having imported everything, and says how long that took.

    attach.py session|entry CAPIO_DIR WORKFLOW APP [stay]

session: what attaching alone takes; entry: with the first entry of the context, which looks for
references to functions that others have captured. The peer's context is only a decorator: entry.
"""

import sys
import time

import gate
from pycapio import CapioContext

kind, capio_dir, workflow, app = sys.argv[1:5]
context = CapioContext(capio_dir=capio_dir, workflow_name=workflow, app_name=app)
function = context(lambda: None)
gate.wait()
start = time.perf_counter()
if kind == "session":
    _ = context.session
else:
    function()
gate.report(seconds=time.perf_counter() - start)
if len(sys.argv) > 5:  # stay, until told to go
    sys.stdin.readline()
