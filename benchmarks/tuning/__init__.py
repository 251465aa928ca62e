"""Trials per minute of a study: `harness tune`, one trial at a time, Optuna + Lightning.

__main__.py       the command: arms, goals, rounds
subject.py        the study and its data, the same for every arm
harness_arm.py    harness in stacks, and with batches of one trial
lightning_arm.py  Optuna, Lightning, MLFlowLogger and the pruning callback
page.py           the page and the plot made from the JSON
"""
