"""Adam, AdamW, SGD or SGD with momentum?

Each starts at its customary learning rate. Left there, that is a comparison of defaults; a fair one
tunes each with the same budget: harness run ablation-optimizer --tune each.
"""

from harness import MLP, SGD, Adam, AdamW, Claim, Experiment, TrainConfig, Variant

experiment = Experiment(
    question="Adam, AdamW, SGD or SGD with momentum?",
    base=TrainConfig(model=MLP(norm="batch")),
    factor="optim",
    baseline="sgd",
    variants=(
        Variant("sgd", {"optim": SGD(lr=0.1)}),
        Variant("sgd-momentum", {"optim": SGD(lr=0.05, momentum=0.9)}),
        Variant("adam", {"optim": Adam(lr=1e-3)}),
        Variant("adamw", {"optim": AdamW(lr=1e-3, weight_decay=0.01)}),
    ),
    smallest_effect=0.01,
    claim=Claim("Adam beats plain SGD", variant="adam", expect="inconclusive"),
)
