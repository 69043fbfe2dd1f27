"""The child of a plain fork leaves through the end of the script, as the parent does."""

import os
import sys

pid = os.fork()
if pid == 0:
    print("child", flush=True)
    sys.exit(4)
print("parent", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
