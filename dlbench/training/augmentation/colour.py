"""Random brightness, contrast and saturation."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench.spec.registry import TRANSFORMS

#: The three adjustments, as numbers.
BRIGHTNESS, CONTRAST, SATURATION = range(3)
#: The orders in which they can be made.
ORDERS = tuple(itertools.permutations((BRIGHTNESS, CONTRAST, SATURATION)))
#: Factors are whole multiples of 1 / ONE, so that pixels are computed in integers, with the same result everywhere.
ONE = 1 << 16
#: Weights of red, green and blue in the brightness of a pixel, in 1 / 10,000 (ITU-R BT.601, as torchvision has them).
LUMA = (2989, 5870, 1140)


@TRANSFORMS.register(
    "colour",
    aliases=("color",),
    dynamic=("brightness", "contrast", "saturation"),
    ranges={"brightness": "[0, 10]", "contrast": "[0, 10]", "saturation": "[0, 10]"},
)
def colour(
    images: jax.Array,
    key: jax.Array,
    brightness: ArrayLike = 0.4,
    contrast: ArrayLike = 0.4,
    saturation: ArrayLike = 0.4,
) -> jax.Array:
    """Change brightness, contrast and saturation of each image by random factors, in a random order.

    Equivalent to ``torchvision.transforms.ColorJitter(brightness, contrast, saturation)`` on uint8 images: each factor
    is drawn uniformly from 1 ± the argument, but not below 0. Only images with three channels have a saturation.

    Args:
        images: uint8 [N, H, W, C].
        key: one key for all images.
        brightness: the largest change of the factor by which values are multiplied.
        contrast: likewise of the distance of values from the mean brightness of the image.
        saturation: likewise of the distance of values from the brightness of their pixel.

    Returns:
        uint8 [N, H, W, C].
    """
    return adjust(images, *draw_adjustments(key, len(images), brightness, contrast, saturation))


def draw_adjustments(
    key: jax.Array, count: int, brightness: ArrayLike, contrast: ArrayLike, saturation: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """What :func:`colour` draws.

    Returns:
        factors int32 [count, 3] of brightness, contrast and saturation, in units of 1 / :data:`ONE`; the order of the
        three, int32 [count, 3].
    """
    drawn = jax.random.uniform(key, (count, 4))
    largest = jnp.stack([jnp.asarray(each, jnp.float32) for each in (brightness, contrast, saturation)])
    low, high = jnp.maximum(1 - largest, 0), 1 + largest
    factors = jnp.round((low + drawn[:, :3] * (high - low)) * ONE).astype(jnp.int32)
    return factors, jnp.array(ORDERS, jnp.int32)[(drawn[:, 3] * len(ORDERS)).astype(jnp.int32)]


def adjust(images: jax.Array, factors: jax.Array, order: jax.Array) -> jax.Array:
    """Change brightness, contrast and saturation, one after another.

    Each blends the image with another one: black, its mean brightness, or the brightness of each pixel. The result is
    ``factor * image + (1 - factor) * other``, clipped to 0 to 255 and rounded down, after each of them.

    Args:
        images: uint8 [N, H, W, C]. Unless C is 3, the brightness of a pixel is its value.
        factors: int32 [N, 3] of brightness, contrast and saturation, in units of 1 / :data:`ONE`.
        order: int32 [N, 3], for each image the adjustments in their order.

    Returns:
        uint8 [N, H, W, C].
    """
    if images.shape[-1] != len(LUMA):
        factors = factors.at[:, SATURATION].set(ONE)
    values = images.astype(jnp.int32)
    for place in range(order.shape[1]):
        which = order[:, place]
        values = _blend(values, which, jnp.take_along_axis(factors, which[:, None], axis=1)[:, 0])
    return values.astype(images.dtype)


def _blend(values: jax.Array, which: jax.Array, factor: jax.Array) -> jax.Array:
    """One adjustment of each image: ``which`` and ``factor`` are int32 [N]."""
    brightness = _brightness(values)
    rest = ONE - factor
    mean = brightness.mean(axis=(1, 2, 3), dtype=jnp.float32)
    of_mean = jnp.where(which == CONTRAST, jnp.round(rest * mean).astype(jnp.int32), 0)
    of_pixel = jnp.where(which == SATURATION, rest, 0)
    factor, of_mean, of_pixel = (each[:, None, None, None] for each in (factor, of_mean, of_pixel))
    return jnp.clip((factor * values + of_pixel * brightness + of_mean) >> 16, 0, 255)


def _brightness(values: jax.Array) -> jax.Array:
    """The brightness of each pixel, int32 [N, H, W, 1]; the values themselves where there are not three channels."""
    if values.shape[-1] != len(LUMA):
        return values
    red, green, blue = (values[..., channel, None] * weight for channel, weight in enumerate(LUMA))
    return jax.lax.div(red + green + blue, 10_000)
