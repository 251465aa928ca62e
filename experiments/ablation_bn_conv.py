"""Does BatchNorm help a ConvNet?"""

from harness import Claim, ConvNet, Experiment, TrainConfig, Variant

experiment = Experiment(
    question=__doc__,
    base=TrainConfig(model=ConvNet(channels=(16, 32))),
    factor="model.norm",
    baseline="none",
    variants=(
        Variant("none", {"model.norm": "none"}),
        Variant("bn", {"model.norm": "batch"}),
        Variant("ln", {"model.norm": "layer"}),
    ),
    smallest_effect=0.01,
    claim=Claim("Adding BatchNorm improves accuracy", variant="bn", expect="supported"),
)
