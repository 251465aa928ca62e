"""What is not training: starting up, recording, a command that finds everything done.

part.py     the part: rounds, goals, the section
commands.py fresh processes: CPU time of help and list, wall time of a run that reuses all
tracked.py  training alone and training with recording, in one warm process
"""
