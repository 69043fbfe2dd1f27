import os
import signal
import sys

os.kill(os.getpid(), getattr(signal, sys.argv[1]))
signal.pause()
