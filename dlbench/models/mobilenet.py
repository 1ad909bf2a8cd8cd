"""MobileNetV2 for small images."""

from __future__ import annotations

from typing import ClassVar

import flax.linen as nn
import jax

from dlbench.errors import InputError
from dlbench.models.layers import BatchNorm, Conv, Dense, global_average
from dlbench.spec.registry import MODELS


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, 3x3 depthwise convolution, 1x1 convolution to few channels; a shortcut.

    There is a shortcut where the stride is 1: a 1x1 convolution with batch norm where the number of channels changes,
    and the input itself elsewhere. [N, H, W, C] → [N, H', W', features].
    """

    expansion: int
    features: int
    strides: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Apply the block."""
        wide = self.expansion * x.shape[-1]
        y = nn.relu(BatchNorm(wide)(Conv(wide, 1)(x), train))
        y = nn.relu(BatchNorm(wide)(Conv(wide, strides=self.strides, depthwise=True)(y), train))
        y = BatchNorm(self.features)(Conv(self.features, 1)(y), train)
        if self.strides != 1:
            return y
        if x.shape[-1] != self.features:
            x = BatchNorm(self.features)(Conv(self.features, 1)(x), train)
        return x + y


@MODELS.register("MobileNetV2", aliases=("MobileNet",), ranges={"width": "(0, 64]"})
class MobileNetV2(nn.Module):
    """Seventeen inverted residual blocks of depthwise convolutions, for small images.

    The version that is usual for CIFAR: the first convolution and the second stage keep the size of the images,
    activations are ReLU instead of ReLU6, and blocks that change the number of channels alone have a shortcut too. It
    starts as PyTorch's layers do.

    References: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", 2018; for CIFAR as in
    kuangliu/pytorch-cifar.

    Args:
        num_classes: number of logits.
        width: multiplies the numbers of channels, which are then rounded to multiples of 8, by 10 % down at most; below
            1, the last convolution keeps its 1280, as in the paper.
    """

    num_classes: int = 10
    width: float = 1.0
    #: Expansion, output channels, number of blocks, and stride of the first block, of each stage.
    stages: ClassVar[tuple[tuple[int, int, int, int], ...]] = (
        (1, 16, 1, 1),
        (6, 24, 2, 1),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: the width is not positive.
        """
        if not self.width > 0:
            raise InputError.must_be("model.width", "greater than 0", self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        first, last = _scaled(32, self.width), _scaled(1280, max(1.0, self.width))
        x = nn.relu(BatchNorm(first)(Conv(first)(x), train))
        for expansion, features, count, strides in self.stages:
            for number in range(count):
                block = InvertedResidual(expansion, _scaled(features, self.width), 1 if number else strides)
                x = block(x, train)
        x = nn.relu(BatchNorm(last)(Conv(last, 1)(x), train))
        return Dense(self.num_classes)(global_average(x))


def _scaled(channels: int, width: float) -> int:
    """A number of channels times the width, as a multiple of 8 that is at most 10 % smaller."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8
