"""Runs a step under PyCAPIO 0.0.2, whose own launcher cannot run a script by its path.

under_peer.py CAPIO_DIR WORKFLOW APP CONFIG SCRIPT [ARGUMENT...]
"""

import os
import sys

from pycapio import CapioContext

directory, workflow, app, config, script = sys.argv[1:6]
sys.argv = sys.argv[5:]
with open(script, encoding="utf-8") as f:
    code = compile(f.read(), script, "exec")


@CapioContext(
    capio_dir=directory,
    workflow_name=workflow,
    app_name=app,
    capio_cl_configuration_file=config,
    await_server_timeout_seconds=10,
)
def run() -> None:
    exec(code, {"__name__": "__main__", "__file__": script})


run()
# Its own end may hang; and what it has written is gone for others when it has ended.
sys.stdin.read()
os._exit(0)
