"""From stored rows to tensors: PNG bytes to pixels, numbers to standardised features, targets.

In: what a Parquet column holds. Out: *raw* inputs (images uint8 in [0, 255], tables float32) and
encoded targets, and from those the final `Batch`. All loaders share these functions, elementwise
and in one order of operations, which is why their batches agree to the bit.

An image is verified before torchvision sees it: its header against the size that is expected (so
that a bomb is never unpacked), its checksums, its compressed stream, its filters. libpng as
torchvision builds it ends the whole process on a damaged stream instead of raising. The price is
one extra inflate, about a quarter of the decoding time.

Legend: B rows, C channels, H height, W width, F features.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.data.parquet import Card

Batch = tuple[Tensor, Tensor]
"""Inputs float32 (B, *input_shape); targets int64 (B,) or float32 (B, 1)."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_PIXELS = 1024 * 1024
CHANNELS_STORED = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG colour type
CHANNELS_DECODED = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # alpha is dropped, a palette becomes RGB
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")  # what the picture is made of
KNOWN_STARTS = {b"\xff\xd8\xff": "a JPEG", b"GIF8": "a GIF", b"RIFF": "a WebP", b"II*": "a TIFF"}


class BadImage(ValueError):
    """Why an image cannot be used; the caller knows which row it is."""


def png_shape(data: bytes) -> tuple[int, int, int]:
    """(C, H, W) that decoding gives, from the header alone.

    Raises:
        BadImage: not a PNG, or of a kind that is not read.
    """
    if data[:8] != SIGNATURE or len(data) < 33 or data[12:16] != b"IHDR":
        kind = next((what for start, what in KNOWN_STARTS.items() if data.startswith(start)), "")
        raise BadImage(
            "is empty" if not data else f"is {kind}, not a PNG" if kind else "is not a PNG"
        )
    width, height, bits, colour, *methods, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if not 0 < width * height <= MAX_PIXELS:
        raise BadImage(f"says it is {width}x{height} pixels; at most {MAX_PIXELS:,} are read")
    if colour not in CHANNELS_DECODED or bits > 8 or interlaced or any(methods):
        raise BadImage(
            f"is a PNG of {bits} bits, colour type {colour}{', interlaced' if interlaced else ''}; "
            "valid are up to 8 bits a channel, not interlaced"
        )
    return CHANNELS_DECODED[colour], height, width


def verified_png(data: bytes, shape: tuple[int, ...]) -> bytes:
    """`data` with only the pixels left, after all that a decoder relies on was checked.

    Raises:
        BadImage: damaged, or not of `shape` (C, H, W).
    """
    found = png_shape(data)
    if found != tuple(shape):
        raise BadImage(f"is {_describe(found)}; the others are {_describe(shape)}")
    kept, pixels, position, kind = [SIGNATURE], [], 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            raise BadImage("is cut short")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise BadImage("is damaged (checksum mismatch)")
        if kind == b"IDAT":
            pixels.append(data[position + 8 : end - 4])
        if (kind == b"IHDR") != (position == 8) or (kind[:1].isupper() and kind not in CRITICAL):
            raise BadImage("is damaged (an unknown or misplaced part)")
        if kind in CRITICAL:
            kept.append(data[position:end])
        position = end
    _check_pixels(b"".join(pixels), data, shape)
    # harmless extras go: their parsers are one more thing that can end the process
    return data if len(b"".join(kept)) == len(data) else b"".join(kept)


def decode_png(data: bytes, shape: tuple[int, ...]) -> Tensor:
    """Pixels, uint8 `shape` = (C, H, W) in [0, 255].

    Raises:
        BadImage: damaged, or of another shape.
    """
    return _unpacked(_checked(data, shape), _decoder(shape))


def decode_images(
    blobs: Sequence[bytes | None],
    shape: tuple[int, ...],
    where: Callable[[int], str],
    out: Tensor | None = None,
) -> Tensor:
    """Pixels of many images, uint8 (B, C, H, W), `out` if given. `where(i)` says which file and
    row image i is.

    Raises:
        DataError: one is missing, damaged or of another size; the first such row is named.
    """
    pixels = torch.empty((len(blobs), *shape), dtype=torch.uint8) if out is None else out
    # numpy copies in this thread; torch would start threads of its own for it
    target, decoder = pixels.numpy(), _decoder(shape)
    # checked by the dozen, then decoded: each half's code and tables stay in the CPU's caches
    step = max(1, min(IMAGES_AT_ONCE, BYTES_AT_ONCE // math.prod(shape)))
    for start in range(0, len(blobs), step):
        encoded: list[Tensor] = []
        problem: BadImage | None = None
        for blob in blobs[start : start + step]:
            try:
                encoded.append(_checked(blob, shape))
            except BadImage as found:
                problem = found
                break  # those before it may hold what only decoding finds
        for row, each in enumerate(encoded, start):
            try:
                target[row] = _unpacked(each, decoder).numpy()
            except BadImage as found:
                raise _bad_row(where(row), found) from None
        if problem is not None:
            raise _bad_row(where(start + len(encoded)), problem) from None
    return pixels


IMAGES_AT_ONCE = 64
BYTES_AT_ONCE = 4 * 2**20


def _bad_row(place: str, problem: BadImage) -> DataError:
    return DataError(
        f"the image in {place} {problem}",
        "replace or remove that row; every image of a data set is one PNG of one size",
    )


def _checked(blob: bytes | None, shape: tuple[int, ...]) -> Tensor:
    if blob is None:
        raise BadImage("is missing (null)")
    # a bytearray is writable, which spares torch's warning about the read-only kind
    return torch.frombuffer(bytearray(verified_png(blob, shape)), dtype=torch.uint8)


def _decoder(shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
    # torchvision takes seconds to import, and a process with a decoded cache never needs it
    from torchvision.io import ImageReadMode, decode_png

    mode = ImageReadMode.GRAY if shape[0] == 1 else ImageReadMode.RGB
    return partial(decode_png, mode=mode)


def _unpacked(encoded: Tensor, decoder: Callable[[Tensor], Tensor]) -> Tensor:
    try:
        return decoder(encoded)
    except RuntimeError:
        raise BadImage("cannot be decoded") from None


def standardise(features: NDArray[np.float64], card: Card) -> Tensor:
    """Table features (B, F) float64 to float32 with the training file's mean 0 and deviation 1."""
    scaled = (features - np.array(card.feature_mean)) / np.array(card.feature_sd)
    return torch.from_numpy(scaled.astype(np.float32))


def encode_targets(raw: NDArray[Any], card: Card) -> Tensor:
    """Stored targets (B,) to what a loss takes: int64 (B,) classes, else float32 (B, 1).

    Binary targets stay 0 and 1; regression targets become (y - center) / scale.
    """
    if card.task == "classification":
        return torch.from_numpy(raw.astype(np.int64))
    scaled = (raw.astype(np.float64) - card.target_center) / card.target_scale
    return torch.from_numpy(scaled.astype(np.float32)).unsqueeze(1)


def to_inputs(raw: Tensor, out: Tensor | None = None) -> Tensor:
    """Raw inputs to float32: uint8 pixels times 1/255, features as they are; `out` is filled."""
    if raw.dtype != torch.uint8:
        return raw if out is None else out.copy_(raw)
    # two passes, and not torch.mul(raw, 1 / 255, out=out): the mixed types make that 5 times slower
    inputs = raw.to(torch.float32) if out is None else out.copy_(raw)
    return inputs.mul_(1 / 255)


def _check_pixels(compressed: bytes, data: bytes, shape: tuple[int, ...]) -> None:
    bits, colour = data[24], data[25]
    row_bytes = 1 + (shape[2] * CHANNELS_STORED[colour] * bits + 7) // 8
    expected = row_bytes * shape[1]
    unpacker = zlib.decompressobj()
    try:
        rows = unpacker.decompress(compressed, expected + 1)
    except zlib.error:
        raise BadImage("is damaged (its pixels cannot be unpacked)") from None
    if len(rows) != expected or not unpacker.eof:
        raise BadImage("is damaged (too few or too many pixels)")
    if max(rows[::row_bytes]) > 4:
        raise BadImage("is damaged (unknown row filter)")


def _describe(shape: Sequence[int]) -> str:
    return f"{shape[2]}x{shape[1]} {'grey' if shape[0] == 1 else 'colour'}"
