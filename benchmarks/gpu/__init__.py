"""An ablation on a GPU: 5 variants x 10 seeds x 30 epochs of CIFAR-100, all cells in one stack.

part.py      what the driver calls: rounds, goals
subject.py   the ablation, and how much of everything is measured
training.py  training alone and recorded, in each precision
steps.py     a step of K cells: with a CUDA graph, without, one cell after another
limit.py     operations and bytes of a step; the rates that the device reaches
textbook.py  a map-style Dataset, DataLoader workers, a loop for each run
page.py      the section; figures.py its picture
"""
