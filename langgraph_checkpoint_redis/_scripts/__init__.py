"""The Lua scripts, and the one place in Python that knows their arguments and replies."""
