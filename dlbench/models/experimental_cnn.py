"""The experimental CNN of the original suite, and its four variants."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.errors import InputError
from dlbench.models.layers import ACTIVATIONS, ConvBlock, Dense, Dropout
from dlbench.spec.registry import MODELS

_RANGES = {
    "kernel_size": "odd [1, inf)",
    "activation": "relu|leaky_relu|elu|gelu",
    "dropout_rate": "[0, 1)",
}


@MODELS.register("ExperimentalCNN", dynamic=("dropout_rate",), ranges=_RANGES)
class ExperimentalCNN(nn.Module):
    """Two blocks of convolution, (batch norm), activation and pooling (16, then 32 channels), dense 128.

    Args:
        num_classes: number of logits.
        kernel_size: side of the convolution kernels, odd.
        activation: "relu", "leaky_relu" (slope 0.01), "elu" or "gelu" (exact).
        batch_norm: whether the convolutions are batch-normalised.
        dropout_rate: share of the 128 hidden units dropped in training.
    """

    num_classes: int = 10
    kernel_size: int = 3
    activation: str = "relu"
    batch_norm: bool = False
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: an even kernel, an unknown activation or a dropout rate outside [0, 1).
        """
        if self.activation not in ACTIVATIONS:
            raise InputError(f"activation {self.activation!r} is none of {', '.join(ACTIVATIONS)}")
        if not isinstance(self.kernel_size, int) or self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise InputError(f"kernel_size must be a positive odd number; got {self.kernel_size!r}")
        if isinstance(self.dropout_rate, int | float) and not 0 <= self.dropout_rate < 1:
            raise InputError(f"dropout_rate must be in [0, 1); got {self.dropout_rate!r}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images; training with dropout needs a "dropout" key."""
        for features in (16, 32):
            x = ConvBlock(
                features,
                kernel_size=self.kernel_size,
                activation=self.activation,
                batch_norm=self.batch_norm,
            )(x, train)
        x = ACTIVATIONS[self.activation](Dense(128)(x.reshape(x.shape[0], -1)))
        x = Dropout(self.dropout_rate)(x, train)
        return Dense(self.num_classes)(x)


@MODELS.register("Baseline", compared=2, dynamic=("dropout_rate",), ranges=_RANGES)
def baseline(
    num_classes: int = 10,
    kernel_size: int = 3,
    activation: str = "relu",
    batch_norm: bool = False,
    dropout_rate: float = 0.0,
) -> ExperimentalCNN:
    """The plain experimental CNN: ReLU and 3x3 kernels."""
    return ExperimentalCNN(num_classes, kernel_size, activation, batch_norm, dropout_rate)


@MODELS.register("Stabilized", compared=3, dynamic=("dropout_rate",), ranges=_RANGES)
def stabilized(
    num_classes: int = 10,
    kernel_size: int = 3,
    activation: str = "relu",
    batch_norm: bool = True,
    dropout_rate: float = 0.3,
) -> ExperimentalCNN:
    """The experimental CNN with batch norm and dropout."""
    return ExperimentalCNN(num_classes, kernel_size, activation, batch_norm, dropout_rate)


@MODELS.register("High-Vision", compared=4, dynamic=("dropout_rate",), ranges=_RANGES)
def high_vision(
    num_classes: int = 10,
    kernel_size: int = 5,
    activation: str = "relu",
    batch_norm: bool = False,
    dropout_rate: float = 0.0,
) -> ExperimentalCNN:
    """The experimental CNN with 5x5 kernels."""
    return ExperimentalCNN(num_classes, kernel_size, activation, batch_norm, dropout_rate)


@MODELS.register("Modernist", compared=5, dynamic=("dropout_rate",), ranges=_RANGES)
def modernist(
    num_classes: int = 10,
    kernel_size: int = 3,
    activation: str = "gelu",
    batch_norm: bool = False,
    dropout_rate: float = 0.0,
) -> ExperimentalCNN:
    """The experimental CNN with GELU."""
    return ExperimentalCNN(num_classes, kernel_size, activation, batch_norm, dropout_rate)
