"""What the savers cost, measured: see `run.py` and `sharing.py`."""
