"""docs/performance.md and its pictures, made from the parts' JSON alone.

In: part -> result, as `benchmarks/results/<part>.json` has it, and the parts. Out: Markdown and
SVG; the same JSON gives the same bytes. A part without a result keeps its heading and says what to
type.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import significant
from benchmarks.parts import Part

Result = Mapping[str, Any]
PAGE = "performance.md"
PICTURES = Path("pictures") / "performance"
"""Beside the page."""


@dataclass(frozen=True)
class Written:
    """The page, its pictures by file name, and the parts whose section could not be made."""

    text: str
    pictures: dict[str, bytes]
    failed: list[str]


def make(parts: Mapping[str, Part], results: Mapping[str, Result]) -> Written:
    """The whole page. `results` lacks the parts that were not measured."""
    failed: list[str] = []
    drawn: dict[str, bytes] = {}
    sections: list[str] = []
    for name, part in parts.items():
        sections += ["", f"## {part.TITLE}", ""]
        if name not in results:
            sections.append(f"Not measured. To measure it: `python -m benchmarks {name}`.")
            continue
        result = results[name]
        sections += [_measured(result), ""]
        try:
            section, pictures = part.section(result), part.pictures(result)
        except Exception:  # one part's fault is not another's
            traceback.print_exc()
            failed.append(name)
            sections.append(f"The figures are in benchmarks/results/{name}.json.")
            continue
        drawn |= pictures
        sections.append(section.strip("\n"))
    text = "\n".join([*_head(results), *_summary(parts, results), *sections]) + "\n"
    return Written(text, drawn, failed)


def write(written: Written, folder: Path) -> None:
    """The page and its pictures into `folder`; pictures that no part draws any more go."""
    pictures = folder / PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    for path in pictures.glob("*.svg"):
        if path.name not in written.pictures:
            path.unlink()
    for name, drawn in written.pictures.items():
        (pictures / name).write_bytes(drawn)
    (folder / PAGE).write_text(written.text, encoding="utf-8")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def ranged(found: Mapping[str, float] | None, unit: str = "") -> str:
    """`4.02x (3.90 to 4.11, n=5)`; `not measured` without a value."""
    if found is None:
        return "not measured"
    low, high = significant(found["low"]), significant(found["high"])
    return f"{significant(found['median'])}{unit} ({low} to {high}, n={found['n']:.0f})"


def goal_row(goal: Mapping[str, Any], titles: Mapping[str, str]) -> tuple[str, str, str, str]:
    """A goal's record as what, goal, measured, met."""
    better, than = (titles.get(goal[side], goal[side]) for side in ("better", "than"))
    what = goal.get("what") or f"{better} / {than}"
    wanted = goal.get("wanted") or f"at least {goal['times']:g}x"
    met = "yes" if goal["met"] else ("no" if goal["spread"] else "not measured")
    return what, wanted, ranged(goal["spread"], "x"), met


def _head(results: Mapping[str, Result]) -> list[str]:
    lines = [
        "# Performance",
        "",
        "How fast harness is beside what a person would otherwise write, beside the limits of the "
        "machine, and where the time goes. This page is generated: every figure is measured by "
        "the scripts in `benchmarks/` and stored as JSON in `benchmarks/results/`. Arms that are "
        "compared take turns, round after round, on the same machine; a ratio is taken within a "
        "round, and its median, minimum and maximum are over rounds. Times on another machine "
        "will differ; ratios should not, much.",
        "",
        "    make bench                           everything, about half an hour on two cores",
        '    make bench PARTS="ablation cifar"    some parts; python -m benchmarks --list',
        "    python -m benchmarks --check         has a ratio fallen since?",
    ]
    if results:
        lines += ["", *table(("parts", "day", "machine", "versions", "harness"), _where(results))]
    return lines


def _where(results: Mapping[str, Result]) -> list[tuple[str, ...]]:
    """A row for each day, machine and version that parts were measured with."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for name, result in results.items():
        found = result["environment"]
        packages = {"Python": found["python"], **found["packages"]}
        commit = str(found.get("git_commit") or "unknown")[:10]
        row = (
            str(found["measured"]),
            f"{found['cpu']}, {found['cores']} cores, {found['memory_gib']} GiB, {found['system']}",
            ", ".join(f"{package} {version}" for package, version in packages.items()),
            commit + (" with uncommitted changes" if found.get("git_dirty") else ""),
        )
        rows.setdefault(row, []).append(name)
    return [(", ".join(names), *row) for row, names in rows.items()]


def _summary(parts: Mapping[str, Part], results: Mapping[str, Result]) -> list[str]:
    rows = []
    for name, part in parts.items():
        if name not in results:
            rows.append((f"[{part.TITLE}](#{anchor(part.TITLE)})", "", "not measured", ""))
            continue
        result = results[name]
        rows += [goal_row(goal, result.get("titles", {})) for goal in result.get("goals", ())]
    return ["", "## Goals", "", *table(("what", "goal", "median (min to max)", "met"), rows)]


def anchor(title: str) -> str:
    """A heading's name in a link, as Git hosts make it."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def _measured(result: Result) -> str:
    load = result.get("load_per_core")
    busy = "" if load is None else f"; load per core before it {load:g}"
    return f"Measured on {result['environment']['measured']} by `{result['command']}`{busy}."
