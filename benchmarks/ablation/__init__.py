"""The same ablation six ways: harness, and what a person would otherwise write.

part.py        the part on digits: arms, rounds, goals (`benchmarks/cifar/part.py`: on CIFAR-100)
rounds.py      runs the arms and makes records of what they gave: scaling, ratios, goals
figures.py     runs, accuracy and peak memory of an arm
page.py        the section and the pictures made from the JSON
subject.py     the ablation itself: project, plan, and the spec that the peers read
spec.py        runs, settings, splits and rates as plain files
plain.py       data, model and recording of a script that knows no harness
chapter.py     the textbook's way, one process or a pool of two
classifier.py  the LightningModule; `benchmarks/tuning` has it from here
lightning_arm.py  Lightning and MLFlowLogger, data in memory or decoded in workers
harness_arm.py    harness in stacks, and one cell at a time
commands.py    the same as fresh processes, from start to end
limit.py       steps of harness against the bare matrix products in them
"""
