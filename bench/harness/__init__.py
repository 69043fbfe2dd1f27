"""What every measure needs: sizes, targets, places to run in, processes.

Nothing here imports pycapio: the same code runs in the peer's virtual environment.
"""
