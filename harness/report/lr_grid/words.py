"""What a grid of learning rates says in prose: the answer, its condition, method, caveats, facts.

What comes in: `Found`. What goes out: plain unescaped text that each format escapes.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.lr_grid.plan import MOST_RATES, USUAL_RATES
from harness.report.lr_grid.decades import supporting
from harness.report.lr_grid.found import MEASURES, Allowance, Found, VariantFound
from harness.report.lr_grid.method import RULES, facts, method
from harness.report.lr_grid.units import delta_text, rate_text, size
from harness.report.wording import clean, listed, plural
from harness.stats_formulas import SEEDS_CAP

USUAL_SEEDS = 8
RULINGS = {
    "supported": "{variant} allows a higher learning rate than {base}",
    "refuted": "{variant} does not allow a higher learning rate than {base}",
    "inconclusive": "Inconclusive whether {variant} allows a higher learning rate than {base}",
}


@dataclass(frozen=True)
class Words:
    """The text of a report. `facts` are (name, value, whether it is an identifier)."""

    headline: str
    condition: str
    divergence: str
    method: list[str]
    caveats: list[str]
    facts: list[tuple[str, str, bool]]
    next_step: tuple[str, str] | None


def words_of(found: Found) -> Words:
    """Everything that a report says in sentences."""
    said = [clean(f"{text}.") for rule in RULES for text in rule(found)]
    return Words(
        headline=clean(headline(found)),
        condition=clean(_condition(found)),
        divergence=clean(divergence(found)),
        method=[clean(each) for each in method(found)],
        caveats=list(dict.fromkeys(said)),
        facts=facts(found),
        next_step=_next_step(found),
    )


def headline(found: Found) -> str:
    """Whether higher rates are allowed, and how the variants compare at their best rates."""
    dead = [each.name for each in found.variants if each.diverged == each.cells]
    if len(dead) == len(found.variants):
        return "Nothing to compare: every cell diverged, at every learning rate."
    told = [_allowed(found, each, alone=len(found.allowances) == 1) for each in found.allowances]
    text = [*told, _bests(found)]
    if dead:
        text.append(f"Every cell of {listed(dead)} diverged.")
    return " ".join(text)


def proof(found: Found, allowance: Allowance) -> str:
    """The evidence for or against a higher rate, without the sentence that it is evidence for."""
    said = _allowed(found, allowance, alone=True).partition(": ")[2]
    return f"{said[0].upper()}{said[1:]} {_bests(found)}"


def _allowed(found: Found, allowance: Allowance, alone: bool) -> str:
    name = allowance.variant
    start = RULINGS[allowance.ruling].format(variant=name, base=found.grid.baseline)
    own = {measure: found.contrast(measure, name) for measure in allowance.judged}
    shown = {measure: each for measure, each in own.items() if each is not None}
    if allowance.ruling == "supported":
        shown = {measure: shown[measure] for measure in supporting(shown)}
    if not alone:  # the strongest evidence will do; the table has the rest
        first = min(shown, key=lambda measure: (shown[measure].p, measure), default=None)
        shown = {first: shown[first]} if first else {}
    told = [f"{MEASURES[m].title} {size(found, m, each)}" for m, each in shown.items()]
    silent = list(allowance.silent) if alone else []
    return f"{start}: {'; '.join([*told, *silent])}."


def _bests(found: Found) -> str:
    """How each does at its own best rate."""
    base, every = found.grid.baseline, found.contrasts["best"]
    if len(every) == 1:
        one = every[0]
        amount = size(found, "best", one)
        told = {
            "inconclusive": f"{one.variant} against {base} is inconclusive: {amount}",
            "equivalent": f"{one.variant} and {base} are equivalent: {amount}",
        }.get(one.verdict, f"{one.variant} is {one.verdict} than {base}: {amount}")
        return f"At the best rate of each, {told}."
    told = "; ".join(
        f"{each.variant} {each.verdict}, {size(found, 'best', each)}" for each in every
    )
    return f"At the best rate of each, against {base}: {told}."


def divergence(found: Found) -> str:
    """How many cells diverged or ended at chance, of which variants, from which rate on."""
    total = sum(each.cells for each in found.variants)
    dead = sum(each.diverged for each in found.variants)
    counted = f"{dead:,} of {total:,} cells diverged" if dead else f"No cell diverged ({total:,})"
    if not any(each.failed for each in found.variants):
        return f"{counted}; every seed trains at every rate."
    told = "; ".join(_failed(found, each) for each in found.variants)
    return f"{counted}. Diverged or at chance: {told}."


def _failed(found: Found, each: VariantFound) -> str:
    if not each.failed:
        return f"{each.name} nowhere"
    first = min(each.failed)
    count, seeds = len(each.failed[first]), plural(len(found.grid.seeds), "seed")
    from_there = f" ({each.diverged} of {each.cells} cells diverged)" if each.diverged else ""
    return f"{each.name} from {rate_text(first)} on, where it is {count} of {seeds}{from_there}"


def _condition(found: Found) -> str:
    grid = found.grid
    epochs = grid.held.get("epochs")
    trained = f", {plural(epochs, 'epoch')}" if isinstance(epochs, int) else ""
    return (
        f"Measured on validation rows of {grid.dataset}{trained}; the test set was not read. "
        f"Usable means within {delta_text(found)} of the seed's best."
    )


def _as_set(found: Found) -> str:
    """The settings that make this grid and not another: ` --set epochs=1`."""
    return "".join(f" --set {key}={value}" for key, value in found.grid.settings.items())


def _next_step(found: Found) -> tuple[str, str] | None:
    """Higher rates where the grid ends too early, more seeds where they may decide what is open."""
    grid, n = found.grid, len(found.grid.seeds)
    if any(each.diverged == each.cells for each in found.variants):
        return None
    rates = max(len(each.rates) for each in grid.variants)
    ends = any(each.edge == "highest" for each in found.variants)
    stuck = any(each.ruling == "inconclusive" for each in found.allowances)
    if rates < MOST_RATES and (ends or (stuck and any(each.open_end for each in found.variants))):
        wider = f"--rates {min(rates + 4, MOST_RATES)}"
        more = f"harness run {grid.experiment} --lr-grid {wider}{_as_set(found)}"
        return "The grid ends where rates are still usable; four more:", more
    undecided = {each.variant for each in found.allowances if each.ruling == "inconclusive"}
    open_ones = [each for each in found.contrasts["best"] if each.verdict == "inconclusive"]
    for measure in ("usable", "stable"):
        open_ones += [each for each in found.contrasts[measure] if each.variant in undecided]
    known = [each.seeds_needed.plain for each in open_ones if each.seeds_needed]
    if not open_ones or n >= SEEDS_CAP or (known and None in known):
        return None
    wanted = max([each for each in known if each], default=0) or USUAL_SEEDS
    seeds = min(max(wanted, n + 2), SEEDS_CAP)
    as_wide = f" --rates {rates}" if rates > USUAL_RATES else ""
    command = f"harness run {grid.experiment} --lr-grid{as_wide} --seeds {seeds}{_as_set(found)}"
    return "More seeds may decide it:", command
