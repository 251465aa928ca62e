"""The decoded cache: made by one process, by all cores, and opened."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from benchmarks.data_path import subject
from benchmarks.interleave import Run, Timed, Work


def prepare(folder: Path) -> Run:
    """An arm that makes the cache anew in each round, in one process and in `work["processes"]`."""
    import torchvision.io

    from harness.data import shards
    from harness.data.cache import decoded

    assert torchvision.io is not None  # imported before the clock starts
    card = subject.open_card(folder)

    def build(processes: int) -> float:
        shutil.rmtree(card.cache_dir, ignore_errors=True)
        start = time.perf_counter()
        for split in shards.SPLITS:
            decoded(card, split, processes=processes)
        return time.perf_counter() - start

    def run(work: Work) -> Timed:
        def timed() -> dict[str, Any]:
            orders = [1, int(work["processes"])]
            found = {n: build(n) for n in (orders if work["round"] % 2 else orders[::-1])}
            start = time.perf_counter()
            for split in shards.SPLITS:
                decoded(card, split)
            return {
                "one": found[orders[0]],
                "all": found[orders[1]],
                "open": time.perf_counter() - start,
                "pictures": sum(card.rows.values()),
            }

        return timed

    return run
