"""BatchNorm, LayerNorm or neither?"""

from harness import MLP, Claim, Experiment, TrainConfig, Variant

experiment = Experiment(
    question=__doc__,
    base=TrainConfig(model=MLP(depth=2)),
    factor="model.norm",
    baseline="none",
    variants=(
        Variant("none", {"model.norm": "none"}),
        Variant("bn", {"model.norm": "batch"}),
        Variant("ln", {"model.norm": "layer"}),
    ),
    smallest_effect=0.01,
    claim=Claim("LayerNorm improves accuracy", variant="ln", expect="supported"),
)
