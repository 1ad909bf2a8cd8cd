"""The two-convolution CNN that tutorials train on CIFAR-10."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.models.layers import ConvBlock, Dense, check_at_least
from dlbench.spec.registry import MODELS


@MODELS.register("CIFAR-CNN", ranges={"width": "[1, 4096]"})
class CifarCNN(nn.Module):
    """Two blocks of 3x3 convolution, ReLU and max pooling (32, then 64 channels), dense 512.

    It starts as PyTorch's layers do.

    Args:
        num_classes: number of logits.
        width: channels of the first convolution; the second has twice as many, and the dense layer 16 times.
    """

    num_classes: int = 10
    width: int = 32

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: the width is not positive.
        """
        check_at_least(1, width=self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        for features in (self.width, 2 * self.width):
            x = ConvBlock(features)(x, train)
        x = nn.relu(Dense(16 * self.width)(x.reshape(x.shape[0], -1)))
        return Dense(self.num_classes)(x)
