"""Bytes: how checkpoints, writes and values are stored. Nothing here knows Redis or a client."""
