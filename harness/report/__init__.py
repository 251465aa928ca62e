"""Comparison reports: numbers (`summary`), pictures (`figures`), files (`render`)."""
