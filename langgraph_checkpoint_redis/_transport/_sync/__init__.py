"""The synchronous half, derived from `_async` by tools/derive_sync.py."""
