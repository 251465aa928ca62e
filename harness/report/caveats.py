"""What a reader should know before believing the result: one rule, one sentence.

Each rule takes the `Summary` and yields the sentences it has to say. The order of `RULES` is the
order in the report, gravest first. A new caveat is a function and a line in the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.report import circumstances
from harness.report.curves import gained
from harness.report.notices import look_text, partial_text, seen_text
from harness.report.wording import (
    clean,
    decimals,
    listed,
    metric_title,
    number,
    plural,
    scale,
)
from harness.stats import missing_note

if TYPE_CHECKING:
    from harness.report.summary import Summary

FEW_SEEDS = 5
SETTLED_EPOCHS = 5
"""A curve that still gains this many epochs before its end was cut off early."""
UNEQUAL_TIME = 1.5
"""Variants whose training times differ by more than this factor are not compared at equal cost."""
LUCK_ERRORS = 2
"""An accuracy within so many standard errors of chance may be luck."""


def caveats(summary: Summary) -> tuple[str, ...]:
    """Every caveat that applies, each a sentence, none twice."""
    said = [_sentence(text) for rule in RULES for text in rule(summary)]
    return tuple(dict.fromkeys(said))


def partial(summary: Summary) -> Iterator[str]:
    """Cells are missing from the plan."""
    if summary.partial:
        yield f"partial: {partial_text(summary)}"


def stand_in(summary: Summary) -> Iterator[str]:
    """Another data set stood in for the one asked for."""
    if summary.dataset.stand_in_for:
        yield (
            f"measured on {summary.dataset.name}, a stand-in for {summary.dataset.stand_in_for}; "
            "the answer there can differ"
        )


def one_test_set(summary: Summary) -> Iterator[str]:
    """Seeds vary, the test rows do not: an interval over seeds says nothing about other rows."""
    rows = summary.dataset.rows.get("test")
    known = [each.example_se for each in summary.contrasts if math.isfinite(each.example_se)]
    if rows and known:
        unit = scale(summary.metric)
        error = number(max(known) * unit.factor, decimals([max(known) * unit.factor], 1.0))
        yield (
            f"the interval is over seeds on one test set of {rows:,} rows; on other rows the "
            f"difference would vary as well, by up to about {error} {unit.difference_unit} "
            "(one standard error)"
        )


def seen_rows(summary: Summary) -> Iterator[str]:
    """Test rows are training rows as well."""
    if text := seen_text(summary):
        yield f"{text}: what was learned by heart counts there as skill"


def unclaimed(summary: Summary) -> Iterator[str]:
    """The claim cannot be judged as it is stated."""
    claim = summary.claim
    if claim and summary.contrast(claim.variant) is None:
        yield f"the claim is about {claim.variant}, which is not compared with {summary.baseline}"
    if claim and claim.smallest_effect <= 0:
        yield "the claim states no smallest effect, so nothing can support or refute it"


def deviations(summary: Summary) -> Iterator[str]:
    """What was run is not what was stated."""
    for each in summary.deviations:
        yield f"deviation from what was stated before the runs: {each}"


def undeclared_look(summary: Summary) -> Iterator[str]:
    """Someone looked, and could have stopped, at a number of seeds nobody had declared."""
    if summary.looks and summary.looks.exploratory:
        yield (
            f"{look_text(summary).removesuffix('.')}: stopping where the result pleases makes "
            "chance findings likelier, so the verdict is exploratory"
        )


def test_reads(summary: Summary) -> Iterator[str]:
    """The test set was read again after something was decided by it."""
    read = summary.test_reads
    if read and read.decisions > 1:
        yield (
            f"the test set stands behind {read.decisions} decisions on this question: whatever was "
            "chosen after the first look is flattered by it"
        )


def few_seeds(summary: Summary) -> Iterator[str]:
    """Too few seeds for anything but a smoke test."""
    fewest = min((each.n for each in summary.contrasts), default=0)
    if 1 < fewest < FEW_SEEDS:  # one seed has a note of its own
        yield (
            f"{plural(fewest, 'paired seed')}: fewer than {FEW_SEEDS} give an interval so wide "
            "that only large differences show"
        )


def missing(summary: Summary) -> Iterator[str]:
    """Seeds of the plan without a result, by name."""
    for variant in summary.variants:
        if variant.missing:
            yield missing_note(variant.name, variant.missing)


def diverged(summary: Summary) -> Iterator[str]:
    """Runs whose loss stopped being a number."""
    for variant in summary.variants:
        if variant.diverged:
            counted = sum(seed in variant.values for seed in variant.run_ids)
            runs = plural(len(variant.run_ids), "run")
            yield (
                f"{variant.diverged} of {runs} of {variant.name} diverged and count at the level "
                "of chance; an interval over few seeds says little about how often that happens"
                if counted == len(variant.run_ids)
                else f"{variant.diverged} of {runs} of {variant.name} diverged and have no "
                f"{metric_title(summary.metric)}: leaving them out favours {variant.name}"
            )


def unlearned(summary: Summary) -> Iterator[str]:
    """Runs that were at no epoch better than chance, or than before training."""
    watched = f"val/{summary.metric.partition('/')[2]}"
    sign = 1 if summary.goal == "max" else -1
    for curve in summary.curves:
        if curve.column != watched:
            continue
        begun = [sign * points[0][1] for points in curve.seeds.values() if points[0][0] == 0]
        nothing = max([*begun, *_lucky(summary)], default=-math.inf)
        lived = [points for seed, points in curve.seeds.items() if seed not in curve.died]
        count = sum(max(sign * value for _, value in points) <= nothing for points in lived)
        if count:
            yield (
                f"{count} of {plural(len(curve.seeds), 'run')} of {curve.variant} learned nothing: "
                f"{metric_title(watched)} was never better than chance or than before training"
            )


def _lucky(summary: Summary) -> Iterator[float]:
    """The accuracy that guessing may reach on the validation rows."""
    data = summary.dataset
    share = summary.shared_config().get("data.validation")
    if summary.metric.endswith("accuracy") and data.outputs and data.rows.get("train") and share:
        chance = 1 / max(data.outputs, 2)  # binary: one output
        yield chance + LUCK_ERRORS * math.sqrt(chance * (1 - chance) / (data.rows["train"] * share))


def notes(summary: Summary) -> Iterator[str]:
    """What the statistics had to say about a contrast."""
    already = set(missing(summary))
    for contrast in summary.contrasts:
        for note in contrast.notes:
            if note not in already:
                yield note if len(summary.contrasts) == 1 else f"{contrast.variant}: {note}"


def negative_pairing(summary: Summary) -> Iterator[str]:
    """Pairing made the interval wider instead of narrower."""
    for contrast in summary.contrasts:
        if contrast.rho < 0:
            yield (
                f"{contrast.variant} and {contrast.baseline} vary in opposite directions over the "
                f"seeds (rho {number(contrast.rho, 2)}): pairing widened the interval"
            )


def unfinished(summary: Summary) -> Iterator[str]:
    """The validation metric was still rising when training stopped."""
    if summary.smallest_effect is None:
        return
    watched = f"val/{summary.metric.partition('/')[2]}"
    sign = 1 if summary.goal == "max" else -1
    rising = [
        curve.variant
        for curve in summary.curves
        if curve.column == watched
        and not curve.died
        and sign * gained(curve, SETTLED_EPOCHS) > summary.smallest_effect
    ]
    if rising:
        yield (
            f"{listed(rising)} still improved over the last {SETTLED_EPOCHS} epochs: "
            "longer training can change the order"
        )


def mixed_machines(summary: Summary) -> Iterator[str]:
    """Cells came from different devices, versions or commits."""
    for name, what in (("device", "devices"), ("versions", "versions"), ("git_commit", "commits")):
        different = sorted({record[name] for record in summary.devices if record.get(name)})
        if len(different) > 1:
            named = {"device": different, "versions": _differing(different)}.get(name, [])
            shown = f" ({listed(named)})" if named else ""
            yield f"the runs were made with {len(different)} different {what}{shown}"


def _differing(versions: Sequence[str]) -> list[str]:
    """`torch 2.10.0` and `torch 2.15.0` of two records that agree in all else."""
    try:
        parsed = [json.loads(record) for record in versions]
    except ValueError:
        return []
    if not all(isinstance(record, dict) for record in parsed):
        return []
    names = dict.fromkeys(name for record in parsed for name in record)
    found = {name: dict.fromkeys(str(record.get(name)) for record in parsed) for name in names}
    return [f"{name} {each}" for name, of in found.items() if len(of) > 1 for each in of]


def unequal_tuning(summary: Summary) -> Iterator[str]:
    """One variant was searched longer than another, or a search ended at its border."""
    if summary.tuning is None:
        return
    names = [each.name for each in summary.variants]
    budget = {name: summary.tuning.budget.get(name, 0) for name in names}
    if summary.tuning.mode == "shared":
        yield (
            f"the settings were tuned for {summary.baseline} alone and applied to every variant: "
            f"they may suit {summary.baseline} better than another"
        )
    elif len(set(budget.values())) > 1:
        spent = listed(f"{name} {plural(trials, 'trial')}" for name, trials in budget.items())
        yield f"the variants were not tuned with the same effort: {spent}"
    if summary.tuning.edges:
        yield (
            "the best value found lies at the edge of the search space for "
            f"{listed(summary.tuning.edges)}: a wider search may find a better one"
        )


def tuned_on_the_same_seeds(summary: Summary) -> Iterator[str]:
    """A seed chose the settings and counts in the result as well."""
    both = sorted({*summary.seeds} & {*summary.tuning.seeds}) if summary.tuning else []
    if both:
        yield (
            f"seed{'s' * (len(both) > 1)} {listed(map(str, both))} took part in the tuning and in "
            "the comparison: what was chosen by a seed is flattered by it"
        )


def not_tuned(summary: Summary) -> Iterator[str]:
    """Every variant got the same learning rate, which may suit one of them better."""
    rate = summary.shared_config().get("optim.lr")
    if rate is not None and not summary.tuning and not summary.factor.startswith("optim.lr"):
        yield (
            f"all variants trained at learning rate {rate:g}; it was not tuned per variant, "
            "so it may suit one better than another"
        )


def confounded(summary: Summary) -> Iterator[str]:
    """A variant changes more than the factor."""
    factors = summary.factor.split(" x ")
    for variant in summary.variants:
        tuned = summary.tuning.chosen.get(variant.name, {}) if summary.tuning else {}
        outside = [
            key
            for key in variant.changes
            if key not in tuned
            and not any(key == each or key.startswith(f"{each}.") for each in factors)
        ]
        if outside and summary.factor:
            yield f"{variant.name} changes {listed(outside)} as well as {summary.factor}"


def sizes(summary: Summary) -> Iterator[str]:
    """Variants have different numbers of parameters."""
    counts = {each.name: each.parameters for each in summary.variants if each.parameters}
    if len(set(counts.values())) > 1:
        smallest, largest = min(counts.values()), max(counts.values())
        by_size = sorted(counts, key=lambda name: counts[name])
        yield (
            f"the variants differ in size, from {smallest:,} ({by_size[0]}) to {largest:,} "
            f"parameters ({by_size[-1]}, {number(100 * (largest / smallest - 1), 1, signed=True)}%)"
        )


def training_time(summary: Summary) -> Iterator[str]:
    """One variant trained much longer than another, at the same number of epochs or not."""
    known = {each.name: each.train_seconds for each in summary.variants if each.train_seconds > 0}
    if len(known) < 2:
        return
    by_time = sorted(known, key=lambda name: known[name])
    fastest, slowest = by_time[0], by_time[-1]
    if known[slowest] > UNEQUAL_TIME * known[fastest]:
        yield (
            f"{slowest} trained {known[slowest] / known[fastest]:.1f} times as long as {fastest} "
            f"({known[slowest]:.3g} against {known[fastest]:.3g} seconds a run): the comparison is "
            "not at equal cost"
        )


def exploratory(summary: Summary) -> Iterator[str]:
    """Several contrasts share one error rate."""
    if len(summary.contrasts) > 1:
        yield (
            f"{len(summary.contrasts)} variants against one baseline is exploratory: verdicts use "
            "Holm's adjusted p, the intervals are not adjusted"
        )


def below_interest(summary: Summary) -> Iterator[str]:
    """No smallest effect was stated, so nothing can be called equivalent."""
    if summary.smallest_effect is None:
        yield "no smallest effect of interest was stated, so no variant can be called equivalent"


RULES: tuple[Callable[[Summary], Iterator[str]], ...] = (
    partial,
    unclaimed,
    deviations,
    undeclared_look,
    test_reads,
    stand_in,
    few_seeds,
    one_test_set,
    seen_rows,
    missing,
    diverged,
    unlearned,
    notes,
    negative_pairing,
    unfinished,
    mixed_machines,
    *circumstances.RULES,
    confounded,
    unequal_tuning,
    tuned_on_the_same_seeds,
    not_tuned,
    sizes,
    training_time,
    exploratory,
    below_interest,
)


OPENERS = frozenset(
    {"partial", "measured", "the", "all", "no", "one", "deviation", "decided", "seed", "seeds"}
)
"""Words a rule begins with; any other first word is a variant's name and stays as it is typed."""


def _sentence(text: str) -> str:
    bare = clean(text).strip()
    first = bare.split(" ", 1)[0]
    opening = first.capitalize() if first.rstrip(":") in OPENERS else first
    return f"{opening}{bare[len(first) :]}{'' if bare.endswith('.') else '.'}"
