"""Shows errors in its own way, from the state the interpreter leaves for a debugger."""

import sys
import traceback


def hook(kind, value, tb):  # type: ignore[no-untyped-def]
    print("hook", kind.__name__, value, sys.excepthook is hook)
    print(tb is value.__traceback__, tb is sys.last_traceback, value is sys.last_value)
    print([frame.name for frame in traceback.extract_tb(tb)])


def fail() -> None:
    raise OSError("no")


sys.excepthook = hook
fail()
