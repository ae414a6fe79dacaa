"""Servers that this package runs itself, one for each directory."""
