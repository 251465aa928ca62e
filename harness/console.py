"""Progress: bars on a terminal, plain lines where output goes to a file or a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from harness.listing import field

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from harness.cells import Progress


class TrainingDisplay:
    """One line per stack. On a terminal it fills as epochs pass; elsewhere it is printed at the
    end, and every `line_seconds` while a stack is at work.
    """

    line_seconds = 15.0

    def __init__(self, label_width: int, width: int = 80) -> None:
        self.label_width, self.width = label_width, width
        self.bars: Bars | None = _bars() if sys.stdout.isatty() else None
        self.tasks: dict[str, TaskID] = {}
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bars:
            self.bars.stop()

    def show(self, at: Progress) -> None:
        """Shows an epoch of a stack."""
        if self.bars:
            self._bar(self.bars, at)
            return
        now = time.monotonic()
        if at.epoch == 0:
            self.last_line = now
        if at.epoch == at.epochs or now - self.last_line > self.line_seconds:
            click.echo(f"  {self._text(at)}  {at.epoch}/{at.epochs}  {_speed(at)}")
            self.last_line = now

    def preparing(self, what: str, done: int, total: int) -> None:
        """Shows work on the data before training."""
        if self.bars:
            if what not in self.tasks:
                self.tasks[what] = self.bars.add_task(what, total=total, speed="")
            self.bars.update(self.tasks[what], completed=done, total=total)
        elif done >= total or time.monotonic() - self.last_line > self.line_seconds:
            click.echo(f"  {what}  {done:,}/{total:,}")
            self.last_line = time.monotonic()

    def note(self, text: str) -> None:
        """Shows something that a person should know."""
        for line in field("note", text, self.width):
            if self.bars:
                self.bars.console.print(line, markup=False, highlight=False)
            else:
                click.echo(line)

    def _bar(self, bars: Bars, at: Progress) -> None:
        text = self._text(at)
        if at.epoch == 0 or text not in self.tasks:
            self.tasks[text] = bars.add_task(text, total=at.epochs, speed="")
        bars.update(self.tasks[text], completed=at.epoch, speed=_speed(at))

    def _text(self, at: Progress) -> str:
        cells = f"{at.cells} cell{'s' * (at.cells > 1)}"
        return f"{at.label:<{self.label_width}}  {cells:<8}  {at.executor:<7}"


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for what is counted, on a terminal; nothing elsewhere."""
    if not sys.stdout.isatty():
        yield lambda done, total: None
        return
    with _bars() as bars:
        task = bars.add_task(what, speed="")
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _speed(at: Progress) -> str:
    gone = f"  {at.diverged} diverged" if at.diverged else ""
    gone += f"  {at.stopped} stopped" if at.stopped else ""
    rate = f"{at.samples_per_second:>9,.0f} samples/s  " if at.epoch else ""
    value = f"{at.value:.3f}" if abs(at.value) < 1e4 else f"{at.value:.3g}"
    return f"{rate}{at.metric} {value}{gone}"


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("  {task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        console=Console(highlight=False),
    )
