"""`harness run --until decided`: adds seeds at declared looks until every contrast is decided.

The looks and the share of the error rate spent at each are fixed before the first is taken, so
looking again costs nothing that is not accounted for (see `stats_looks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from harness.errors import ConfigError
from harness.experiment import Experiment
from harness.stats_looks import decide_all, declared_looks, look_at, look_words, undecided

if TYPE_CHECKING:
    from harness.report.summary import Summary


def choose_looks(experiment: Experiment, max_seeds: int) -> tuple[int, ...]:
    """The numbers of seeds to look at: the experiment's own where they end at `max_seeds`.

    Raises:
        ConfigError: fewer than two seeds.
    """
    if max_seeds < 2:
        raise ConfigError("one seed decides nothing", "--max-seeds takes 2 or more")
    own = experiment.looks
    return own if own and own[-1] == max_seeds else declared_looks(max_seeds)


def run_until_decided(
    looks: tuple[int, ...], run: Callable[[int, Mapping[str, Any]], Summary]
) -> Summary:
    """Runs look after look; `run(seeds, looks)` trains what is missing and gives the summary."""
    for number, seeds in enumerate(looks, start=1):
        click.echo(f"{look_words(look_at(seeds, looks))}")
        record = {"declared": list(looks), "index": number, "kind": "declared"}
        summary = run(seeds, record)
        click.echo("")
        looked = decide_all(
            {each.name: each.values for each in summary.variants},
            summary.baseline,
            summary.goal,
            summary.smallest_effect,
            looks=looks,
        )
        open_ones = undecided(looked)
        if not open_ones:
            last = max((each.look for each in looked), key=lambda look: look.index)
            where = f"look {last.index} of {len(looks)}, {last.seeds} seeds"
            click.echo(f"  decided at {where}: no more are added")
            break
        if seeds != looks[-1]:
            click.echo(f"  undecided: {', '.join(open_ones)}; going on to {looks[number]} seeds")
            click.echo("")
    else:
        click.echo(f"  still undecided after {looks[-1]} seeds: that is the answer")
    return summary
