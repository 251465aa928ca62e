"""The report of a grid of learning rates: see `report.py`."""
