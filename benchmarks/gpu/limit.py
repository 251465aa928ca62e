"""What a step of a stack needs at least, and the rates at which this device does it.

For K cells with S distinct seeds, B rows, layers of widths w_0 .. w_L, P = sum w_i w_(i+1):

    operations = K 2 B (3 P - w_0 w_1)   forward, gradient of the weights; gradient of the inputs
                                         for every layer but the first
    bytes      = K 4 9 P                 each weight read by the forward pass, its gradient written;
                                         Adam reads four numbers and writes three
               + K 8 B w_0               rows read twice: forward, gradient of the weights
               + S 5 B w_0               rows gathered: one byte read, a float32 written
               + K 4 a B A               A activations of a row and their gradients, written once
                                         and read once, of a = 4 bytes (2 in bf16)
    seconds    = the larger of operations / rate and bytes / bandwidth

A is three for each hidden unit (product, norm, activation) and one for each output. The rate is
that of one large matrix product in the same precision, the bandwidth that of a copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

from benchmarks.ablation import limit as ablation_limit
from benchmarks.gpu.subject import digits, synchroniser

ADAM_NUMBERS = 9
"""Numbers of four bytes that a weight's step moves."""


def operations(widths: Sequence[int], rows: int, cells: int) -> int:
    """Of one step of the stack: two for each multiplication and addition."""
    return cells * ablation_limit.operations(widths, rows)


def moved_bytes(
    widths: Sequence[int], rows: int, cells: int, seeds: int, precision: str = "fp32"
) -> int:
    """Of one step of the stack."""
    weights = sum(width * outputs for width, outputs in pairwise(widths))
    activations = 3 * sum(widths[1:-1]) + widths[-1]
    each = 2 if precision == "bf16" else 4
    one = 4 * ADAM_NUMBERS * weights + 8 * rows * widths[0] + 4 * each * rows * activations
    return cells * one + seeds * 5 * rows * widths[0]


def limit_seconds(operations: float, moved: float, rate: float, bandwidth: float) -> float:
    """The least time for a step."""
    return max(operations / rate, moved / bandwidth)


def product_rate(device: str, precision: str, side: int, repeats: int) -> Callable[[], float]:
    """What measures operations per second of a large matrix product.

    The caller has set the device's precision: tf32 is a mode, bf16 a type.
    """
    import torch

    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right, out = (torch.randn(side, side, device=device).to(kind) for _ in range(3))
    seconds = _timed(device, lambda: torch.mm(left, right, out=out), repeats)
    return lambda: digits(2 * side**3 / seconds())


def copy_bandwidth(device: str, size: int, repeats: int) -> Callable[[], float]:
    """What measures bytes per second of a copy on the device: each is read and written."""
    import torch

    source = torch.zeros(size // 4, device=device)
    target = torch.empty_like(source)
    seconds = _timed(device, lambda: target.copy_(source), repeats)
    return lambda: digits(2 * source.nbytes / seconds())


def _timed(device: str, call: Callable[[], object], repeats: int) -> Callable[[], float]:
    """What measures seconds of one call."""
    wait = synchroniser(device)

    def seconds() -> float:
        call()
        wait()
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        wait()
        return (time.perf_counter() - start) / repeats

    return seconds
