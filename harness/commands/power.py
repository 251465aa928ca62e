"""`harness power`: how many seeds a question needs, before they are trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.commands.opening import say
from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.project import Project
from harness.report.wording import plural, scale
from harness.stats_planning import Plan, plan


@dataclass(frozen=True)
class Pilot:
    """Where a standard deviation comes from: recorded differences, or a person."""

    sd: float
    seeds: int | None
    source: str


def show_power(
    project: Project, experiment: Experiment, sd: float | None, effect: float | None
) -> None:
    """Prints what some numbers of seeds could find, and how many are needed.

    Raises:
        ConfigError: nothing says how large an effect matters, or how much results vary.
    """
    wanted = effect if effect is not None else experiment.smallest_effect
    if wanted is None or wanted <= 0:
        raise ConfigError(
            f"{experiment.name} states no smallest effect of interest",
            "say what difference would matter, in the metric's units: --effect 0.01",
        )
    if sd is not None and sd <= 0:
        raise ConfigError(f"a standard deviation of {sd:g} leaves nothing to plan", "--sd 0.005")
    pilot = _recorded(project, experiment) if sd is None else Pilot(sd, None, "as given")
    say(_lines(experiment, pilot, plan(pilot.sd, wanted, pilot_seeds=pilot.seeds)))


def _recorded(project: Project, experiment: Experiment) -> Pilot:
    """The largest standard deviation among the contrasts of the latest comparison.

    Raises:
        ConfigError: there is none to be had.
    """
    from harness.report.summary import summarise
    from harness.tracking import open_store

    store = open_store(project)
    for info in store.comparisons(experiment.name):
        summary = summarise(store.read_comparison(info.run_id))
        usable = [each for each in summary.contrasts if each.n >= 2 and each.sd > 0]
        if summary.metric == experiment.metric and usable:
            widest = max(usable, key=lambda each: each.sd)
            source = f"{plural(widest.n, 'paired seed')} of {widest.variant} on {info.dataset}"
            return Pilot(widest.sd, widest.n, source)
    raise ConfigError(
        f"nothing says how much results of {experiment.name} vary from seed to seed",
        f"run a pilot:  harness run {experiment.name} --seeds 3",
        f"or say it:    harness power {experiment.name} --sd 0.005",
    )


def _lines(experiment: Experiment, pilot: Pilot, planned: Plan) -> Iterator[str]:
    unit = scale(experiment.metric)
    suffix = f" {unit.difference_unit}".rstrip()

    def shown(value: float) -> str:
        return f"{value * unit.factor:.2g}{suffix}"

    yield experiment.question
    yield f"  to find   a difference of {shown(planned.smallest_effect)} in {experiment.metric}"
    cautious = f" (80% upper bound {shown(planned.cautious_sd)})" if pilot.seeds else ""
    yield f"  varies    SD of the differences {shown(planned.sd)}{cautious}, {pilot.source}"
    yield ""
    yield "  seeds   power   found 4 times in 5   95% interval"
    for row in planned.rows:
        found, half = shown(row.detectable), shown(row.half_width)
        yield f"  {row.seeds:>5}   {row.power:>5.2f}   {found:<18}   +- {half}"
    yield ""
    yield f"  needs     {_needed(planned)} for 80% power"


def _needed(planned: Plan) -> str:
    def count(seeds: int | None) -> str:
        return "more than 50 seeds" if seeds is None else plural(seeds, "seed")

    plain, cautious = planned.needed.plain, planned.needed.cautious
    if plain == cautious:
        return count(plain)
    return f"{count(plain)}, or {count(cautious)} to be cautious about the SD,"
