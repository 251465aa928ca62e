"""Reports of studies: the winner judged on fresh seeds, curves that estimate what they say."""

from __future__ import annotations

import itertools
import math
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.config import parse_assignment
from harness.report.study.found import (
    arguments,
    budget,
    command,
    contrasts,
    default_trial,
    edges,
    sentence,
    winner,
)
from harness.report.study.marks import share_of
from harness.report.study.page import study_html
from harness.report.study.report import lines, pasted
from harness.report.study.score import improvements
from harness.report.study.tables import trials_table
from harness.report.study.words import words_of
from harness.stats import compare
from harness.study import Evaluation, StudyResult, Trial

SPACE: dict[str, dict[str, Any]] = {
    "optim.lr": {"kind": "float", "low": 1e-4, "high": 1e-1, "log": True},
    "schedule.warmup": {"kind": "float", "low": 0.0, "high": 0.3, "log": False},
}
WIDE = SPACE | {
    "model.width": {"kind": "int", "low": 32, "high": 1024, "log": True},
    "optim": {"kind": "choice", "options": ["adam", "sgd", "adamw"]},
}
CHOICES: dict[str, dict[str, Any]] = {
    "optim": {"kind": "choice", "options": ["adam", "sgd"]},
    "model.hidden": {"kind": "choice", "options": [[64, 64], [256]]},
    "optim.nesterov": {"kind": "choice", "options": [True, False]},
}
STARTED = {"optim.lr": 1e-3, "schedule.warmup": 0.05, "model.width": 256, "optim": "adam"}
EPOCHS, ROWS = 8, 1000


def study(
    trials: int = 24,
    *,
    space: Mapping[str, Mapping[str, Any]] = SPACE,
    seeds: Sequence[int] = (0,),
    fresh: int = 8,
    gain: float = 0.012,
    noise: float = 0.004,
    goal: str = "max",
    cost: str | None = None,
    diverged: Collection[int] = (),
    pruned: Mapping[int, int] | None = None,
    flat: bool = False,
    times: bool = True,
    **more: Any,
) -> StudyResult:
    """The result of a made-up but lifelike study."""
    draw = np.random.default_rng(7)
    sign = 1 if goal == "max" else -1
    default = {key: STARTED.get(key, of.get("options", [None])[0]) for key, of in space.items()}
    made = []
    for number in range(trials):
        values = dict(default) if number == 0 else {k: drawn(of, draw) for k, of in space.items()}
        rate = math.log10(values.get("optim.lr", 3e-3))
        good = 0.97 - 0.03 * (rate + 2.5) ** 2
        scores = {seed: good + draw.normal(0, 0.004) for seed in seeds}
        if flat:
            scores = dict.fromkeys(seeds, 0.5)
        if number in diverged:
            scores = dict.fromkeys(seeds, 0.1)
        stop = (pruned or {}).get(number)
        mean = sign * float(np.mean(list(scores.values())))
        curve = tuple(mean * (1 - math.exp(-epoch)) for epoch in range(EPOCHS + 1))
        made.append(
            Trial(
                number=number,
                values=values,
                score=mean,
                scores={seed: sign * float(score) for seed, score in scores.items()},
                diverged=len(seeds) if number in diverged else 0,
                pruned_epoch=stop,
                curve=curve if stop is None else curve[: stop + 1],
                samples=ROWS * len(seeds) * (EPOCHS if stop is None else stop),
                cost=float(draw.integers(1000, 90_000)) if cost else None,
                started_at=10.0 * (number // 4) if times else math.nan,
                ended_at=10.0 * (number // 4) + 9 if times else math.nan,
                run_ids={seed: f"{number * 100 + seed:032x}" for seed in seeds},
            )
        )
    result = StudyResult(
        journal="lr-warmup-ablation-bn-bn-digits",
        name="lr-warmup",
        question="Which learning rate suits a ModernMLP?",
        experiment="ablation-bn",
        variant="bn",
        dataset="digits",
        dataset_option="",
        metric="val/accuracy" if goal == "max" else "val/loss",
        goal=goal,
        space=space,
        default=default,
        settings={},
        sampler="tpe",
        pruner="halving" if pruned else "none",
        seeds=tuple(seeds),
        cost=cost,
        full_samples=ROWS * EPOCHS * len(seeds),
        epochs=EPOCHS,
        smallest_effect=0.01,
        command="harness tune lr-warmup --trials 24",
        trials=tuple(made),
        importances={
            name: {key: 1 / len(space) for key in space} for name in ("PED-ANOVA", "fANOVA")
        },
    )
    if fresh and result.complete:
        result = replace(result, evaluation=evaluation(result, fresh, sign * gain, noise))
    return replace(result, **more)


def drawn(dimension: Mapping[str, Any], draw: np.random.Generator) -> Any:
    if dimension["kind"] == "choice":
        return dimension["options"][int(draw.integers(len(dimension["options"])))]
    low, high = float(dimension["low"]), float(dimension["high"])
    if dimension["log"]:
        low, high = math.log(low), math.log(high)
    value = float(draw.uniform(low, high)) if high > low else low
    value = math.exp(value) if dimension["log"] else value
    return round(value) if dimension["kind"] == "int" else value


def evaluation(result: StudyResult, fresh: int, gain: float, noise: float) -> Evaluation:
    draw = np.random.default_rng(11)
    seeds = tuple(range(100, 100 + fresh))
    luck = draw.normal(0, 0.004, fresh)
    chosen = tuple(trial.number for trial in result.ranked[:3])
    values = {"default": {s: float(0.96 + x) for s, x in zip(seeds, luck)}}
    for place, number in enumerate(chosen):
        values[f"t{number}"] = {
            s: float(0.96 + gain * (1 - place / 2) + x + draw.normal(0, noise))
            for s, x in zip(seeds, luck)
        }
    ids = {name: {s: f"{name}-{s}" for s in seeds} for name in values}
    return Evaluation(seeds, chosen, values, ids)


def with_gaps(result: StudyResult) -> StudyResult:
    """Trial 5 lost its last seeds to the pruner, trial 6 diverged on one seed, 7 has no curve."""
    trials = list(result.trials)
    trials[5] = replace(trials[5], scores=dict(list(trials[5].scores.items())[:2]))
    trials[6] = replace(trials[6], diverged=1)
    trials[7] = replace(trials[7], curve=(), run_ids={})
    return replace(result, trials=tuple(trials), pruner="wilcoxon")


CASES: dict[str, StudyResult] = {
    "plain": study(),
    "no fresh seeds": study(fresh=0),
    "several seeds": study(space=WIDE, seeds=(3, 4, 5, 6)),
    "pruned": study(40, pruned=dict.fromkeys(range(8, 30), 2)),
    "some diverged": study(diverged={3, 9}),
    "lower is better": study(goal="min"),
    "cost": study(40, space=WIDE, cost="parameters", fresh=0),
    "no effect": study(gain=0.0),
    "worse": study(gain=-0.03),
    "choices": study(space=CHOICES),
    "one dimension": study(space={"optim.lr": SPACE["optim.lr"]}),
    "one trial": study(1),
    "one trial, no default": study(1, fresh=0, default={"optim.lr": 0.5, "schedule.warmup": 0.0}),
    "two trials": study(2),
    "equal scores": study(flat=True, importances={}),
    "no times": study(times=False, trials=6),
    "all diverged": study(6, diverged=range(6), fresh=0, importances={}),
    "all pruned": study(6, pruned=dict.fromkeys(range(6), 2), fresh=0, importances={}),
    "no trial": study(0, fresh=0, importances={}),
    "one fresh seed": study(fresh=1),
    "no smallest effect": study(smallest_effect=None),
    "one value": study(space={"optim.lr": {"kind": "float", "low": 1.0, "high": 1.0, "log": 0}}),
    "some seeds": with_gaps(study(12, space=WIDE, seeds=(3, 4, 5, 6))),
    "many": study(200, space=WIDE, diverged={7}, pruned={9: 1, 12: 3}),
}


# The verdict


@pytest.mark.parametrize("case", CASES)
def test_the_sentence_agrees_with_compare(case: str) -> None:
    result = CASES[case]
    found = result.evaluation
    if found is None:
        assert sentence(result) == ""
        assert contrasts(result) == ()
        return
    default = default_trial(result)
    names = [f"t{n}" for n in found.candidates if default is None or n != default.number]
    goal = "max" if result.goal == "max" else "min"
    values = {name: found.values[name] for name in ("default", *names)}
    expected = {c.variant: c for c in compare(values, "default", goal, result.smallest_effect)}
    about = expected.get(f"t{found.candidates[0]}")
    assert winner(result) == about
    if about is None:
        assert sentence(result) == "no trial did better than the default settings"
        return
    words = {
        "better": r"tuned beats default by ",
        "worse": r"tuned is worse than default: ",
        "equivalent": r"tuned does not beat default: .*, equivalent$",
        "inconclusive": r"inconclusive: tuned minus default is ",
    }
    assert re.match(words[about.verdict], sentence(result))
    factor = 100 if result.metric.endswith("accuracy") else 1
    told = [float(each) for each in re.findall(r"[-+]?\d+\.\d+", sentence(result))]
    assert told[0] == pytest.approx(about.difference * factor, abs=0.051)
    if len(found.seeds) > 1:
        assert told[1:] == pytest.approx([end * factor for end in about.ci], abs=0.051)


def test_the_sentence_in_full() -> None:
    pattern = r"tuned beats default by \+1\.\d+ pp \[\+0\.\d+, \+\d\.\d+\] on 8 fresh seeds"
    assert re.fullmatch(pattern, sentence(CASES["plain"]))
    assert "worse than default" in sentence(CASES["worse"])


def test_other_candidates_follow_a_line_each() -> None:
    result = CASES["plain"]
    text = [line for line in lines(result, 120) if "fresh seeds" in line]
    assert len(text) == 3
    assert "tuned" in text[0]
    for line, number in zip(text[1:], result.evaluation.candidates[1:]):  # type: ignore[union-attr]
        assert line.startswith(f"     t{number} ")


def test_a_default_that_is_the_best_is_not_compared_with_itself() -> None:
    result = study(5)
    first = replace(result.trials[0], score=2.0)
    result = replace(result, trials=(first, *result.trials[1:]))
    found = evaluation(result, 8, 0.0, 0.004)
    assert found.candidates[0] == 0
    result = replace(result, evaluation=found)
    assert winner(result) is None
    assert "t0" not in {each.variant for each in contrasts(result)}
    assert "no trial did better than the default settings" in " ".join(lines(result))
    assert b"No trial did better" in study_html(result)


# Terminal


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("width", [80, 60, 30])
def test_lines_fit(case: str, width: int) -> None:
    for line in lines(CASES[case], width):
        assert line.isascii()
        longest = max(map(len, line.split()), default=0)
        assert len(line) <= max(width, longest + 16), line


def typed(result: StudyResult, width: int = 80) -> dict[str, Any]:
    """The settings that the advice has, read as the shell and `--set` read them."""
    text = "\n".join(lines(result, width))
    words = shlex.split(text[text.index("harness run") if "harness run" in text else 0 :])
    return dict(
        parse_assignment(value) for option, value in itertools.pairwise(words) if option == "--set"
    )


@pytest.mark.parametrize("case", ["plain", "no fresh seeds", "several seeds", "choices", "cost"])
def test_the_advice_trains_exactly_the_trial(case: str) -> None:
    result = CASES[case]
    chosen = result.front[-1] if result.cost else result.best
    wanted = {k: tuple(v) if isinstance(v, list) else v for k, v in chosen.values.items()}
    assert typed(result) == wanted
    assert all(isinstance(value, type(wanted[key])) for key, value in typed(result).items())


@pytest.mark.parametrize(
    "value",
    [0.1 + 0.2, 1e-5, 2.0, 7, True, None, "adam", "1", "None", "a b", "it's", (64, 64), 1 / 3],
)
def test_a_typed_setting_is_read_back_as_it_was(value: Any) -> None:
    words = shlex.split(" ".join(arguments({"optim.lr": value})))
    key, read = parse_assignment(words[1])
    assert (key, read, type(read)) == ("optim.lr", value, type(value))


def test_the_command_of_a_study_without_fresh_seeds() -> None:
    result = study(fresh=0, seeds=(0, 1), dataset_option="--data cifar100 ", settings={"epochs": 2})
    words = command(result, result.best)
    assert words[:3] == ["harness", "run", "ablation-bn"]
    assert words[3:9] == ["--data", "cifar100", "--seeds", "2,3,4,5,6,7,8,9", "--set", "epochs=2"]
    text = "\n".join(lines(result))
    assert "The best of 24 on 2 seeds' validation rows flatters itself." in text
    assert "It was tuned for bn" in text
    assert "(mean of 2 tuning seeds)" in text


def test_a_pasted_command_is_one_command() -> None:
    words = [
        "harness",
        "run",
        "x",
        "--seeds",
        "1,2",
        *arguments({f"k{n}": 1 / 3 for n in range(5)}),
    ]
    made = pasted(words, 60)
    assert all(len(line) <= 60 for line in made)
    assert all(line.endswith(" \\") for line in made[:-1])
    together = "\n".join(made).replace("\\\n", "")  # as a shell does
    assert shlex.split(together) == words


def test_what_is_said_of_the_search() -> None:
    text = " ".join(" ".join(lines(CASES["pruned"], 200)).split())
    saved = 100 * 22 * 6 / (40 * 8)
    assert f"pruned 22 of 40 trials; {saved:.0f}% of the training saved, counted in rows" in text
    assert "2 of 24 trials diverged and count at chance" in "\n".join(lines(CASES["some diverged"]))
    assert "(importance by PED-ANOVA: what sets the good trials apart)" in text
    assert "(importance by fANOVA: what moves the score over the whole space)" in text


def test_a_trial_without_all_its_seeds_is_not_compared() -> None:
    result = CASES["some seeds"]
    assert 5 not in {trial.number for trial in result.ranked}
    text = " ".join(" ".join(lines(result, 200)).split())
    assert "pruned 1 of 12 trials" in text
    assert "1 of 12 trials diverged on a seed or more" in text
    table = trials_table(result)
    assert [row[1] for row in table.rows][5:7] == ["pruned after 2 seeds", "diverged"]


def test_nothing_to_choose_from() -> None:
    dead, first = lines(CASES["all diverged"]), lines(CASES["all pruned"])
    assert dead[0] == "  every one of the 6 trials diverged: nothing to choose from"
    assert "lower learning rates" in dead[1]
    assert "no trial was trained to the end" in first[0]
    assert lines(CASES["no trial"]) == ["  no trial is finished"]


def test_edges_are_named() -> None:
    result = study(3, fresh=0)
    for rate, warmup, named in ((0.09, 0.15, ["optim.lr"]), (3e-3, 0.29, ["schedule.warmup"])):
        best = replace(
            result.trials[2], score=2.0, values={"optim.lr": rate, "schedule.warmup": warmup}
        )
        moved = replace(result, trials=(*result.trials[:2], best))
        assert [name for name, _ in edges(moved)] == named
        assert named[0] in next(line for line in lines(moved) if line.startswith("  edge"))
        assert any("edge of the search space" in each for each in words_of(moved).caveats)
    assert edges(CASES["choices"]) == []


# Laws


@pytest.mark.parametrize("goal", ["max", "min"])
@pytest.mark.parametrize("count", [2, 5, 8])
def test_the_budget_curve_is_the_mean_over_all_subsets(goal: str, count: int) -> None:
    result = study(count + 1, goal=goal, fresh=0)
    scores = [trial.score for trial in result.trials[1:]]  # the default was not drawn
    pick = max if goal == "max" else min
    unbiased, plug_in = budget(result)
    assert len(unbiased) == max(1, count // 2)
    assert len(plug_in) == count
    for n, value in enumerate(unbiased, 1):
        subsets = [pick(each) for each in itertools.combinations(scores, n)]
        assert value == pytest.approx(np.mean(subsets))
    for n, value in enumerate(plug_in[:3], 1):
        draws = [pick(each) for each in itertools.product(scores, repeat=n)]
        assert value == pytest.approx(np.mean(draws))


def test_the_budget_curve_leaves_out_what_is_not_comparable() -> None:
    result = study(9, pruned={2: 1, 5: 1}, fresh=0)
    assert len(budget(result)[1]) == 6
    stranger = study(9, fresh=0, default={"optim.lr": 0.5, "schedule.warmup": 0.0})
    assert len(budget(stranger)[1]) == 9  # trial 0 was drawn here


def test_the_front_is_pareto_optimal() -> None:
    result = CASES["cost"]
    trials = result.complete
    best = [
        one
        for one in trials
        if not any(
            other.score >= one.score
            and other.cost <= one.cost  # type: ignore[operator]
            and (other.score, other.cost) != (one.score, one.cost)
            for other in trials
        )
    ]
    assert {each.number for each in result.front} == {each.number for each in best}
    text = "\n".join(lines(result))
    for trial in result.front:
        assert re.search(rf"^ +{trial.number} +{trial.score:.4f} +{trial.cost:,.0f} ", text, re.M)
    assert "best     trial" not in text


@pytest.mark.parametrize("case", CASES)
def test_best_so_far_never_gets_worse(case: str) -> None:
    result = CASES[case]
    steps = improvements(result)
    ordered = [score for _, score in steps]
    assert ordered == sorted(ordered, reverse=result.goal == "min")
    if result.complete:
        assert ordered[-1] == result.best.score


def test_places_on_an_axis() -> None:
    rate, width = SPACE["optim.lr"], {"kind": "int", "low": 1, "high": 5, "log": False}
    assert share_of(rate, 1e-4) == 0
    assert share_of(rate, 10**-2.5) == pytest.approx(0.5)
    assert share_of(width, 3) == 0.5
    assert share_of(CHOICES["model.hidden"], (256,)) == 0.75
    assert math.isnan(share_of(CHOICES["optim"], "adagrad"))
    assert math.isnan(share_of(CHOICES["optim.nesterov"], 1))
    assert math.isnan(share_of(rate, None))
