"""`python -m benchmarks`: measures, writes JSON and docs/performance.md, says what moved.

Exit code 0 when every goal of the parts that were run was measured and met, else 1. With `--check`
nothing is written, and it is 1 where a ratio fell significantly or a part failed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import guard, measure, page, parts
from benchmarks.parts import BY_NAME_ONLY, PARTS, REPOSITORY, Part

RESULTS = REPOSITORY / "benchmarks" / "results"
DOCS = REPOSITORY / "docs"
CHECK_ROUNDS = 2


@click.command()
@click.argument("names", nargs=-1, metavar="[PART]...")
@click.option("--rounds", type=click.IntRange(1), help="Of each part, instead of its own number.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="A folder for JSON and page, for a try."
)
@click.option("--list", "listing", is_flag=True, help="List the parts and stop.")
@click.option("--page-only", is_flag=True, help="Make the page anew, measure nothing.")
@click.option("--check", is_flag=True, help="Fewer rounds, nothing written: has a ratio fallen?")
def main(
    names: Sequence[str],
    rounds: int | None,
    out: Path | None,
    listing: bool,
    page_only: bool,
    check: bool,
) -> None:
    """Measure PARTs (all but gpu and tuning where none is named) and write the page."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise click.UsageError(f"no part {', '.join(unknown)}; valid: {', '.join(PARTS)}")
    there = {name: part for name in PARTS if (part := parts.load(name)) is not None}
    if listing:
        print_list(there)
        return
    results = out or RESULTS
    if page_only:
        sys.exit(1 if write_page(there, results, out or DOCS) else 0)
    chosen = [name for name in PARTS if (name in names if names else name not in BY_NAME_ONLY)]
    for name in chosen:
        if name not in there:
            print(f"{name}: skipped, benchmarks/{name}/part.py is not there")
    rounds = rounds or (CHECK_ROUNDS if check else None)
    measured, bad = run([name for name in chosen if name in there], there, rounds, results, check)
    if not check:
        bad += [f"the page: {name}" for name in write_page(there, results, out or DOCS)]
        bad += judged(measured, there)
    for line in bad:
        print(f"not as it should be: {line}")
    sys.exit(1 if bad else 0)


def print_list(there: Mapping[str, Part]) -> None:
    """Parts with their minutes."""
    for name in PARTS:
        if name not in there:
            print(f"{name:<10}  not there")
            continue
        only = "  only by name" if name in BY_NAME_ONLY else ""
        print(f"{name:<10} {there[name].MINUTES:4g} min  {there[name].TITLE}{only}")


def run(
    names: Sequence[str],
    there: Mapping[str, Part],
    rounds: int | None,
    results: Path,
    check: bool,
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Measures parts in turn. Their results, and a line for each that failed or, checked, fell.

    A result is stored as soon as it is there (not with `check`).
    """
    measured: dict[str, dict[str, Any]] = {}
    bad: list[str] = []
    for number, name in enumerate(names, start=1):
        part = there[name]
        print(f"[{number}/{len(names)}] {name}: {part.TITLE}, about {part.MINUTES:g} min")
        sys.stdout.flush()
        before = parts.stored(name, RESULTS)  # read now: it may be overwritten below
        load, start = measure.load_per_core(), time.monotonic()
        try:
            with tempfile.TemporaryDirectory(prefix=f"bench-{name}-") as folder:
                found = parts.measure_apart(name, Path(folder), rounds)
        except parts.PartFailedError as error:
            print(f"{error}; the other parts go on", flush=True)
            bad.append(str(error))
            continue
        minutes = round((time.monotonic() - start) / 60, 1)
        found = parts.complete(name, found, rounds)
        found |= {"load_per_core": load, "minutes": minutes}
        measured[name] = found
        print(f"{name} took {minutes:g} min")
        if not check:
            measure.write_json(results / f"{name}.json", found)
        worse = compare(part, before, found)
        if check:
            bad += [f"{name}: {line}" for line in worse]
    return measured, bad


def compare(part: Part, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> list[str]:
    """Prints what moved since the stored figures; returns the lines that would fail a check."""
    if before is None:
        print("guard: nothing stored to compare with")
        return []
    try:
        old, new = part.ratios(before), part.ratios(now)
    except (KeyError, TypeError, ValueError) as error:  # stored by an earlier form of the part
        print(f"guard: the stored figures have another form ({error!r})")
        return []
    found = guard.moves(old, new)
    shared = sum(name in old for name in new)
    for move in found:
        print(f"guard: {guard.sentence(move)}")
    for line in guard.unmatched(old, new):
        print(f"guard: {line}")
    print(f"guard: {len(found)} of {shared} ratios moved")
    return [guard.sentence(move) for move in guard.fell(found)]


def judged(measured: Mapping[str, Mapping[str, Any]], there: Mapping[str, Part]) -> list[str]:
    """Prints each goal of the parts that were run; a line for each that is not met."""
    missed = []
    for name in there:
        result = measured.get(name, {})
        for goal in result.get("goals", ()):
            what, wanted, found, met = page.goal_row(goal, result.get("titles", {}))
            print(f"{'goal met' if goal['met'] else 'GOAL NOT MET'}: {what}: {found}, {wanted}")
            if not goal["met"]:
                missed.append(f"{name}: {what}: {'missed' if met == 'no' else met}")
    return missed


def write_page(there: Mapping[str, Part], results: Path, folder: Path) -> list[str]:
    """Makes the page from all the JSON there is; the parts whose section failed."""
    found = {name: result for name in there if (result := parts.stored(name, results))}
    written = page.make(there, found)
    page.write(written, folder)
    print(f"wrote {page.PAGE} and {len(written.pictures)} pictures to {folder.name}/")
    return written.failed


if __name__ == "__main__":
    main()
