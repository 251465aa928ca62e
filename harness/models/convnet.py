"""ConvNet: blocks of Conv -> norm -> activation -> MaxPool -> dropout, then a mean and a Linear.

Convolutions have kernels of 3 along each axis and keep the size of the image; pooling halves it
while every side has two pixels or more. What is left is averaged over positions, so that an image
of any size ends as one number for each channel. Images (C, H, W) are convolved in two dimensions,
volumes (C, D, H, W) in three.

As in `mlp`, whatever may differ between cells of a stack or between steps is a buffer.

Shapes: B rows; input (B, C, *spatial), output (B, outputs), raw logits or values.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from harness import config
from harness.errors import ConfigError
from harness.models.mlp import ACTIVATIONS, Dropout
from harness.models.norms import HAS_SHIFT, NORMS

CONVS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
POOLS: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class ConvBlock(nn.Module):
    """Conv -> norm -> activation -> MaxPool -> dropout, for inputs of one shape.

    `out_shape` is that of a row of its output.
    """

    def __init__(
        self, in_shape: Sequence[int], channels: int, settings: config.ConvNet, dropout: bool
    ) -> None:
        super().__init__()
        before, *sides = in_shape
        axes, pooled = len(sides), min(sides) > 1
        self.out_shape = (channels, *(side // 2 if pooled else side for side in sides))
        bias = not HAS_SHIFT[settings.norm]
        self.conv = CONVS[axes](before, channels, kernel_size=3, padding=1, bias=bias)
        self.norm = NORMS[settings.norm](channels, axes)
        self.activation = ACTIVATIONS[settings.activation]()
        self.pool = POOLS[axes](2) if pooled else nn.Identity()
        self.dropout = Dropout(settings.dropout, self.out_shape) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, *in_shape) -> (B, *out_shape)."""
        # what comes of an image of one channel has forgotten the order it was given in
        x = channels_innermost(self.conv(x))
        out: Tensor = self.dropout(self.pool(self.activation(self.norm(x))))
        return out


class ConvNet(nn.Module):
    """The model of the registry; see the module's docstring.

    `dropout` builds the dropout layers even where this cell's rate is zero, because a neighbour in
    the stack has one above zero; by default they are there when `settings.dropout` is.

    Raises:
        ConfigError: the inputs are neither images nor volumes.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        settings: config.ConvNet,
        dropout: bool | None = None,
    ) -> None:
        super().__init__()
        if len(input_shape) not in (3, 4):
            raise ConfigError(
                f"a convnet needs images, and inputs here have shape {tuple(input_shape)}",
                "valid: (channels, height, width) or (channels, depth, height, width)",
                "for other inputs: --set model=mlp",
            )
        has_dropout = settings.dropout > 0 if dropout is None else dropout
        blocks, shape = [], tuple(input_shape)
        for channels in settings.channels:
            blocks.append(ConvBlock(shape, channels, settings, has_dropout))
            shape = blocks[-1].out_shape
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(shape[0], outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *spatial) float -> (B, outputs) float."""
        x = channels_innermost(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(x.flatten(2).mean(2))
        return out


def channels_innermost(x: Tensor) -> Tensor:
    """The same (B, C, *spatial), with channels innermost in memory.

    On a CPU pooling takes a quarter of the time in that order, a whole step two thirds.
    """
    # `contiguous(memory_format=...)` says the same, and is not known to vmap
    return x.movedim(1, -1).contiguous().movedim(-1, 1)
