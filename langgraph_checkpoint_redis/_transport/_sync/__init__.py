# Derived from _transport/_async/__init__.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""One half of what both savers have. What is in `_sync` is derived by tools/derive_sync.py."""
