"""Arms in processes of their own, kept alive between rounds, one at work at a time.

In: arms by name, each as `module:function` (it prepares the arm and returns what runs a round), and
the rounds' work.
Out: the figures of each round and arm, as they come. Starting up (imports, first use of a store, a
warm-up) happens in `prepare`, before the first round; nothing of it is in a figure. The order of
arms moves on by one each round, so that a machine that slows down is no arm's misfortune.

Every figure gets `seconds` (wall) and `cpu_seconds` (of that process and those it
started and saw end, all threads).
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

Work = Mapping[str, Any]
Timed = Callable[[], dict[str, Any]]
Run = Callable[[Work], Timed]
"""Makes ready for a round, untimed, and returns what is timed: it gives the figures."""
Prepare = Callable[[Path], Run]
"""Starts an arm up in an empty folder of its own. Named, so that only its process imports it."""


class ArmFailedError(RuntimeError):
    """An arm raised, or its process ended; the message holds its traceback."""


def interleave(
    arms: Mapping[str, str], work: Sequence[Work], folder: Path
) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Runs every arm on every piece of work; yields round (from zero), arm and figures.

    Raises:
        ArmFailedError: an arm could not start or failed.
    """
    with _processes(arms, folder) as lines:
        names = list(arms)
        for number, piece in enumerate(work):
            start = number % len(names)
            for name in (*names[start:], *names[:start]):
                lines[name].send(dict(piece))
                yield number, name, _answer(name, lines[name])


@contextmanager
def _processes(arms: Mapping[str, str], folder: Path) -> Iterator[dict[str, Connection]]:
    # spawned, not forked: an arm must not inherit another's imports or threads
    context = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    started: list[BaseProcess] = []
    try:
        for name, place in arms.items():
            ours, theirs = context.Pipe()
            own = folder / name
            own.mkdir(parents=True)
            process: BaseProcess = context.Process(
                target=_serve, args=(place, own, theirs), daemon=False
            )
            process.start()
            theirs.close()
            started.append(process)
            lines[name] = ours
            _answer(name, ours)  # ready; one after another, so that none starts beside another
        yield lines
    finally:
        for line in lines.values():
            line.close()
        for process in started:
            process.join(timeout=10)
            process.terminate()


def _answer(name: str, line: Connection) -> dict[str, Any]:
    try:
        kind, answer = line.recv()
    except EOFError:
        raise ArmFailedError(f"the process of arm {name} ended") from None
    if kind == "failed":
        raise ArmFailedError(f"arm {name} failed\n{answer}")
    found: dict[str, Any] = answer
    return found


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _serve(place: str, folder: Path, line: Connection) -> None:
    try:
        module, _, function = place.partition(":")
        prepare: Prepare = getattr(importlib.import_module(module), function)
        run = prepare(folder)
        line.send(("ready", {}))
        while True:
            timed = run(line.recv())
            wall, cpu = time.perf_counter(), _cpu_seconds()
            figures = timed()
            seconds = {
                "seconds": time.perf_counter() - wall,
                "cpu_seconds": _cpu_seconds() - cpu,
            }
            line.send(("done", {**figures, **seconds}))
    except (EOFError, KeyboardInterrupt):  # the parent has no more work
        return
    except Exception:
        line.send(("failed", traceback.format_exc()))
