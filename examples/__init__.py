"""Programs that show one thing each; run them with `python examples/NAME.py`."""
