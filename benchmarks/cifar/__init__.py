"""The ablation on CIFAR-100, where arithmetic fills a step; `benchmarks/ablation` does the work.

part.py  arms, rounds and goals, and the steps against the matrix products in them
"""
