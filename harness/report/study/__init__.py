"""The report of a study: see `report.py`."""
