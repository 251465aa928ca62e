"""Options that several commands have in common. Needs click alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from harness.project import Project


class Seeds(click.ParamType):  # type: ignore[type-arg] # not generic in older click
    """`8` means seeds 0 to 7; `0,3,7` means just those."""

    name = "N|LIST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A count, or a list of seeds."""
        if not isinstance(value, str):
            return value
        try:
            listed = [int(part) for part in value.split(",") if part.strip()]
        except ValueError:
            self.fail(f"{value!r} is not a count (8) or a list (0,3,7)", param, ctx)
        return listed[0] if "," not in value and listed else listed


SEEDS = Seeds()
SET = click.option(
    "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="Change a setting; repeatable."
)
DATA = click.option("--data", "data_name", metavar="NAME", help="Data set to run on.")
DEVICE = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
)

PRECISION = click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    help="Of matrix products [default: fp32].",
)


def care(command: Callable[..., None]) -> Callable[..., None]:
    """Options that say how unfinished work is kept, shared and gone on with, as one `care`."""

    @wraps(command)
    def with_care(
        *given: Any,
        restart: bool,
        no_wait: bool,
        save_every: float | None,
        force: bool,
        require_tracking: bool,
        allow_nondeterministic: bool,
        **named: Any,
    ) -> None:
        from harness.commands.opening import Care

        care = Care(
            save_every, restart, not no_wait, force, require_tracking, allow_nondeterministic
        )
        command(*given, care=care, **named)

    for option in reversed(CARE):
        with_care = option(with_care)
    return with_care


CARE = (
    click.option("--restart", is_flag=True, help="Begin unfinished cells anew."),
    click.option("--no-wait", is_flag=True, help="Do not wait for cells another process trains."),
    click.option(
        "--save-every",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Keep the state of training so often; 0: after every step [default: 5, and never "
        "more than a fiftieth of the time].",
    ),
    click.option("--force", is_flag=True, help="Train even if the disk looks too full."),
    click.option(
        "--allow-nondeterministic",
        is_flag=True,
        help="Allow kernels that do not give the same bits every time.",
    ),
    click.option(
        "--require-tracking", is_flag=True, help="Stop when results cannot be put on record."
    ),
)


def project_here() -> Project:
    """The project that the current folder is in."""
    from harness.project import find_project

    return find_project()


def settings_of(assignments: tuple[str, ...]) -> dict[str, Any]:
    """What `--set` was given, by dotted key."""
    from harness.config import parse_assignment

    return dict(parse_assignment(text) for text in assignments)


def terminal_width() -> int:
    """Columns to write in."""
    import shutil

    return max(40, min(shutil.get_terminal_size((80, 24)).columns, 120))
