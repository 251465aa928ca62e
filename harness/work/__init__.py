"""Unfinished work: what a stack in training leaves on the disk, so that nothing of it is lost.

In: cells in training. Out: `mlruns/work/`, from which another process goes on. MLflow is the record
of finished work, this folder of unfinished work and of what waits for a store that is away.

    folders.py     what is where
    history.py     a cell's curves, a checked line for each epoch
    checkpoint.py  the state of a whole stack at a step
    outcome.py     what a finished cell leaves: metrics, weights, curves
    keeping.py     what a stack in training calls, in the process that trains it
    resume.py      which cells can go on, from where
    claims.py      which process trains which cells
    spool.py       runs that the store does not have yet

The guarantee: whatever kills the process, every file is whole or recognised as half written, and a
cell that goes on ends with the bits it would have had.
"""
