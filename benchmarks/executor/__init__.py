"""Batched or looped, one thread or all: what each costs, and what the rules lose by their choice.

part.py      the part: what is measured, the goal
subject.py   stacks on made-up rows, driven by the trainer's own epoch; what one point gives
rules.py     what a threshold would choose, and its loss: worst and mean
figures.py   the charts
page.py      the section
"""
