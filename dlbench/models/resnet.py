"""Residual networks for small images: ResNet-18 and 34 without their first pooling, and the paper's for CIFAR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench.errors import InputError
from dlbench.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Initializer,
    check_at_least,
    global_average,
    kaiming_normal_fan_in,
    kaiming_normal_fan_out,
)
from dlbench.spec.registry import MODELS


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut, [N, H, W, C] → [N, H', W', features].

    Args:
        features: number of output channels.
        strides: of the first convolution.
        shortcut: how the input gets to another shape: "A" takes every ``strides``-th pixel and fills up the channels
            with zeros, half of them on each side; "B" is a 1x1 convolution with batch norm.
        kernel_init: how the convolutions start.
    """

    features: int
    strides: int
    shortcut: str
    kernel_init: Initializer

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Apply the block."""
        y = Conv(self.features, strides=self.strides, kernel_init=self.kernel_init)(x)
        y = nn.relu(BatchNorm(self.features)(y, train))
        y = BatchNorm(self.features)(Conv(self.features, kernel_init=self.kernel_init)(y), train)
        missing = self.features - x.shape[-1]
        if self.strides == 1 and not missing:
            return nn.relu(y + x)
        if self.shortcut == "A":
            x = x[:, :: self.strides, :: self.strides]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))
        else:
            x = Conv(self.features, 1, strides=self.strides, kernel_init=self.kernel_init)(x)
            x = BatchNorm(self.features)(x, train)
        return nn.relu(y + x)


def _features(
    x: jax.Array, train: bool, blocks: tuple[int, ...], width: int, shortcut: str, kernel_init: Initializer
) -> jax.Array:
    """The stages of a network, inside of a compact module: [N, H, W, C] → [N, features].

    Each stage but the first halves the sides and doubles the channels.
    """
    x = nn.relu(BatchNorm(width)(Conv(width, kernel_init=kernel_init)(x), train))
    for stage, count in enumerate(blocks):
        for number in range(count):
            strides = 2 if stage and not number else 1
            x = BasicBlock(width * 2**stage, strides, shortcut, kernel_init)(x, train)
    return global_average(x)


class ResNet(nn.Module):
    """ResNet-18 or 34 for small images: a 3x3 convolution in place of the 7x7 one with stride 2 and the pooling.

    It starts as torchvision's: convolutions normal with standard deviation sqrt(2 / fan_out), the dense layer as
    PyTorch's does. Shortcuts that change the shape are 1x1 convolutions with batch norm (option B of the paper).

    References: He et al., "Deep residual learning for image recognition", 2016; for CIFAR as in
    kuangliu/pytorch-cifar.

    Args:
        num_classes: number of logits.
        depth: 18 or 34.
        width: channels of the first stage; the other three have 2, 4 and 8 times as many.
    """

    num_classes: int = 10
    depth: int = 18
    width: int = 64
    #: Blocks of each stage, by depth.
    blocks: ClassVar[Mapping[int, tuple[int, ...]]] = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: an unknown depth, or a width that is not positive.
        """
        if self.depth not in self.blocks:
            raise InputError.must_be("model.depth", "18 or 34", self.depth)
        check_at_least(1, width=self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        x = _features(x, train, self.blocks[self.depth], self.width, "B", kaiming_normal_fan_out)
        return Dense(self.num_classes)(x)


@MODELS.register("ResNet-18", ranges={"width": "[1, 4096]"})
def resnet18(num_classes: int = 10, width: int = 64) -> ResNet:
    """ResNet with eight basic blocks in four stages, for small images."""
    return ResNet(num_classes, 18, width)


@MODELS.register("ResNet-34", ranges={"width": "[1, 4096]"})
def resnet34(num_classes: int = 10, width: int = 64) -> ResNet:
    """ResNet with sixteen basic blocks in four stages, for small images."""
    return ResNet(num_classes, 34, width)


@MODELS.register("CIFAR-ResNet", ranges={"width": "[1, 4096]", "shortcut": "A|B"})
class CifarResNet(nn.Module):
    """The residual network that its paper trains on CIFAR-10: three stages of basic blocks.

    Kernels of convolutions and of the dense layer start normal with standard deviation sqrt(2 / fan_in), as in
    akamaster/pytorch_resnet_cifar10, the usual PyTorch version.

    Reference: He et al., "Deep residual learning for image recognition", 2016, section 4.2.

    Args:
        num_classes: number of logits.
        depth: number of layers with weights, 6n + 2: 20, 32, 44, 56, 110 in the paper.
        width: channels of the first stage; the other two have 2 and 4 times as many.
        shortcut: how a stage begins: "A", as in the paper, without parameters (every second pixel, channels filled up
            with zeros), or "B", a 1x1 convolution with batch norm.
    """

    num_classes: int = 10
    depth: int = 20
    width: int = 16
    shortcut: str = "A"

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: an impossible depth, a width that is not positive, or an unknown shortcut.
        """
        if not isinstance(self.depth, int) or self.depth < 8 or self.depth % 6 != 2:
            raise InputError.must_be("model.depth", "6n + 2 with n of at least 1, such as 20", self.depth)
        if self.shortcut not in ("A", "B"):
            raise InputError.must_be("model.shortcut", "'A' or 'B'", self.shortcut)
        check_at_least(1, width=self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        blocks = (self.depth // 6,) * 3
        x = _features(x, train, blocks, self.width, self.shortcut, kaiming_normal_fan_in)
        return Dense(self.num_classes, kernel_init=kaiming_normal_fan_in)(x)


@MODELS.register("ResNet-20", ranges={"width": "[1, 4096]", "shortcut": "A|B"})
def resnet20(num_classes: int = 10, width: int = 16, shortcut: str = "A") -> CifarResNet:
    """ResNet with nine basic blocks in three stages, as the paper trains on CIFAR-10."""
    return CifarResNet(num_classes, 20, width, shortcut)


@MODELS.register("ResNet-56", ranges={"width": "[1, 4096]", "shortcut": "A|B"})
def resnet56(num_classes: int = 10, width: int = 16, shortcut: str = "A") -> CifarResNet:
    """ResNet with 27 basic blocks in three stages, as the paper trains on CIFAR-10."""
    return CifarResNet(num_classes, 56, width, shortcut)
