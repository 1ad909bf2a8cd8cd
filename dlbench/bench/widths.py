"""Baseline at any width, for its cost against the number of parameters."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.models import ConvBlock, Dense


class WidthCNN(nn.Module):
    """``width`` and twice as many channels, eight times as many hidden units; 16 makes Baseline."""

    num_classes: int = 10
    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        for features in (self.width, 2 * self.width):
            x = ConvBlock(features)(x, train)
        x = nn.relu(Dense(8 * self.width)(x.reshape(x.shape[0], -1)))
        return Dense(self.num_classes)(x)
