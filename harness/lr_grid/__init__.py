"""Every variant of an experiment at nine learning rates or more: how each depends on the rate.

experiment + settings + data + seeds -> `plan.GridPlan`; recorded cells -> `record.Grid`, from which
a report is made. The guarantees: the test set is never read; cells are reused by fingerprint, among
grids only, because a cell of a grid has no test metric. The price: nine times the cells of the
experiment, in stacks, where learning rates ride along.

    plan.py      the rates, the cells, and what is refused
    record.py    `Grid`, plain values for lr-grid.json and back
    run.py       training and recording
"""
