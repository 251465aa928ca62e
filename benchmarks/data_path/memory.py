"""Peak memory of an arm, in processes of its own: `python -m benchmarks.data_path.memory ARM ...`.

What is counted is PSS, the resident memory of the process and all its descendants in which a page
that several share counts once in all, as /proc tells it every 20 ms. The baseline is the same
processes with everything imported and nothing read: this one, and for arms with workers the fork
server and as many idle workers. Prints JSON: MB, of 10^6 bytes. Linux only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.data_path import subject

EVERY_SECONDS = 0.02


def measure(arm: str, folder: Path, times: int, batches: int | None) -> dict[str, Any] | None:
    """Baseline and peak above it of an arm, of so many batches (None: of an epoch).

    None where the system has no /proc.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    command = [sys.executable, "-W", "ignore", "-m", __name__, arm, str(folder), str(times)]
    done = subprocess.run(
        [*command, str(batches or 0)], stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


class Idle:
    """A data set without data, for workers that only import."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, row: int) -> int:
        return row


class Watch:
    """The most memory that was seen while it was open, in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self.peak = max(self.peak, pss_bytes())  # what took no longer than a look

    def _look(self) -> None:
        while not self._end.wait(EVERY_SECONDS):
            self.peak = max(self.peak, pss_bytes())


def pss_bytes() -> int:
    """Of this process and its descendants."""
    return sum(_pss(pid) for pid in _family(os.getpid()))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has just ended
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def _family(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(encoding="ascii", errors="replace")
            except OSError:
                continue
            children.setdefault(int(status.rpartition(")")[2].split()[1]), []).append(
                int(entry.name)
            )
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


def main(arm: str, folder: str, times: str, batches: str) -> None:
    """Measures in this process."""
    import pyarrow.compute
    import pyarrow.parquet
    import torchvision.io
    from torch.utils.data import DataLoader

    from harness.data import workers as plumbing

    assert None not in (pyarrow.compute, pyarrow.parquet, torchvision.io)
    card = subject.open_card(Path(folder), int(times))
    way, _, count = arm.partition("-")
    workers = int(count or 0)
    idle = None
    if workers:
        context: Any = "fork" if way == "textbook" else plumbing._context()
        loader = DataLoader(
            Idle(),  # type: ignore[arg-type]
            num_workers=workers,
            multiprocessing_context=context,
            persistent_workers=True,
        )
        idle = iter(loader)
        list(idle)
        time.sleep(0.5)
    baseline = pss_bytes()
    if workers:
        del idle, loader
    opened: dict[str, Any] = {}
    with Watch() as watch:
        taken = 0
        for taken, _ in enumerate(subject.batches(arm, card, opened, 0), start=1):
            if taken == int(batches):
                break
    print(
        json.dumps(
            {
                "baseline_mb": round(baseline / 1e6, 1),
                "above_mb": round((watch.peak - baseline) / 1e6, 1),
                "batches": taken,
                "rows": card.rows["train"],
            }
        ),
        flush=True,
    )
    for each in opened.values():
        getattr(each, "close", lambda: None)()


if __name__ == "__main__":
    main(*sys.argv[1:])
