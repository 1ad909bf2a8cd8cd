"""The five networks in plain Flax, with ``nn.Conv`` and ``nn.max_pool``, trained by dlbench's programs.

Convolutions and pooling are jax's own; so they are for other models, which are measured as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from dlbench import models, ops
from dlbench.bench import ours


class PlainSimple(nn.Module):
    """SimpleCNN."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        x = nn.relu(nn.Conv(32, (3, 3), padding="VALID")(x))
        x = nn.relu(nn.Conv(64, (3, 3), padding="VALID")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.num_classes)(x)


class PlainExperimental(nn.Module):
    """The other four networks; for the arguments, see :class:`dlbench.models.ExperimentalCNN`."""

    num_classes: int = 10
    kernel_size: int = 3
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    batch_norm: bool = False
    dropout_rate: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        for features in (16, 32):
            x = nn.Conv(features, (self.kernel_size, self.kernel_size))(x)
            if self.batch_norm:
                x = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(x)
            x = nn.max_pool(self.activation(x), (2, 2), (2, 2))
        x = self.activation(nn.Dense(128)(x.reshape(x.shape[0], -1)))
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return nn.Dense(self.num_classes)(x)


_MODELS: dict[str, Callable[[], nn.Module]] = {
    "SimpleCNN": PlainSimple,
    "Baseline": PlainExperimental,
    "Stabilized": functools.partial(PlainExperimental, batch_norm=True, dropout_rate=0.3),
    "High-Vision": functools.partial(PlainExperimental, kernel_size=5),
    "Modernist": functools.partial(
        PlainExperimental, activation=functools.partial(nn.gelu, approximate=False)
    ),
}


def create(name: str) -> Any:
    """Create a network by name; what is not one of the five is the model itself."""
    return _MODELS[name]() if name in _MODELS else models.create(name)


if __name__ == "__main__":
    with ops.lowered("lax"):  # with the convolutions of jax, not those that stand in for them
        ours.main(create)
