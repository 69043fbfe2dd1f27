"""A package that cannot be run."""
