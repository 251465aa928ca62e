"""`python -m benchmarks.tuning`: measures, writes JSON, page and plot, and judges the goals.

Exit code 0 when every goal was measured and met, else 1.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks import measure
from benchmarks.interleave import ArmFailedError, interleave
from benchmarks.measure import Goal, Verdict, significant
from benchmarks.tuning import harness_arm, page, subject

RESULTS = Path(__file__).parents[1] / "results"
RATE, EPOCH_RATE = "trials_per_minute", "epochs_per_minute"
ARMS = {
    "stacks": "benchmarks.tuning.harness_arm:prepare_stacked",
    "halving": "benchmarks.tuning.harness_arm:prepare_halving",
    "one-by-one": "benchmarks.tuning.harness_arm:prepare_one_by_one",
    "lightning": "benchmarks.tuning.lightning_arm:prepare",
}
TITLES = {
    "stacks": "harness",
    "halving": "harness --prune halving",
    "one-by-one": "harness, one trial at a time",
    "lightning": "Optuna + Lightning + MLflow",
}
# like is compared with like: the callback of the peer stops trials early as well
GOALS = (Goal("stacks", "one-by-one", 4.0), Goal("halving", "lightning", 15.0))
PEERS = ("lightning", "optuna_integration")
VERSIONS = ("torch", "mlflow", "optuna", "lightning", "optuna-integration", "numpy")


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--trials", default=48, show_default=True, type=click.IntRange(2), help="A round's.")
@click.option("--epochs", default=30, show_default=True, type=click.IntRange(1))
@click.option(
    "--out", default=RESULTS, show_default="benchmarks/results", type=click.Path(path_type=Path)
)
def main(rounds: int, trials: int, epochs: int, out: Path) -> None:
    """Trials per minute of harness, one trial at a time, and Optuna + Lightning."""
    arms = available()
    work = [
        {"name": f"round-{seed}", "seed": seed, "trials": trials, "epochs": epochs}
        for seed in range(rounds)
    ]
    print(f"{subject.STUDY} on {subject.DATA}: {rounds} rounds of {trials} trials, {epochs} epochs")
    try:
        measured, loads = run(arms, work)
    except ArmFailedError as error:
        raise click.ClickException(str(error)) from None
    verdicts = measure.judge(measured, GOALS, RATE)
    result = record(arms, work, measured, loads, verdicts)
    write(out, result)
    for verdict in verdicts:
        print(sentence(verdict))
    sys.exit(0 if all(verdict.met for verdict in verdicts) else 1)


def available() -> dict[str, str]:
    """The arms that can run here; says what to type for the one that cannot."""
    missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
    if not missing:
        return ARMS
    print(f"without {' and '.join(missing)} the arm '{TITLES['lightning']}' is left out; type")
    print("  pip install -r benchmarks/requirements.txt -c constraints.txt", flush=True)
    return {name: place for name, place in ARMS.items() if name != "lightning"}


def run(
    arms: Mapping[str, str], work: Sequence[Mapping[str, Any]]
) -> tuple[list[dict[str, dict[str, Any]]], list[dict[str, Any]]]:
    """The figures of each round and arm, and the machine's load before each round."""
    measured: list[dict[str, dict[str, Any]]] = [{} for _ in work]
    loads: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, arm, figures in interleave(arms, work, Path(folder)):
            if not measured[number]:
                loads.append({"load_per_core": measure.load_per_core()})
            rate = 60 * figures["trials"] / figures["seconds"]
            epochs_rate = 60 * figures["epochs"] / figures["seconds"]
            measured[number][arm] = {**figures, RATE: rate, EPOCH_RATE: epochs_rate}
            print(
                f"round {number + 1}/{len(work)}  {TITLES[arm]:<30}{figures['seconds']:8.1f} s"
                f"{rate:8.1f} trials/min  best {figures['best']:.4f}",
                flush=True,
            )
    return measured, loads


def record(
    arms: Iterable[str],
    work: Sequence[Mapping[str, Any]],
    measured: measure.Rounds,
    loads: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """All that was measured, as plain JSON: what the page is made from."""
    arms = list(arms)
    return {
        "benchmark": "tuning",
        "command": command(work),
        "setup": {
            "study": subject.STUDY,
            "data": subject.DATA,
            "trials": work[0]["trials"],
            "epochs": work[0]["epochs"],
            "warm_up": dict(harness_arm.WARM_UP),
        },
        "environment": measure.environment(VERSIONS, subject.REPOSITORY),
        "titles": dict(TITLES),
        "arms": {name: TITLES[name] for name in arms},
        "summary": {
            name: {
                figure: asdict(found)
                for figure in (
                    RATE,
                    EPOCH_RATE,
                    "seconds",
                    "cpu_seconds",
                    "default",
                    "best",
                    "median",
                )
                if (found := measure.spread(measure.column(measured, name, figure)))
            }
            for name in arms
        },
        "goals": [
            {**measure.verdict_record(verdict), **_otherwise(measured, verdict.goal)}
            for verdict in verdicts
        ],
        "before_rounds": list(loads),
        "rounds": [dict(each) for each in measured],
    }


def command(work: Sequence[Mapping[str, Any]]) -> str:
    """What to type for these rounds. Not as it was typed: that may name a folder."""
    trials, epochs = work[0]["trials"], work[0]["epochs"]
    return f"python -m benchmarks.tuning --rounds {len(work)} --trials {trials} --epochs {epochs}"


def _otherwise(measured: measure.Rounds, goal: Goal) -> dict[str, Any]:
    """The same ratio by epochs trained (a stopped trial trains fewer), and by CPU time.

    CPU time is what a busy machine distorts least.
    """
    found = {
        "by_epochs": measure.spread(measure.ratios(measured, goal.better, goal.than, EPOCH_RATE)),
        "by_cpu": measure.spread(measure.ratios(measured, goal.than, goal.better, "cpu_seconds")),
    }
    return {name: asdict(each) if each else None for name, each in found.items()}


def write(out: Path, result: Mapping[str, Any]) -> None:
    """The JSON, the plot and the page."""
    name = f"tuning-{result['environment']['measured']}.json"
    measure.write_json(out / name, result)
    (out / "tuning.svg").write_bytes(page.plot(result))
    (out / "tuning.md").write_text(page.markdown(result, "tuning.svg", name), encoding="utf-8")
    print(f"wrote {name}, tuning.md and tuning.svg to {out.name}/")


def sentence(verdict: Verdict) -> str:
    """`goal met: harness is 4.2x ...`, a line for the terminal."""
    goal, found = verdict.goal, verdict.spread
    pair = f"{TITLES[goal.better]} / {TITLES[goal.than]}"
    if found is None:
        return f"goal not measured: {pair} at least {goal.times:g}x"
    word = "met" if verdict.met else "missed"
    return (
        f"goal {word}: {pair} {significant(found.median)}x "
        f"({significant(found.low)} to {significant(found.high)}, n={found.n}), "
        f"at least {goal.times:g}x wanted"
    )


if __name__ == "__main__":
    main()
