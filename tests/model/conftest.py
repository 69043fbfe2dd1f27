"""The fixtures of tree_pair.py; tests import them by that name."""

from tree_pair import trees

__all__ = ["trees"]
