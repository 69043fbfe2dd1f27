"""Prints what a program can see of how it was started."""

import sys

import sibling

main = sys.modules["__main__"]
print(sorted(name for name in vars(main) if name not in ("sys", "sibling", "main")))
print(__name__, __file__, __package__, __doc__, vars(main)["__cached__"])
print(
    type(__loader__).__name__, getattr(__loader__, "path", None), getattr(__loader__, "name", None)
)
print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent, __spec__.has_location))
print(vars(main) is globals(), type(__builtins__).__name__)
print(sys.argv, sys.path, sibling.__file__)
print(main.__class__, [name for name in sys.modules if sys.modules[name] is main])
