"""How long a step of training waits for a tracking server that hangs."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forked import copy_of, exit_code, start
from serving import Server

from harness.project import Project

EPOCHS = ("--epochs", "3")


def pauses(template: Project, folder: Path, command: tuple[str, ...]) -> dict[str, Any]:
    """The longest times between two steps, with the store here and with a server that hangs.

    `command` has to train in the process that records, as it does with a loader that has workers.
    """
    command = (*command, *EPOCHS)
    gaps = {"store here": _gaps(copy_of(template, folder / "local"), command)}
    server = Server(folder / "server")
    server.start()
    os.environ.update(server.uri)
    frozen = copy_of(template, folder / "frozen")
    try:
        gaps["server hangs"] = _gaps(
            frozen,
            command,
            lambda: server.signal(signal.SIGSTOP),
            lambda: server.signal(signal.SIGCONT),
        )
    finally:
        for name in server.uri:
            os.environ.pop(name)
        server.kill()
    return {
        name: {
            "steps": len(each),
            "median_ms": round(1e3 * statistics.median(each), 2),
            "longest_ms": [round(1e3 * gap, 1) for gap in sorted(each)[-3:]],
        }
        for name, each in gaps.items()
    }


def _gaps(
    project: Project,
    command: tuple[str, ...],
    disturb: Callable[[], object] = lambda: None,
    end: Callable[[], object] = lambda: None,
) -> list[float]:
    """Seconds between the ends of consecutive steps of the same epoch.

    `disturb` is called when training has begun, `end` when nearly every cell is trained.
    """
    times = project.root / "times"

    def note_times() -> None:
        from harness.training import epoch

        step, file = epoch.batched_step, times.open("a", buffering=1)

        def timed(stack: Any, *rows: Any) -> Any:
            given = step(stack, *rows)
            number = stack.step // stack.steps_per_epoch
            file.write(f"{id(stack)} {number} {time.perf_counter()}\n")
            return given

        epoch.batched_step = timed

    child = start(project, command, note_times)
    disturbed = False
    while (code := exit_code(child)) is None:
        if not disturbed and times.exists() and times.stat().st_size > 4000:
            disturb()
            disturbed = True
        if disturbed and len(list((project.runs_dir / "work").glob("*/outcome.json"))) >= 20:
            end()
        time.sleep(0.05)
    end()
    assert code == 0, (project.root / "output").read_text()
    lines = [line.split() for line in times.read_text().splitlines()]
    return [
        float(now[2]) - float(before[2])
        for before, now in itertools.pairwise(lines)
        if before[:2] == now[:2]
    ]
