"""Wide residual networks."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax

from dlbench.errors import InputError
from dlbench.models.layers import (
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    check_at_least,
    global_average,
    kaiming_normal_fan_out,
)
from dlbench.spec.registry import MODELS


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions, [N, H, W, C] → [N, H', W', features].

    Where the shape changes, the shortcut is a 1x1 convolution of the activated input; elsewhere it is the input.
    """

    features: int
    strides: int
    dropout_rate: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Apply the block; training with dropout needs a "dropout" key."""
        activated = nn.relu(BatchNorm(x.shape[-1])(x, train))
        y = Conv(self.features, strides=self.strides, kernel_init=kaiming_normal_fan_out)(activated)
        y = nn.relu(BatchNorm(self.features)(y, train))
        y = Dropout(self.dropout_rate)(y, train)
        y = Conv(self.features, kernel_init=kaiming_normal_fan_out)(y)
        if x.shape[-1] != self.features:
            x = Conv(self.features, 1, strides=self.strides, kernel_init=kaiming_normal_fan_out)(activated)
        return x + y


@MODELS.register(
    "WideResNet",
    aliases=("WRN",),
    dynamic=("dropout_rate",),
    ranges={"widen": "[1, 256]", "dropout_rate": "[0, 1)"},
)
class WideResNet(nn.Module):
    """Wide residual network, by default WRN-28-10: three stages of pre-activation blocks.

    Convolutions start normal with standard deviation sqrt(2 / fan_out) and the bias of the dense layer at 0, as in
    xternalz/WideResNet-pytorch; its kernel starts as PyTorch's.

    Reference: Zagoruyko and Komodakis, "Wide residual networks", 2016.

    Args:
        num_classes: number of logits.
        depth: number of layers with weights, 6n + 4.
        widen: channels of the first stage, divided by 16; the other two have 2 and 4 times as many.
        dropout_rate: share of the values dropped in training between the two convolutions of a block.
    """

    num_classes: int = 10
    depth: int = 28
    widen: int = 10
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: an impossible depth, a widening that is not positive, or a dropout rate outside [0, 1).
        """
        if not isinstance(self.depth, int) or self.depth < 10 or self.depth % 6 != 4:
            raise InputError.must_be("model.depth", "6n + 4 with n of at least 1, such as 16", self.depth)
        check_at_least(1, widen=self.widen)
        if isinstance(self.dropout_rate, int | float) and not 0 <= self.dropout_rate < 1:
            raise InputError.must_be("model.dropout_rate", "in [0, 1)", self.dropout_rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images; training with dropout needs a "dropout" key."""
        x = Conv(16, kernel_init=kaiming_normal_fan_out)(x)
        for stage in range(3):
            for number in range(self.depth // 6):
                strides = 2 if stage and not number else 1
                x = PreActivationBlock(16 * self.widen * 2**stage, strides, self.dropout_rate)(x, train)
        x = global_average(nn.relu(BatchNorm(x.shape[-1])(x, train)))
        return Dense(self.num_classes, bias_init=nn.initializers.zeros)(x)
