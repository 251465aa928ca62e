"""The part `gpu`: a whole ablation on CIFAR-100 in each precision, and a step against its limit.

Without a CUDA device, or without the data set, nothing is measured and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.ablation.subject import find_data
from benchmarks.gpu import figures, page
from benchmarks.gpu.subject import BASE, Size, open_project, plan_of, seed_by_seed
from benchmarks.measure import significant, spread
from harness.processes import cores

if TYPE_CHECKING:
    from harness.data.loaders import Loader
    from harness.plan import Plan

TITLE = "On a GPU: CIFAR-100, 5 variants x 10 seeds x 30 epochs"
MINUTES = 15.0
"""On one H200, if it does as it should."""
ROUNDS = 3
FULL = Size()
MOST_SECONDS = {"fp32": 60.0, "tf32": 25.0, "bf16": 25.0}
TIMES_TEXTBOOK = 100.0
SHARE_OF_LIMIT = 0.5


def measure(folder: Path, rounds: int | None) -> dict[str, Any]:
    """Measures; see benchmarks/README.md."""
    import torch

    if not torch.cuda.is_available():
        return not_measured(FULL, "there was no CUDA device")
    data_folder = find_data(FULL.data)
    if data_folder is None:
        print(f"to get the data set, type\n  harness data get {FULL.data}", flush=True)
        return not_measured(FULL, "CIFAR-100 was not on the machine")
    # older devices have neither tf32 nor bf16
    modern = torch.cuda.get_device_capability() >= (8, 0)
    size = FULL if modern else replace(FULL, precisions=(BASE,))
    return measure_size(size, folder, rounds or ROUNDS, data_folder)


def not_measured(size: Size, why: str) -> dict[str, Any]:
    """The result where nothing can be measured."""
    print(f"{why}: not measured", flush=True)
    return {
        "available": False,
        "why": why,
        "setup": setup_of(size),
        "rounds": [],
        "points": [],
        "goals": goals(size, [], []),
    }


def measure_size(
    size: Size, folder: Path, rounds: int, data_folder: Path | None = None
) -> dict[str, Any]:
    """The same for an ablation of any size on any device."""
    from benchmarks.gpu.training import empty_store
    from harness.data.loaders import open_loader

    project = open_project(folder / "project", data_folder)
    plans = {name: plan_of(project, size, name) for name in size.precisions}
    first = plans[BASE]
    loader = open_loader(first.card, first.cells[0].config.data, size.device)
    widths = (first.card.input_shape, first.cells[0].config.model.hidden, first.card.outputs)
    try:
        short = {name: plan_of(project, size, name, epochs=1) for name in size.precisions}
        database = empty_store(folder / "empty")
        warm_up(short, loader, size, folder / "warm-up", database)
        measured = run_rounds(plans, loader, size, folder, database, rounds)
        points = sweep(plans, loader, size)
    finally:
        loader.close()
    setup = setup_of(size) | {
        "device": device_of(size.device),
        "widths": _flat(*widths),
        "batch_size": first.cells[0].config.batch_size,
        "steps": _steps(first, size),
    }
    return {
        "available": True,
        "setup": setup,
        "rounds": measured,
        "points": points,
        "goals": goals(size, measured, page.fractions(setup, points)),
    }


def warm_up(
    plans: Mapping[str, Plan], loader: Loader, size: Size, folder: Path, database: Path
) -> None:
    """One epoch of everything, so that imports and first uses of the device are in no figure."""
    from benchmarks.gpu.training import alone, recorded

    for number, (precision, plan) in enumerate(plans.items()):
        found = alone(plan, loader, size.device)
        print(f"warm-up in {precision}: {found['executor']}, {found['graph']}", flush=True)
        if not number:
            recorded(plan, folder, database, size.device)


def run_rounds(
    plans: Mapping[str, Plan],
    loader: Loader,
    size: Size,
    folder: Path,
    database: Path,
    rounds: int,
) -> list[dict[str, Any]]:
    """Round by round: training alone and recorded in each precision, and the textbook's loop."""
    from benchmarks.ablation.chapter import open_images
    from benchmarks.ablation.subject import write_spec
    from benchmarks.gpu import textbook
    from benchmarks.gpu.training import alone, recorded

    spec = write_spec(plans[BASE], folder / "spec")
    images = open_images(spec)
    found = []
    for number in range(rounds):
        each: dict[str, Any] = {"alone": {}, "recorded": {}, "textbook": {}}
        turn = number % len(plans)
        order = [*list(plans)[turn:], *list(plans)[:turn]]
        for precision in order:
            own = alone(plans[precision], loader, size.device)
            place = folder / f"{precision}-{number}"
            took = recorded(plans[precision], place, database, size.device)
            each["alone"][precision], each["recorded"][precision] = own, took
            print(
                f"round {number + 1}/{rounds}  {precision}: training {own['seconds']:.1f} s, "
                f"recorded {took:.1f} s ({own['graph']})",
                flush=True,
            )
        for workers in _workers(size):
            run = spec.runs[number % len(spec.runs)]
            part = textbook.train_part(
                spec, run, images, workers, size.textbook_epochs, size.device
            )
            whole = textbook.scaled(
                part["epoch_seconds"], part["test_seconds"], size.epochs, size.cells
            )
            each["textbook"][str(workers)] = {**part, "seconds": whole}
            print(
                f"round {number + 1}/{rounds}  textbook, {workers} workers: "
                f"{part['epoch_seconds'][-1]:.2f} s an epoch, {whole:.0f} s for everything",
                flush=True,
            )
        found.append(each)
    return found


def sweep(plans: Mapping[str, Plan], loader: Loader, size: Size) -> list[dict[str, Any]]:
    """Steps of stacks of every size, in every precision."""
    from benchmarks.gpu import steps

    return steps.sweep(plans, loader, size)


def goals(
    size: Size, rounds: Sequence[Mapping[str, Any]], fractions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every goal's record; a ratio of two is half the time that is allowed."""
    cells = f"{size.variants} x {size.seeds} cells, {size.epochs} epochs"
    found = []
    for precision, most in MOST_SECONDS.items():
        found.append(
            _record(
                f"GPU, {cells}: {most:g} s over the wall time of training and recording, "
                f"{precision}",
                (f"{most:g} s", f"harness, recorded, {precision}"),
                1.0,
                f"at least 1x (under {most:g} s)",
                [most / each["recorded"][precision] for each in rounds if _has(each, precision)],
            )
        )
    found.append(
        _record(
            f"GPU, {cells}: harness, recorded, against the textbook's loop, unrecorded, {BASE}",
            ("harness", "the textbook's loop"),
            TIMES_TEXTBOOK,
            f"at least {TIMES_TEXTBOOK:g}x",
            _against_textbook(rounds, str(size.workers[0]), BASE),
        )
    )
    for precision in MOST_SECONDS:
        own = [each for each in fractions if each["precision"] == precision]
        whole = [each for each in own if each["cells"] == size.cells]
        found.append(
            _record(
                f"GPU: a step of {size.cells} cells, of its limit by bytes and operations, "
                f"{precision}",
                ("a step", "its limit"),
                SHARE_OF_LIMIT,
                f"at least {SHARE_OF_LIMIT:g}x (within 2x of the limit)",
                whole[0]["fractions"] if whole else [],
            )
        )
    return found


def section(result: Mapping[str, Any]) -> str:
    """Markdown."""
    return page.section(result)


def pictures(result: Mapping[str, Any]) -> dict[str, bytes]:
    """SVG by name."""
    return figures.pictures(result)


def ratios(result: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The goals' ratios (a time's is for information only); gains from stacks and graphs."""
    found: dict[str, dict[str, float]] = {}
    for goal in result["goals"]:
        if goal["spread"]:
            found[goal["what"]] = dict(goal["spread"])
            if " s over " in goal["what"]:
                found[goal["what"]]["information"] = 1
    for point in result["points"]:
        name = f"a step of {point['cells']} cells on a GPU, {point['precision']}"
        for better, than in (("graph", "eager"), ("eager", "looped")):
            each = spread(b[than] / b[better] for b in point["blocks"] if better in b)
            if each:
                found[f"{name}: {better} / {than}"] = asdict(each)
    return found


def setup_of(size: Size) -> dict[str, Any]:
    """What was to be measured, as plain JSON."""
    names = (
        "data", "variants", "seeds", "epochs", "cells", "precisions", "counts", "textbook_epochs",
        "products", "copied",
    )  # fmt: skip
    found = {name: getattr(size, name) for name in names}
    return found | {"precisions": list(size.precisions), "counts": list(size.counts)}


def device_of(device: str) -> dict[str, Any]:
    """Its name, its memory and what torch reaches it with."""
    import torch

    if device != "cuda":
        return {"name": device, "memory_gib": None, "cuda": None}
    found = torch.cuda.get_device_properties(0)
    memory = round(found.total_memory / 2**30)
    return {"name": found.name, "memory_gib": memory, "cuda": torch.version.cuda}


def _against_textbook(
    rounds: Sequence[Mapping[str, Any]], workers: str, precision: str
) -> list[float]:
    return [
        each["textbook"][workers]["seconds"] / each["recorded"][precision]
        for each in rounds
        if workers in each["textbook"] and _has(each, precision)
    ]


def _has(each: Mapping[str, Any], precision: str) -> bool:
    return precision in each["recorded"]


def _workers(size: Size) -> list[int]:
    """Not more than there are cores, save the goal's own."""
    return list(dict.fromkeys([size.workers[0], *(min(n, cores()) for n in size.workers[1:])]))


def _flat(shape: Sequence[int], hidden: Sequence[int] | None, outputs: int) -> list[int]:
    features = 1
    for side in shape:
        features *= side
    return [features, *(hidden or ()), outputs]


def _steps(plan: Plan, size: Size) -> int:
    """Steps of one cell's training."""
    from harness.data.splits import split_rows

    config, seed = plan.cells[0].config, seed_by_seed(plan.cells)[0].seed
    assert config.batch_size is not None
    assert config.data.validation is not None
    train, _ = split_rows(plan.card.rows["train"], config.data.validation, seed)
    return len(train) // config.batch_size * size.epochs


def _record(
    what: str, pair: tuple[str, str], times: float, wanted: str, ratios: Sequence[float]
) -> dict[str, Any]:
    found = spread(ratios)
    if found:
        print(f"{what}: {significant(found.median)}x, wanted {wanted}", flush=True)
    return {
        "what": what,
        "better": pair[0],
        "than": pair[1],
        "times": times,
        "wanted": wanted,
        "ratios": [round(ratio, 4) for ratio in ratios],
        "spread": asdict(found) if found else None,
        "met": found is not None and found.median >= times,
    }
