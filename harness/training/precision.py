"""The precision of matrix products and convolutions: fp32, tf32 or bf16.

In: the setting `precision` and a device. Out: a context for a forward pass. Weights, statistics of
norms, losses and optimizer state are float32 in all three. tf32 keeps the range of float32 and 10
bits of its 23, and is a matter of the device's settings; bf16 is torch's autocast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from harness.errors import ConfigError


def products_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Forward passes inside have their products in this precision, and their backward passes."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextmanager
def device_precision(precision: str) -> Iterator[None]:
    """Allows tf32 on a GPU inside, and forbids it for every other precision.

    torch allows it for convolutions unless told otherwise; here fp32 means fp32.
    """
    products, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(products)
        torch.backends.cudnn.allow_tf32 = convolutions


def check(precisions: Iterable[str], device: str) -> None:
    """Stops where a precision means nothing on a device.

    Raises:
        ConfigError: tf32 on a CPU, or bf16 on a GPU that has none.
    """
    asked = set(precisions)
    if "tf32" in asked and device == "cpu":
        raise ConfigError(
            "precision tf32 is a mode of NVIDIA GPUs, and this run is on the processor",
            "use --set precision=fp32, or bf16, which a processor can do too, slowly",
        )
    if "bf16" in asked and device == "cuda" and not torch.cuda.is_bf16_supported():
        raise ConfigError(
            "this GPU has no bf16 arithmetic", "use --set precision=fp32, or tf32 on newer ones"
        )
