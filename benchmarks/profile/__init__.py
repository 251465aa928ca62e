"""Where the time goes: one step, one epoch, one whole command.

part.py     the part: what is profiled, the section and what it says
clock.py    seconds by phase, each second in one phase
kernels.py  torch's profiler: events of a step in groups
training.py a step and an epoch of training
command.py  one command as a fresh process, with its phases timed from inside
bars.py     the pictures
"""
