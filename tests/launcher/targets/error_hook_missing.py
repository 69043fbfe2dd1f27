import sys

del sys.excepthook
raise OSError("original")
