"""The two-convolution CNN that tutorials train on CIFAR-10."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.errors import InputError
from dlbench.models.layers import ConvBlock, Dense, Dropout, check_at_least
from dlbench.spec.registry import MODELS


@MODELS.register(
    "CIFAR-CNN",
    dynamic=("dropout_rate",),
    ranges={"width": "[1, 4096]", "dropout_rate": "[0, 1)"},
)
class CifarCNN(nn.Module):
    """Two blocks of 3x3 convolution, ReLU and max pooling (32, then 64 channels), dense 512.

    It starts as PyTorch's layers do.

    Args:
        num_classes: number of logits.
        width: channels of the first convolution; the second has twice as many, and the dense layer 16 times.
        dropout_rate: share of the hidden units of the dense layer dropped in training.
    """

    num_classes: int = 10
    width: int = 32
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: the width is not positive, or the dropout rate outside [0, 1).
        """
        check_at_least(1, width=self.width)
        if isinstance(self.dropout_rate, int | float) and not 0 <= self.dropout_rate < 1:
            raise InputError.must_be("model.dropout_rate", "in [0, 1)", self.dropout_rate)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images; training with dropout needs a "dropout" key."""
        for features in (self.width, 2 * self.width):
            x = ConvBlock(features)(x, train)
        x = nn.relu(Dense(16 * self.width)(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout_rate)(x, train)
        return Dense(self.num_classes)(x)
