"""Does BatchNorm help a ModernMLP?"""

from harness import MLP, Claim, Experiment, TrainConfig, Variant

experiment = Experiment(
    question=__doc__,
    base=TrainConfig(model=MLP(dropout=0.2)),
    factor="model.norm",
    baseline="none",
    variants=(Variant("none", {"model.norm": "none"}), Variant("bn", {"model.norm": "batch"})),
    metric="test/accuracy",
    goal="max",
    smallest_effect=0.01,
    claim=Claim("Adding BatchNorm improves accuracy", variant="bn", expect="supported"),
    seeds=8,
)
