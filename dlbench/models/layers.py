"""The five networks, as Flax modules that start as PyTorch's layers do.

Every module takes images as float32 [N, H, W, C] in [-1, 1] and returns logits [N, num_classes].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench import ops


def gelu(x: jax.Array) -> jax.Array:
    """Exact GELU, x Φ(x), written with erf as PyTorch does; by erfc it takes twice the time on a CPU.

    Reference: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """
    return x * (0.5 * (1.0 + jax.lax.erf(x * 0.5**0.5)))


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": functools.partial(nn.leaky_relu, negative_slope=0.01),
    "elu": nn.elu,
    "gelu": gelu,
}
#: Activations that never decrease: they commute with max pooling, so that pooling can come first.
_MONOTONE = ("relu", "leaky_relu", "elu")

BATCH_NORM_EPSILON = 1e-5

Initializer = Callable[..., jax.Array]


def uniform_fan_in(fan_in: int) -> Initializer:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): how ``torch.nn.Linear`` and ``Conv2d`` start weight and bias."""
    bound = fan_in**-0.5

    def initialise(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class Dense(nn.Module):
    """Fully connected layer, [N, inputs] → [N, features]; kernel [inputs, features], bias [features]."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        start = uniform_fan_in(x.shape[-1])
        kernel = self.param("kernel", start, (x.shape[-1], self.features))
        bias = self.param("bias", start, (self.features,))
        return ops.dense(x, kernel) + bias


class ConvBlock(nn.Module):
    """Convolution → (batch norm) → activation → (2x2 max pooling), [N, H, W, C] → [N, H', W', features].

    Pooling goes before the activation where that cannot be told apart from the order above.
    """

    features: int
    kernel_size: int = 3
    padding: Literal["SAME", "VALID"] = "SAME"
    activation: str = "relu"
    batch_norm: bool = False
    pool: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Apply the block; ``train`` says whether batch norm uses the batch's own statistics."""
        if self.padding == "VALID" and min(x.shape[1:3]) < self.kernel_size:
            raise ValueError(
                f"no {self.kernel_size}x{self.kernel_size} window fits in {x.shape[1]}x{x.shape[2]}"
            )
        side, channels = self.kernel_size, x.shape[-1]
        start = uniform_fan_in(side * side * channels)
        kernel = self.param("kernel", start, (side, side, channels, self.features))
        bias = self.param("bias", start, (self.features,))
        act = ACTIVATIONS[self.activation]
        norm = BatchNorm(self.features, name="norm") if self.batch_norm else None
        if not self.pool:
            y = ops.conv2d(x, kernel, bias, padding=self.padding)
            return act(y if norm is None else norm(y, train))
        pool = functools.partial(
            ops.conv_pool, x, padding=self.padding, activation=None if self.activation in _MONOTONE else act
        )
        if norm is None:
            return act(pool(kernel, bias))
        if not train:  # an affine map that the convolution can do on the way
            factor, offset = norm.running()
            return act(pool(kernel * factor, bias * factor + offset))
        pooled, mean, variance = ops.conv_norm_pool(
            x,
            kernel,
            norm.scale,
            norm.bias,
            padding=self.padding,
            epsilon=BATCH_NORM_EPSILON,
            activation=None if self.activation in _MONOTONE else act,
        )
        lost = side - 1 if self.padding == "VALID" else 0
        norm.record(mean + bias, variance, x.shape[0] * (x.shape[1] - lost) * (x.shape[2] - lost))
        return act(pooled)


class Dropout(nn.Module):
    """Drop each value with a probability, and divide the others by the probability of keeping them.

    Reference: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.

    Args:
        rate: probability of dropping a value, in [0, 1); a float, or an array that stands for one. It takes a
            "dropout" key unless it is the float 0.
    """

    rate: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Apply the layer; nothing changes in evaluation."""
        if not train or (isinstance(self.rate, int | float) and self.rate == 0):
            return x
        keep = jnp.asarray(1 - self.rate, jnp.float32)
        kept = jax.random.bernoulli(self.make_rng("dropout"), keep, x.shape)
        return jax.lax.select(kept, x * (1 / keep).astype(x.dtype), jnp.zeros_like(x))


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis, to the letter of ``torch.nn.BatchNorm2d``.

    eps 1e-5; running statistics are 0.9 of the old and 0.1 of the new, the new variance unbiased, while the
    batch is normalised by its biased one. References: Ioffe and Szegedy, 2015; PyTorch's documentation.
    """

    features: int

    def setup(self) -> None:
        """Declare scale, bias and running statistics, [features] each."""
        shape = (self.features,)
        self.scale = self.param("scale", nn.initializers.ones, shape)
        self.bias = self.param("bias", nn.initializers.zeros, shape)
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        self.var = self.variable("batch_stats", "var", jnp.ones, shape)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Normalise [..., features] over all axes but the last."""
        if not train:
            factor, offset = self.running()
            return x * factor + offset
        axes = tuple(range(x.ndim - 1))
        mean = x.mean(axes)
        variance = jnp.square(x - mean).mean(axes)
        self.record(mean, variance, x.size // x.shape[-1])
        return (x - mean) * (self.scale * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)) + self.bias

    def running(self) -> tuple[jax.Array, jax.Array]:
        """What evaluation multiplies by and adds, [features] each."""
        factor = self.scale * jax.lax.rsqrt(self.var.value + BATCH_NORM_EPSILON)
        return factor, self.bias - self.mean.value * factor

    def record(self, mean: jax.Array, variance: jax.Array, count: int) -> None:
        """Move the running statistics towards those of a batch, whose variance is biased, of so many values."""
        if not self.is_initializing():
            self.mean.value = 0.9 * self.mean.value + 0.1 * mean
            self.var.value = 0.9 * self.var.value + 0.1 * variance * (count / max(count - 1, 1))
