# Derived from _core/_async/__init__.py by tools/derive_sync.py.
# Change the source and run `make derive`.

"""One of two halves: `_sync` is written by hand, `_sync` is derived by tools/derive_sync.py."""
