"""`harness doctor`: looks at store, data, versions, device, disk and unfinished work."""

from __future__ import annotations

import click

from harness.commands.opening import say
from harness.doctor import Finding, examine
from harness.errors import HarnessError
from harness.listing import field
from harness.project import Project

WORDS = {"ok": "ok", "note": "note", "problem": "PROBLEM"}


class Unwell(HarnessError):
    """Something is wrong; the exit code is that of a command that would meet it."""


def doctor(project: Project, fix: bool, width: int) -> None:
    """Prints what it finds; with `fix` puts right what it can.

    Raises:
        Unwell: something is wrong still.
    """
    left: list[Finding] = []
    for finding in examine(project):
        say(field(WORDS[finding.level], f"{finding.about}: {finding.text}", width))
        if fix and finding.mend is not None:
            say(field("", f"fixed: {finding.mend()}", width))
            continue
        if finding.fix:
            say(field("", f"-> {finding.fix}", width))
        if finding.level == "problem":
            left.append(finding)
    if left:
        problems = f"{len(left)} problem{'s' * (len(left) > 1)}"
        error = Unwell(f"{problems}: {', '.join(dict.fromkeys(each.about for each in left))}")
        error.exit_code = next((each.exit_code for each in left if each.exit_code), 1)
        raise error
    click.echo("all is well")
    click.echo("  to read every file: harness verify NAME, harness data check NAME")
