"""MSE, L1 or Huber when a tenth of the training targets is contaminated?"""

from harness import L1, MLP, MSE, Claim, Data, Experiment, Huber, TrainConfig, Variant

experiment = Experiment(
    question=__doc__,
    base=TrainConfig(data=Data(name="outliers"), model=MLP(depth=2)),
    factor="loss",
    baseline="mse",
    variants=(
        Variant("mse", {"loss": MSE()}),
        Variant("l1", {"loss": L1()}),
        Variant("huber", {"loss": Huber(delta=1.0)}),
    ),
    metric="test/mae",
    goal="min",
    smallest_effect=0.05,
    claim=Claim(
        "MSE punishes outliers: L1 makes smaller errors when targets are contaminated",
        variant="l1",
        direction="less",
        expect="supported",
    ),
)
