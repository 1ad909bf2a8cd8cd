"""LeNet-5."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench.models.layers import ConvBlock, Dense
from dlbench.spec.registry import MODELS

#: The side of the images that the network was designed for.
_SIDE = 32


@MODELS.register("LeNet-5", aliases=("LeNet",))
class LeNet5(nn.Module):
    """Two blocks of 5x5 convolution, ReLU and max pooling (6, then 16 channels), dense 120 and 84.

    This is the modern form that PyTorch's tutorials use: every channel of the second convolution sees all six, the
    activation is ReLU, and pooling takes the maximum. Images smaller than 32x32, such as digits of 28x28, are padded
    with zeros to that size; the paper pads its digits too. It starts as PyTorch's layers do.

    Reference: LeCun et al., "Gradient-based learning applied to document recognition", 1998.

    Args:
        num_classes: number of logits.
    """

    num_classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        missing = [max(0, _SIDE - side) for side in x.shape[1:3]]
        x = jnp.pad(x, ((0, 0), *((each // 2, each - each // 2) for each in missing), (0, 0)))
        for features in (6, 16):
            x = ConvBlock(features, kernel_size=5, padding="VALID")(x, train)
        x = x.reshape(x.shape[0], -1)
        for features in (120, 84):
            x = nn.relu(Dense(features)(x))
        return Dense(self.num_classes)(x)
