"""Can be imported, and run by ``python -m package.part``."""

import sys

if __name__ == "__main__":
    print(__package__, __spec__.name, sys.argv)
    sys.exit("the end of part")
