"""Fails while it is being imported."""

raise LookupError("broken on purpose")
