"""Which learning rate and how much warmup suit a ModernMLP with BatchNorm?"""

from harness import Float, Study

study = Study(
    question=__doc__,
    experiment="ablation-bn",
    variant="bn",
    space={"optim.lr": Float(1e-4, 1e-1, log=True), "schedule.warmup": Float(0.0, 0.3)},
    metric="val/accuracy",
    goal="max",
    trials=50,
)
