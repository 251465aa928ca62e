"""Studies: Optuna asks for trials in batches, a batch trains as stacks, results are told in order.

The only package that imports optuna. In: a `StudyPlan`, an open store. Out: a `StudyResult`; every
trial is an MLflow run with its curve (one for each tuning seed) under one parent run per study, and
the parent carries `study.json`. The guarantee: a study lives in a journal under `mlruns/optuna/`,
append-only, so a kill loses nothing; the sampler's randomness is a function of (study seed, trial
number), batches end at fixed trial numbers and results are told in trial order, so that a killed
study continues as the uninterrupted one. The test set is never read.

    grow.py      run_study: batches of trials, trained, recorded, told
    journal.py   the study on disk: opening, asking, telling, reading
    samplers.py  how trials are chosen, by name
    pruning.py   what stops trials early
    fresh.py     the best trials and the default on seeds that no trial has seen
    fair.py      every variant of an experiment tuned with the same budget
"""
