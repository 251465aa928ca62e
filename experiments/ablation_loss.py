"""MSE, L1 or Huber: which loss makes the smallest errors?

On `outliers` a tenth of the training targets is wrong, and the test targets are clean.
"""

from harness import L1, MLP, MSE, Claim, Data, Experiment, Huber, TrainConfig, Variant

experiment = Experiment(
    question="MSE, L1 or Huber: which loss makes the smallest errors?",
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
