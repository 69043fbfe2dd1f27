"""The fixtures of twins.py, which tests import by that name: there are several conftest modules."""

from twins import twin

__all__ = ["twin"]
