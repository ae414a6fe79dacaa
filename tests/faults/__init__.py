"""A fault driver: real servers and processes, what is done to them, and what is there afterwards.

`make test-faults` runs it; `python -m tests.faults --help` says what it can be told.
"""
