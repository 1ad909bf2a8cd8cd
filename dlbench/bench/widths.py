"""Baseline with a variable width, for measuring cost by number of parameters."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.models import ConvBlock, Dense


class WidthCNN(nn.Module):
    """Baseline with ``width`` and 2 * ``width`` channels and 8 * ``width`` hidden units; 16 gives Baseline itself."""

    num_classes: int = 10
    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        for features in (self.width, 2 * self.width):
            x = ConvBlock(features)(x, train)
        x = nn.relu(Dense(8 * self.width)(x.reshape(x.shape[0], -1)))
        return Dense(self.num_classes)(x)
