"""One of two halves: `_async` is written by hand, `_sync` is derived by tools/derive_sync.py."""
