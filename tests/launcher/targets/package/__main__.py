"""Run by ``python -m package``."""

import sys

from . import part

print(__name__, __package__, __file__, __spec__.name, part.__name__, sys.argv, sys.path[0])
if len(sys.argv) > 1:
    raise ValueError(sys.argv[1])
