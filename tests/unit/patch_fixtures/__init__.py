"""Modules that the tests of pycapio.patching import anew for each test."""
