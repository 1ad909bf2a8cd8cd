"""Vision transformers for small images."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench.errors import InputError
from dlbench.models.layers import Conv, Dense, check_at_least, gelu
from dlbench.spec.registry import MODELS

_normal = nn.initializers.normal(0.02)
_Dense = functools.partial(Dense, kernel_init=_normal, bias_init=nn.initializers.zeros)
#: The variance as the mean of squared deviations, as PyTorch has it.
_LayerNorm = functools.partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)


class EncoderBlock(nn.Module):
    """Self-attention and a perceptron of one hidden layer, each after layer norm and added to its input: [N, T, D]."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the block."""
        count, tokens, width = x.shape
        joint = _Dense(3 * width)(_LayerNorm()(x)).reshape(count, tokens, 3, self.heads, width // self.heads)
        attended = _attention(joint[:, :, 0], joint[:, :, 1], joint[:, :, 2])
        x = x + _Dense(width)(attended.reshape(count, tokens, width))
        hidden = gelu(_Dense(4 * width)(_LayerNorm()(x)))
        return x + _Dense(width)(hidden)


def _attention(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    """Scaled dot-product attention, each [N, T, heads, channels]."""
    scores = jnp.einsum("nqhc,nkhc->nhqk", query * query.shape[-1] ** -0.5, key)
    return jnp.einsum("nhqk,nkhc->nqhc", nn.softmax(scores), value)


@MODELS.register(
    "ViT-Tiny",
    aliases=("ViT",),
    ranges={"depth": "[1, 1000]", "width": "[1, 65536]", "heads": "[1, 1024]", "patch": "[1, 1024]"},
)
class VisionTransformer(nn.Module):
    """Vision transformer of 12 blocks, 192 channels and three heads, on patches of 4x4 pixels.

    It has a class token, learned positions, layer norm before each part of a block, and no dropout. It starts as
    timm's: dense kernels and positions normal with standard deviation 0.02, the class token with 1e-6, biases at 0. The
    convolution that embeds the patches starts as PyTorch's.

    References: Dosovitskiy et al., "An image is worth 16x16 words", 2021; the size is that of Touvron et al., "Training
    data-efficient image transformers", 2021.

    Args:
        num_classes: number of logits.
        depth: number of blocks.
        width: channels of a token, a multiple of the number of heads.
        heads: number of attention heads.
        patch: side of a patch in pixels; it has to divide the sides of the images.
    """

    num_classes: int = 10
    depth: int = 12
    width: int = 192
    heads: int = 3
    patch: int = 4

    def __post_init__(self) -> None:
        """Check the arguments.

        Raises:
            InputError: one is not positive, or the width is no multiple of the number of heads.
        """
        check_at_least(1, depth=self.depth, width=self.width, heads=self.heads, patch=self.patch)
        if self.width % self.heads:
            rule = f"a multiple of the number of heads, {self.heads}"
            raise InputError.must_be("model.width", rule, self.width)
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images.

        Raises:
            InputError: the images cannot be cut into patches.
        """
        count, height, width, _ = x.shape
        if height % self.patch or width % self.patch:
            rule = f"a number that divides the sides of the images, {height}x{width}"
            raise InputError.must_be("model.patch", rule, self.patch)
        patches = Conv(self.width, self.patch, strides=self.patch, padding=0, use_bias=True)(x)
        token = self.param("token", nn.initializers.normal(1e-6), (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (count, 1, 1)), patches.reshape(count, -1, self.width)], axis=1)
        x = x + self.param("positions", _normal, x.shape[1:])
        for _ in range(self.depth):
            x = EncoderBlock(self.heads)(x)
        return _Dense(self.num_classes)(_LayerNorm()(x)[:, 0])
