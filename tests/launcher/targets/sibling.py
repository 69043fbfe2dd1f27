"""Imported by other targets, from their own directory."""

NAME = "sibling"
