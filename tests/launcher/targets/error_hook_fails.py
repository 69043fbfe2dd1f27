import sys


def hook(kind, value, tb):  # type: ignore[no-untyped-def]
    raise ZeroDivisionError("in the hook")


sys.excepthook = hook
raise OSError("original")
