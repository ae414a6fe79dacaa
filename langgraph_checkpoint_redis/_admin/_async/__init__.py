"""One half of what both savers have. What is in `_sync` is derived by tools/derive_sync.py."""
