"""Networks without convolutions: a linear model, and multilayer perceptrons."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.models.layers import Dense, check_at_least
from dlbench.spec.registry import MODELS


@MODELS.register("MLP", ranges={"hidden": "[1, 65536]", "depth": "[0, 1000]"})
class MLP(nn.Module):
    """Dense layers with ReLU on the pixels: two of 256 units.

    It starts as PyTorch's layers do.

    Args:
        num_classes: number of logits.
        hidden: units of each hidden layer.
        depth: number of hidden layers; 0 is the model ``Linear``.
    """

    num_classes: int = 10
    hidden: int = 256
    depth: int = 2

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: no hidden units, or a negative number of layers.
        """
        check_at_least(1, hidden=self.hidden)
        check_at_least(0, depth=self.depth)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        x = x.reshape(x.shape[0], -1)
        for _ in range(self.depth):
            x = nn.relu(Dense(self.hidden)(x))
        return Dense(self.num_classes)(x)


@MODELS.register("Linear", aliases=("logistic-regression",))
def linear(num_classes: int = 10) -> MLP:
    """One dense layer on the pixels: multinomial logistic regression."""
    return MLP(num_classes, depth=0)
