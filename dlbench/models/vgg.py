"""VGG networks with batch norm, for small images."""

from __future__ import annotations

import flax.linen as nn
import jax

from dlbench.errors import InputError
from dlbench.models.layers import ConvBlock, Dense, check_at_least, global_average
from dlbench.spec.registry import MODELS

#: Convolutions before each of the five poolings, by depth.
_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


@MODELS.register("VGG", ranges={"depth": "11|13|16|19", "width": "[1, 4096]"})
class VGG(nn.Module):
    """Stacks of 3x3 convolution, batch norm and ReLU, each followed by max pooling; one dense layer.

    The five stacks have 1, 2, 4, 8 and 8 times ``width`` channels. In place of the paper's three dense layers there is
    one, as is usual for CIFAR. Images of 32x32 are one pixel after the last pooling. Smaller ones, such as 28x28, are
    one pixel before it, and it is left out; what is left of larger ones is averaged. It starts as PyTorch's layers do.

    References: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015; for
    CIFAR as in kuangliu/pytorch-cifar.

    Args:
        num_classes: number of logits.
        depth: number of layers with weights in the paper's network: 11, 13, 16 or 19.
        width: channels of the first stack.
    """

    num_classes: int = 10
    depth: int = 16
    width: int = 64

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: an unknown depth, or a width that is not positive.
        """
        if self.depth not in _CONVOLUTIONS:
            raise InputError.must_be("model.depth", "11, 13, 16 or 19", self.depth)
        check_at_least(1, width=self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        *first, last = zip(_CONVOLUTIONS[self.depth], (1, 2, 4, 8, 8), strict=True)
        for count, multiple in first:
            x = self._stack(x, count, multiple, True, train)
        x = self._stack(x, *last, min(x.shape[1:3]) > 1, train)
        return Dense(self.num_classes)(global_average(x))

    def _stack(self, x: jax.Array, count: int, multiple: int, pool: bool, train: bool) -> jax.Array:
        for number in range(count):
            last = number == count - 1
            x = ConvBlock(multiple * self.width, batch_norm=True, pool=last and pool)(x, train)
        return x


@MODELS.register("VGG-11", ranges={"width": "[1, 4096]"})
def vgg11(num_classes: int = 10, width: int = 64) -> VGG:
    """VGG with eight convolutions and batch norm, for small images."""
    return VGG(num_classes, 11, width)


@MODELS.register("VGG-16", ranges={"width": "[1, 4096]"})
def vgg16(num_classes: int = 10, width: int = 64) -> VGG:
    """VGG with thirteen convolutions and batch norm, for small images."""
    return VGG(num_classes, 16, width)
