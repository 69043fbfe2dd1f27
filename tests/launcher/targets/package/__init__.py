"""A package that can be run."""

print("package is imported as", __name__)
