"""JSON files that notice when they were changed: manifests, cards, what was once worked out.

In: fields. Out: a file that holds them and a SHA-256 over them. The guarantee: what `read` returns
is what `write` was given. The price: such a file cannot be edited by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.data import shards
from harness.experiment import digest

MAX_BYTES = 256 * 2**20
"""Beyond, a file of that name is something else, and reading it would fill the memory."""


class Broken(ValueError):
    """Why a file is not what was written; the caller knows what it was to be."""


def write(path: Path, fields: Mapping[str, Any]) -> None:
    """Writes `fields`, whole or not at all; what is not JSON is written as its text.

    Raises:
        ResourceError: it cannot be written.
    """
    plain = json.loads(json.dumps(fields, default=str))
    with shards.whole_or_nothing(path) as partial:
        text = json.dumps({**plain, "seal": digest(plain)}, indent=1)
        partial.write_text(text + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """The fields that were written.

    Raises:
        Broken: the file is damaged, or was not written by `write`.
        OSError: it is not there or may not be read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise Broken("it is far too large")
    try:
        fields = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise Broken("it is not JSON") from None
    if not isinstance(fields, dict) or "seal" not in fields:
        raise Broken("it carries no checksum")
    seal = fields.pop("seal")
    try:
        matches = digest(fields) == seal
    except (ValueError, RecursionError):  # not a number, which Python's reader lets through
        matches = False
    if not matches:
        raise Broken("it does not match its own checksum")
    return fields
