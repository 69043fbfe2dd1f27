"""Showing what was measured: a table, JSON, charts, the recorded run."""
