import broken  # noqa: F401
