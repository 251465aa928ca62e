"""Benchmarks: harness side by side with what a person would otherwise write.

measure.py     figures of rounds: spreads, ratios, goals; the environment
interleave.py  arms in processes of their own, kept alive, one at work at a time
tuning/        trials per minute of a study: `python -m benchmarks.tuning`
results/       what was measured: JSON, and the page and plot made from it
"""
