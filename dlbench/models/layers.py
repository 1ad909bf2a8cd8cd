"""The layers of the networks, which start as PyTorch's do unless a network says otherwise."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench import ops
from dlbench.errors import InputError


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


#: Normal with standard deviation sqrt(2 / fan), as ``torch.nn.init.kaiming_normal_`` starts kernels.
kaiming_normal_fan_in: Initializer = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
kaiming_normal_fan_out: Initializer = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Dense(nn.Module):
    """Fully connected layer, [..., inputs] → [..., features]; kernel [inputs, features], bias [features].

    Args:
        features: number of outputs.
        kernel_init: how the kernel starts; by default as ``torch.nn.Linear`` does, :func:`uniform_fan_in`.
        bias_init: how the bias starts; likewise.
    """

    features: int
    kernel_init: Initializer | None = None
    bias_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        start = uniform_fan_in(x.shape[-1])
        kernel = self.param("kernel", self.kernel_init or start, (x.shape[-1], self.features))
        bias = self.param("bias", self.bias_init or start, (self.features,))
        return ops.dense(x, kernel) + bias


class Conv(nn.Module):
    """Convolution, [N, H, W, C] → [N, H', W', features]; kernel [side, side, C, features].

    Images are padded with zeros as ``torch.nn.Conv2d(padding=...)`` does, the same on every side. (``"SAME"`` pads a
    stride of 2 on the right alone.)

    Args:
        features: number of output channels.
        kernel_size: side of the kernel.
        strides: step between windows.
        padding: rows and columns of zeros on each side; by default half the kernel, so that stride 1 keeps the size.
        depthwise: whether each channel is convolved with its own kernel; kernel [side, side, 1, C].
        use_bias: whether to add a bias [features].
        kernel_init: how the kernel starts; by default as ``torch.nn.Conv2d`` does, :func:`uniform_fan_in`.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int | None = None
    depthwise: bool = False
    use_bias: bool = False
    kernel_init: Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Apply the layer."""
        side, channels = self.kernel_size, 1 if self.depthwise else x.shape[-1]
        start = uniform_fan_in(side * side * channels)
        kernel = self.param("kernel", self.kernel_init or start, (side, side, channels, self.features))
        pad = side // 2 if self.padding is None else self.padding
        convolve = ops.depthwise_conv2d if self.depthwise else ops.conv2d
        y = convolve(x, kernel, stride=self.strides, padding=pad)
        return y + self.param("bias", start, (self.features,)) if self.use_bias else y


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


def global_average(x: jax.Array) -> jax.Array:
    """The mean over all pixels, [N, H, W, C] → [N, C].

    Raises:
        ValueError: there are no pixels.
    """
    if 0 in x.shape[1:3]:
        raise ValueError(f"no pixels are left to average: {x.shape[1]}x{x.shape[2]}")
    return x.mean((1, 2))


def check_at_least(least: int, **arguments: int) -> None:
    """Check arguments of a model that count something.

    Raises:
        InputError: one is no whole number or too small.
    """
    for name, value in arguments.items():
        if not isinstance(value, int) or value < least:
            raise InputError.must_be(f"model.{name}", f"a whole number of at least {least}", value)


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
        y, mean, variance = ops.batch_norm(x, self.scale, self.bias, BATCH_NORM_EPSILON)
        self.record(mean, variance, x.size // x.shape[-1])
        return y

    def running(self) -> tuple[jax.Array, jax.Array]:
        """What evaluation multiplies by and adds, [features] each."""
        factor = self.scale * jax.lax.rsqrt(self.var.value + BATCH_NORM_EPSILON)
        return factor, self.bias - self.mean.value * factor

    def record(self, mean: jax.Array, variance: jax.Array, count: int) -> None:
        """Move the running statistics towards those of a batch, whose variance is biased, of so many values."""
        if not self.is_initializing():
            self.mean.value = 0.9 * self.mean.value + 0.1 * mean
            self.var.value = 0.9 * self.var.value + 0.1 * variance * (count / max(count - 1, 1))
