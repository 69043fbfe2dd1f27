"""Says that it is ready, and is interrupted at a line that is always the same."""

import atexit
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(print, "at exit")
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
print("ready", flush=True)
sys.stdin.readline()
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
sys.stdin.readline()
print("not reached")
