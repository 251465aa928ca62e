"""How much dropout does a ModernMLP want?"""

from harness import MLP, Claim, Experiment, TrainConfig, Variant

RATES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)

experiment = Experiment(
    question=__doc__,
    base=TrainConfig(model=MLP(norm="batch")),
    factor="model.dropout",
    baseline="p0",
    variants=tuple(Variant(f"p{rate:g}", {"model.dropout": rate}) for rate in RATES),
    smallest_effect=0.01,
    claim=Claim("Dropout of one half improves accuracy", variant="p0.5", expect="refuted"),
)
