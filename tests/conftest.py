"""The fixtures of workflows.py; tests import from there, as there are several conftest modules."""

from workflows import capio, original_functions, pytest_configure, pytest_sessionfinish, tmpfs

__all__ = ["capio", "tmpfs", "original_functions", "pytest_configure", "pytest_sessionfinish"]
