"""The part `data_path`: pictures a second from Parquet to batches of floats, and the memory for it.

Arms are interleaved, each in a process that stays alive, all on every core; nothing trains. Peak
memory is measured afterwards, each arm in fresh processes of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import measure as measuring
from benchmarks.data_path import memory, page, subject
from benchmarks.interleave import interleave
from benchmarks.measure import Goal
from harness.processes import cores

TITLE = "Data path: from PNGs to batches"
MINUTES = 6.0
ROUNDS = 4
RATE = "pictures_per_second"
HERE = "benchmarks.data_path"
ARMS = {
    "textbook-0": "textbook Dataset + DataLoader",
    "textbook-2": "the same, 2 workers",
    "map-0": "harness, map",
    "map-2": "harness, map, 2 workers",
    "stream-0": "harness, stream",
    "stream-2": "harness, stream, 2 workers",
    "resident": "harness, resident",
    "augmented": "the same, flip, crop and cutout",
    "inflate": "floor of a single thread: unpack only",
}
MEASURED_MEMORY = (
    "textbook-0",
    "textbook-2",
    "map-0",
    "map-2",
    "stream-0",
    "stream-2",
    "resident",
)
LARGER = ("stream-0", "stream-2")
BATCHES_OF_LARGER = 140
"""Two windows of 65,536 rows and some: what a stream holds has been full by then."""
MOST_MB = 600
GOALS = (
    (Goal("resident", "textbook-2", 50.0), "a resident epoch against the textbook's, 2 workers"),
    (Goal("stream-0", "textbook-0", 1.0), "stream against the map-style Dataset, no workers"),
    (Goal("stream-2", "textbook-2", 1.0), "stream against the map-style Dataset, 2 workers each"),
)
OTHERS = (
    ("stream-0", "map-0"),
    ("stream-2", "map-2"),
    ("augmented", "resident"),
    ("resident", "inflate"),
)
"""Ratios that are told and are no goals."""


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """Measures; see benchmarks/README.md."""
    count = rounds or ROUNDS
    work = [{"round": number} for number in range(count)]
    found = {
        "rounds": run(work, folder / "arms"),
        "building": build(work, folder / "building"),
        "memory": measure_memory(folder / "memory"),
    }
    setup = {
        "data": subject.data_name(),
        "batch_size": subject.BATCH[subject.data_name()],
        "cores": os.cpu_count() or 1,
        "times_larger": subject.TIMES_LARGER,
    }
    return {"setup": setup, **found, "goals": judged(found)}


def run(work: list[dict[str, int]], folder: Path) -> list[dict[str, Any]]:
    """Pictures per second of each arm, round by round."""
    places = {name: f"{HERE}.arms:prepare_{name.replace('-', '_')}" for name in ARMS}
    found: list[dict[str, Any]] = [{} for _ in work]
    for number, arm, figures in interleave(places, work, folder):
        rate = figures["pictures"] / figures["seconds"]
        cpu = figures["cpu_seconds"] / figures["pictures"]
        found[number][arm] = {RATE: round(rate, 1), "cpu_us": round(1e6 * cpu, 2)}
        print(
            f"round {number + 1}/{len(work)}  {ARMS[arm]:<40}{rate:>12,.0f} pictures/s",
            flush=True,
        )
    return found


def build(work: list[dict[str, int]], folder: Path) -> list[dict[str, Any]]:
    """Seconds to make the decoded cache, with one process and with all cores, and to open it."""
    asked = [{**each, "processes": cores()} for each in work]
    found = []
    for number, _, each in interleave({"build": f"{HERE}.building:prepare"}, asked, folder):
        kept = {name: round(each[name], 4) for name in ("one", "all", "open")}
        found.append({**kept, "processes": cores or 1, "pictures": each["pictures"]})
        print(
            f"round {number + 1}/{len(work)}  cache: one process {kept['one']:.2f} s, {cores} "
            f"{kept['all']:.2f} s, opening {1e3 * kept['open']:.1f} ms",
            flush=True,
        )
    return found


def measure_memory(folder: Path) -> dict[str, Any]:
    """MB above the imports, arm by arm; of the streams with a larger data set as well."""
    found: dict[str, Any] = {}
    wanted: list[tuple[str, int, int | None]] = [(arm, 1, None) for arm in MEASURED_MEMORY]
    wanted += [(arm, subject.TIMES_LARGER, BATCHES_OF_LARGER) for arm in LARGER]
    for arm, times, batches in wanted:
        # twice: the first time files are made, which needs memory of its own
        if arm == "resident" or (times > 1 and arm == LARGER[0]):
            memory.measure(arm, folder, times, 1)
        figures = memory.measure(arm, folder, times, batches)
        if figures:
            found[arm if times == 1 else f"{arm}, {times}x"] = figures
            print(
                f"memory  {ARMS[arm]:<40}{figures['above_mb']:>8.0f} MB above "
                f"{figures['baseline_mb']:.0f} MB of imports, {figures['rows']:,} rows",
                flush=True,
            )
    return found


def judged(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The goals' records."""
    verdicts = measuring.judge(found["rounds"], [goal for goal, _ in GOALS], RATE)
    records = [
        {**measuring.verdict_record(verdict), "what": what}
        for verdict, (_, what) in zip(verdicts, GOALS, strict=True)
    ]
    streams = [
        each["above_mb"] for arm, each in found["memory"].items() if arm.startswith("stream")
    ]
    shares = [round(MOST_MB / max(max(streams), 1.0), 3)] if streams else []
    limit = measuring.spread(shares)
    records.append(
        {
            "better": f"{MOST_MB} MB",
            "than": "peak of a stream above the imports",
            "times": 1.0,
            "ratios": shares,
            "spread": asdict(limit) if limit else None,
            "met": bool(shares) and shares[0] >= 1,
            "what": f"{MOST_MB} MB over a stream's peak above the imports, whatever the data set",
        }
    )
    return records


def section(result: Mapping[str, Any]) -> str:
    """Markdown."""
    return page.section(result, ARMS, OTHERS)


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """Pictures per second of each arm."""
    return page.pictures(result, ARMS)


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of the goals and the other pairs, and of building the cache on all cores."""
    found = {}
    for better, than in (*((goal.better, goal.than) for goal, _ in GOALS), *OTHERS):
        each = measuring.spread(measuring.ratios(result["rounds"], better, than, RATE))
        if each:
            found[f"{better} / {than}"] = asdict(each)
    sped = measuring.spread(each["one"] / each["all"] for each in result["building"])
    if sped:
        found["cache on all cores / in one process"] = asdict(sped)
    return found
