"""The state of a whole stack at a step, as a file.

In: a stack in training. Out: `epoch-00012-step-0000345.safetensors`: tensors, and as JSON in its
header which cells they are of and how they were computed. Beside it lies its SHA-256, in the format
of `sha256sum`. The sidecar is put in place first: a checkpoint that has none was never whole. The
last two are kept.

Nothing in the format can hold code. A file is used only if its checksum fits and its cells are the
ones that are asked for; of two, the older one serves where the newer is damaged.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import durable
from harness.config import TrainConfig
from harness.errors import IntegrityError
from harness.experiment import Cell
from harness.work.folders import STACK

if TYPE_CHECKING:
    from torch import Tensor

    from harness.training.epoch import EpochSoFar
    from harness.training.stack import Stack
    from harness.training.step import Executor

VERSION = 1
KEPT = 2
NAME = re.compile(r"epoch-(\d+)-step-(\d+)\.safetensors")
CODE_STARTS = (b"\x80", b"PK")
"""How pickles and torch's own files begin."""


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint: which cells, where they are, and how they got there.

    `epoch` is how many whole epochs they have behind them, `steps` how many of the next one (of the
    cell that is at work, in a looped stack), `seconds` how long those took.
    """

    path: Path
    cells: tuple[Cell, ...]
    names: tuple[str, ...]
    executor: Executor
    epoch: int
    steps: int
    step: int
    seconds: float
    dropout: bool
    environment: Mapping[str, Any]

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by name.

        Raises:
            IntegrityError: the file changed since it was opened.
        """
        import safetensors.torch

        return safetensors.torch.load(_sound(self.path))


def save(
    folder: Path,
    stack: Stack,
    names: Mapping[Cell, str],
    executor: Executor,
    epoch: int,
    within: EpochSoFar | None,
    environment: Mapping[str, Any],
) -> Path:
    """Keeps the stack as it is; `names` are those of the cells' folders. Returns the file.

    Raises:
        ResourceError: it cannot be written. The earlier ones stay.
    """
    import safetensors.torch

    steps = within.steps if within else 0
    tensors = {f"stack.{name}": tensor for name, tensor in stack.tensors().items()}
    if within is not None:
        tensors |= {f"within.{name}": tensor for name, tensor in within.tensors().items()}
    about = {
        "version": VERSION,
        "executor": executor,
        "epoch": epoch,
        "steps": steps,
        "step": stack.step,
        "seconds": within.seconds if within else 0.0,
        "dropout": bool(stack.noise),
        "cells": [described(cell, names[cell]) for cell in stack.cells],
        "environment": dict(environment),
    }
    content = safetensors.torch.save(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()},
        {"harness": json.dumps(about)},
    )
    done = stack.step + (steps if executor == "looped" else 0)
    path = folder / f"epoch-{epoch:05d}-step-{done:07d}.safetensors"
    with durable.writing(path):
        folder.mkdir(parents=True, exist_ok=True)
    durable.write_whole(_sidecar(path), f"{_sha256(content)}  {path.name}\n".encode())
    durable.write_whole(path, content)
    for old in files(folder)[KEPT:]:
        _remove(old)
    return path


def plan(folder: Path, names: Mapping[Cell, str]) -> None:
    """Says which cells train together, before they do: so they will whenever they go on.

    Raises:
        ResourceError: it cannot be written.
    """
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    cells = [described(cell, name) for cell, name in names.items()]
    durable.write_json(folder / STACK, {"cells": cells})


def planned(folder: Path) -> dict[str, Cell] | None:
    """The cells of a stack by the names of their folders; None where it does not say."""
    try:
        return {each["name"]: cell_of(each) for each in durable.read_json(folder / STACK)["cells"]}
    except (OSError, IntegrityError, KeyError, TypeError, ValueError):
        return None


def forget(folder: Path) -> None:
    """Removes a stack's checkpoints; the newest last: a kill in between leaves a usable one."""
    for path in reversed(files(folder)):
        _remove(path)


def clear(folder: Path) -> None:
    """Removes a stack's files and its folder."""
    forget(folder)
    with suppress(FileNotFoundError):  # another process may be tidying up as well
        for path in folder.iterdir():  # a kill may have left a checksum without its file
            path.unlink(missing_ok=True)
        folder.rmdir()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _sidecar(path).unlink(missing_ok=True)


def files(folder: Path) -> list[Path]:
    """The checkpoints of a stack, the newest first."""
    found = [path for path in folder.glob("*.safetensors") if NAME.fullmatch(path.name)]
    return sorted(found, key=_place, reverse=True)


def epoch_of(path: Path) -> int:
    """How many whole epochs a checkpoint has behind it, by its name."""
    return _place(path)[0]


def newest(folder: Path) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and a sentence for each that is not.

    Raises:
        IntegrityError: none is, or one is not what harness writes.
        FileNotFoundError: there is none.
    """
    damaged: list[str] = []
    for path in files(folder):
        try:
            return open_checkpoint(path), damaged
        except _Damaged as error:
            damaged.append(error.message)
    if not damaged:
        raise FileNotFoundError(folder)
    raise IntegrityError(
        f"no checkpoint in {folder} can be used",
        *damaged,
        "begin these cells anew: the same command with --restart",
    )


def open_checkpoint(path: Path) -> Checkpoint:
    """What a checkpoint says of itself, after its checksum was found to fit.

    Raises:
        IntegrityError: it is damaged, or not what harness writes, or of a newer harness.
    """
    about = _about(_sound(path), path)
    if about.get("version") != VERSION:
        raise IntegrityError(
            f"{path} was written by another harness (format {about.get('version')}, not {VERSION})",
            "go on with the harness that wrote it, or begin these cells anew: --restart",
        )
    try:
        return Checkpoint(
            path=path,
            cells=tuple(map(cell_of, about["cells"])),
            names=tuple(each["name"] for each in about["cells"]),
            executor=about["executor"],
            epoch=about["epoch"],
            steps=about["steps"],
            step=about["step"],
            seconds=about["seconds"],
            dropout=about["dropout"],
            environment=about["environment"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _Damaged(f"{path} lacks what a checkpoint says of itself ({error})") from None


def described(cell: Cell, name: str) -> dict[str, Any]:
    """A cell as plain JSON, with the name of its folder."""
    return {
        "name": name,
        "variant": cell.variant,
        "seed": cell.seed,
        "fingerprint": cell.fingerprint,
        "config": cell.config.model_dump_json(),
    }


def cell_of(record: Mapping[str, Any]) -> Cell:
    """The cell that `described` described."""
    config = TrainConfig.model_validate_json(record["config"])
    return Cell(record["variant"], record["seed"], config, record["fingerprint"])


class _Damaged(IntegrityError):
    """A checkpoint of which an older one may take the place."""


def _sound(path: Path) -> bytes:
    """The bytes of a checkpoint whose checksum fits."""
    content = path.read_bytes()
    if content.startswith(CODE_STARTS) and content[8:9] != b"{":
        raise IntegrityError(
            f"{path} is a pickle, which can contain code: refused, and nothing of it was run",
            "checkpoints of harness are safetensors; remove this file if you did not put it there",
        )
    try:
        stated = _sidecar(path).read_text(encoding="utf-8").split()[:1]
    except (OSError, UnicodeDecodeError):
        stated = []
    if not content:
        problem = "is empty (0 bytes)"
    elif content.lstrip()[:1] == b"<":
        problem = "is a web page, not a checkpoint"
    elif not stated:
        problem = "has no readable checksum beside it"
    elif [_sha256(content)] != stated:
        problem = "is damaged: it is not what its checksum says"
    else:
        return content
    raise _Damaged(f"{path} {problem}")


def _about(content: bytes, path: Path) -> dict[str, Any]:
    """The JSON in the header of a safetensors file: 8 bytes of length, then an object."""
    try:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        about = json.loads(header["__metadata__"]["harness"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _Damaged(f"{path} is no checkpoint of harness") from None
    if not isinstance(about, dict):
        raise _Damaged(f"{path} is no checkpoint of harness")
    return about


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _place(path: Path) -> tuple[int, int]:
    found = NAME.fullmatch(path.name)
    assert found is not None
    return int(found[1]), int(found[2])


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def differing(found_in: Checkpoint, asked: Mapping[str, Cell]) -> list[str]:
    """Settings in which the cells of a checkpoint differ from those that are asked for."""
    found: dict[str, None] = {}
    for cell, name in zip(found_in.cells, found_in.names, strict=True):
        wanted = asked.get(name)
        if wanted is not None and (cell.config, cell.seed) != (wanted.config, wanted.seed):
            before, now = cell.config.flat(), wanted.config.flat()
            for key in {**before, **now}:
                if before.get(key) != now.get(key):
                    found[f"{key}: {before.get(key)} there, {now.get(key)} here"] = None
            if cell.seed != wanted.seed:
                found[f"seed: {cell.seed} there, {wanted.seed} here"] = None
    return list(found)
