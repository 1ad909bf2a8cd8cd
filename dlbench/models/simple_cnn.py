"""The SimpleCNN of the original suite."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.models.layers import ConvBlock, Dense
from dlbench.spec.registry import MODELS


@MODELS.register("SimpleCNN", compared=1)
class SimpleCNN(nn.Module):
    """Two valid 3x3 convolutions (32 and 64 channels, ReLU), one pooling, dense 128."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        x = ConvBlock(32, padding="VALID", pool=False)(x, train)
        x = ConvBlock(64, padding="VALID")(x, train)
        x = nn.relu(Dense(128)(x.reshape(x.shape[0], -1)))
        return Dense(self.num_classes)(x)
