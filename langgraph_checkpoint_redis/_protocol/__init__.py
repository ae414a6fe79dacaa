"""Requests as values, and the bytes of the Redis protocol. Nothing here is sent."""
