"""Leaves with the value of the expression given."""

import sys

print("before", flush=True)
sys.exit(eval(sys.argv[1]))
