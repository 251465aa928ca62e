"""How a grid of learning rates was made, and what to know before believing it.

What comes in: `Found`. What goes out: plain unescaped sentences. Each caveat is a function that
yields its sentences, and a line in `RULES`; their order is the report's, gravest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.lr_grid.plan import BELOW
from harness.report.lr_grid.decades import ROUNDING
from harness.report.lr_grid.found import CHANCE_ERRORS, MEASURES, Found, comparable
from harness.report.lr_grid.units import delta_text, rate_text
from harness.report.wording import clean, listed, metric_title, plural

FEW_SEEDS = 5
OPTIMIZERS = {
    "sgd": "SGD",
    "sgd with momentum": "SGD with momentum",
    "adam": "Adam",
    "adamw": "AdamW",
}


def method(found: Found) -> list[str]:
    """Paragraphs: the design, the measures, the test, the rule, what is held fixed."""
    grid = found.grid
    one = len(grid.seeds) == 1
    centres = ", ".join(
        dict.fromkeys(
            f"{rate_text(grid.variant(each.name).rates[BELOW])} for {OPTIMIZERS[each.optimizer]}"
            for each in found.variants
            if each.optimizer in OPTIMIZERS and len(grid.variant(each.name).rates) > BELOW
        )
    )
    rows = f" ({grid.validation_rows:,} rows)" if grid.validation_rows else ""
    rates = max(len(each.rates) for each in grid.variants)
    design = (
        f"Each of {plural(len(grid.variants), 'variant')} of {grid.factor} is trained at {rates} "
        f"learning rates, half a decade apart, from four below the customary one ({centres}), with "
        f"{plural(len(grid.seeds), 'seed')}. A seed decides the validation split, the initial "
        "weights, the order of the rows and the dropout masks, and every variant and rate uses the "
        f"same ones. The {metric_title(grid.metric)}{rows} is that of the last epoch. A cell that "
        "diverges (its loss is no number, or a thousand times the first) stays in, at the level "
        "of chance, and is never usable."
    )
    chance = (
        f", and it does not end at chance above the best rate (within {CHANCE_ERRORS} standard "
        f"errors of {100 * grid.chance:.3g}%)"
        if grid.chance is not None
        else ""
    )
    measures = (
        "The best rate has the best mean over seeds. A seed's usable range is the unbroken run of "
        f"rates around its best that are within {delta_text(found)} of it ({found.delta_rule}); "
        "its width, its upper end, the best rate and the highest rate that trains are compared "
        "seed by seed, in decades. A rate trains a seed if neither it nor a lower one diverges"
        f"{chance}."
    )
    test = (
        "With one seed there is no spread and so no interval: nothing is decided."
        if one
        else "Intervals are 95% paired t intervals, not adjusted. p is adjusted by Holm's method "
        "over the variants, and the three measures of rates together. A rate is known to half a "
        f"decade only, so differences in decades are taken to vary by {ROUNDING:.2f} at least "
        "(standard deviation), and one inside plus or minus half a decade is no difference."
    )
    rule = (
        "A variant allows a higher learning rate if its highest rate that trains, its highest "
        "usable rate or its best rate is higher by half a decade or more, the interval leaves out "
        "zero, and none of the three is lower; it does not if the first two are less than half a "
        "decade higher by the whole interval. It stays open where the highest rate tried is still "
        "usable."
    )
    settings = (
        "model.hidden", "model.channels", "model.norm", "model.dropout", "loss", "optim",
        "schedule", "schedule.warmup", "batch_size", "epochs",
    )  # fmt: skip
    fixed = ", ".join(
        f"{name} {_setting(grid.held[name])}"
        for name in settings
        if grid.held.get(name) is not None
    )
    return [
        design,
        measures,
        test,
        *([rule] if found.allowances else []),
        f"The baseline: {fixed}.",
    ]


def _setting(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def facts(found: Found) -> list[tuple[str, str, bool]]:
    """(name, value, whether it is an identifier) of what the results depend on."""
    grid, made = found.grid, found.grid.environment
    dirty = " with uncommitted changes" if made.get("git_dirty") else ""
    versions = ("harness", "python", "torch", "torchvision", "numpy", "scipy", "mlflow")
    told = ", ".join(f"{name} {made[name]}" for name in versions if made.get(name))
    threads = made.get("threads")
    device = made.get("device") or ""
    changed = ", ".join(f"{name}={_setting(value)}" for name, value in grid.settings.items())
    every = [
        ("Code", f"{made['git_commit']}{dirty}" if made.get("git_commit") else "", True),
        ("Data set", grid.dataset, False),
        ("Data SHA-256", grid.dataset_sha256, True),
        ("Changed settings", changed, False),
        ("Device", f"{device}, {plural(threads, 'thread')}" if threads else device, False),
        ("Versions", told, False),
        ("Grid", grid.run_id, True),
    ]
    return [(name, clean(value), is_id) for name, value, is_id in every if value]


def stand_in(found: Found) -> Iterator[str]:
    """Another data set stood in for the one asked for."""
    if found.grid.stand_in_for:
        yield (
            f"Measured on {found.grid.dataset}, a stand-in for {found.grid.stand_in_for}: the "
            "answer there can differ"
        )


def few_seeds(found: Found) -> Iterator[str]:
    """Too few seeds for anything but a first look."""
    seeds = len(found.grid.seeds)
    if seeds == 1:
        yield "One seed: there is no interval, and nothing is decided"
    elif seeds < FEW_SEEDS:
        yield (
            f"{seeds} paired seeds: fewer than {FEW_SEEDS} give intervals so wide that only large "
            "differences show"
        )


def edges(found: Found) -> Iterator[str]:
    """The grid ends before the metric falls."""
    for each in found.variants:
        if each.edge and each.diverged < each.cells:
            yield (
                f"The best rate of {each.name}, {rate_text(each.best_rate)}, is the {each.edge} "
                "that was tried: a better one may lie beyond"
            )
    wide = [
        f"{each.name} ({each.open_end} of {plural(len(each.values), 'seed')})"
        for each in found.variants
        if each.open_end
    ]
    if wide:
        yield (
            f"The highest rate tried is still usable for {listed(wide)}: the usable range is wider "
            "than could be seen"
        )


def other_grids(found: Found) -> Iterator[str]:
    """Rates of different optimizers are different things."""
    grid = found.grid
    others = [each for each in found.variants if not comparable(grid, each.name)]
    if others:
        names = listed(f"{each.name} ({OPTIMIZERS.get(each.optimizer, '')})" for each in others)
        base = OPTIMIZERS.get(found.base.optimizer, "")
        yield (
            f"A learning rate of {base} means something else to {names}: between them only metrics "
            "and widths are compared, not rates"
        )


def off_grid(found: Found) -> Iterator[str]:
    """The baseline's best rate was not tried with every variant."""
    without = [each.name for each in found.variants if each.regret is None]
    if without:
        yield (
            f"What the baseline's best rate costs is not given for {listed(without)}: "
            f"{rate_text(found.base.best_rate)} is not among the rates tried there"
        )


def chosen(found: Found) -> Iterator[str]:
    """The best of nine flatters itself."""
    yield (
        "Best rates are chosen on the rows that they are measured on, so every best flatters "
        "itself a little; all variants have the same number of rates to choose from"
    )


def dead_cells(found: Found) -> Iterator[str]:
    """Diverged cells count."""
    for each in found.variants:
        at_best = found.grid.variant(each.name).diverged.get(each.best_rate, ())
        if at_best:
            yield (
                f"{len(at_best)} of {plural(len(each.values), 'seed')} of {each.name} diverged at "
                "its best rate and count at the level of chance"
            )


def notes(found: Found) -> Iterator[str]:
    """What the statistics had to say about a contrast."""
    for measure, contrasts in found.contrasts.items():
        for each in contrasts:
            for note in each.notes:
                # the method says these of all of them
                if not (note.startswith("one seed") or "the grid can tell" in note):
                    yield f"{each.variant}, {MEASURES[measure].title}: {note}"


def no_smallest(found: Found) -> Iterator[str]:
    """No smallest effect was stated."""
    if found.grid.smallest_effect is None:
        yield (
            "No smallest effect of interest is stated, so no two variants can be called "
            f"equivalent; for the usable range, {delta_text(found)} is taken"
        )


def fixed(found: Found) -> Iterator[str]:
    """What is tuned here is one setting."""
    yield (
        "Only the learning rate varies: weight decay, warmup and the number of epochs may suit one "
        "variant, or one rate, better than another"
    )


RULES: tuple[Callable[[Found], Iterator[str]], ...] = (
    stand_in,
    few_seeds,
    edges,
    dead_cells,
    other_grids,
    off_grid,
    no_smallest,
    notes,
    chosen,
    fixed,
)
