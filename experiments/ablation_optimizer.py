"""Adam, AdamW, SGD or SGD with momentum?

Each optimizer at its customary learning rate. That is a comparison of defaults: a fair one tunes
the learning rate of each with the same budget.
"""

from harness import MLP, SGD, Adam, AdamW, Claim, Experiment, TrainConfig, Variant

experiment = Experiment(
    question="Adam, AdamW, SGD or SGD with momentum, each at its customary learning rate?",
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
