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

from dlbench import ops, registry
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


class SimpleCNN(nn.Module):
    """Two valid 3x3 convolutions (32 and 64 channels, ReLU), one pooling, dense 128: 1,199,882 parameters."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits of a batch of images."""
        x = ConvBlock(32, padding="VALID", pool=False)(x, train)
        x = ConvBlock(64, padding="VALID")(x, train)
        x = nn.relu(Dense(128)(x.reshape(x.shape[0], -1)))
        return Dense(self.num_classes)(x)


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
        if not 0 <= self.dropout_rate < 1:
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
        x = nn.Dropout(self.dropout_rate, deterministic=not train)(x)
        return Dense(self.num_classes)(x)


#: The plain one: ReLU, 3x3 kernels: 206,922 parameters.
baseline = ExperimentalCNN
#: Batch norm and dropout 0.3: 207,018 parameters.
stabilized = functools.partial(ExperimentalCNN, batch_norm=True, dropout_rate=0.3)
#: 5x5 kernels: 215,370 parameters.
high_vision = functools.partial(ExperimentalCNN, kernel_size=5)
#: GELU: 206,922 parameters.
modernist = functools.partial(ExperimentalCNN, activation="gelu")


def create(name: str, num_classes: int = 10, **arguments: Any) -> nn.Module:
    """Make a model by name: a built-in or registered one, or ``package.module:Attribute``.

    Args:
        name: see :func:`dlbench.registry.resolve_model`.
        num_classes: number of logits.
        arguments: whatever the model takes besides (``kernel_size=5``).

    Raises:
        UnknownNameError: no such model.
        InputError: it takes no such argument, or makes no Flax module.
    """
    reference = registry.resolve_model(name)
    try:
        model = registry.import_model(reference)(num_classes=num_classes, **arguments)
    except TypeError as error:
        raise InputError(
            f"model {name!r} cannot be made with num_classes={num_classes}"
            + "".join(f", {key}={value!r}" for key, value in arguments.items())
            + f": {error}"
        ) from None
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name!r} made a {type(model).__name__}, not a flax.linen.Module")
    return model
