"""Graded corruptions of test images, as functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Images

Floats = NDArray[np.float32]

#: Severities of every corruption, from 1.
SEVERITIES = (1, 2, 3, 4, 5)


def _noise(images: Floats, level: int, generator: np.random.Generator) -> Floats:
    """Gaussian noise of standard deviation 0.08 to 0.38 of the range, as in Hendrycks and Dietterich's ImageNet-C."""
    scale = 255 * (0.08, 0.12, 0.18, 0.26, 0.38)[level - 1]
    return images + generator.normal(0, scale, images.shape).astype(np.float32)


def _blur(images: Floats, level: int, generator: np.random.Generator) -> Floats:
    """A Gaussian blur of 1.5 to 7.5 % of the side."""
    from scipy.ndimage import gaussian_filter

    sigma = 0.015 * level * images.shape[1]
    blurred: Floats = gaussian_filter(images, (0, sigma, sigma, 0))
    return blurred


def _contrast(images: Floats, level: int, generator: np.random.Generator) -> Floats:
    """Contrast of 40 to 5 % around the mean of each image, as in ImageNet-C."""
    factor = (0.4, 0.3, 0.2, 0.1, 0.05)[level - 1]
    mean = images.mean(axis=(1, 2), keepdims=True)
    faded: Floats = mean + factor * (images - mean)
    return faded


def _rotation(images: Floats, level: int, generator: np.random.Generator) -> Floats:
    """A rotation by 8 to 40 degrees, half of the images to each side."""
    from scipy.ndimage import rotate

    turned = images.copy()
    for side, sign in ((slice(0, None, 2), 1), (slice(1, None, 2), -1)):
        if len(images[side]):
            turned[side] = rotate(
                images[side], sign * 8 * level, axes=(1, 2), reshape=False, order=1, mode="nearest"
            )
    return turned


def _shift(images: Floats, level: int, generator: np.random.Generator) -> Floats:
    """A shift by 3.6 to 18 % of the side, in one of four directions by turns; the edge is repeated."""
    pixels = max(1, round(0.036 * level * images.shape[1]))
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    shifted = np.empty_like(images)
    for n, (top, left) in enumerate(((0, 0), (0, 2 * pixels), (2 * pixels, 0), (2 * pixels, 2 * pixels))):
        shifted[n::4] = padded[n::4, top : top + height, left : left + width]
    return shifted


def _occlusion(images: Floats, level: int, generator: np.random.Generator) -> Floats:
    """A square of 10 to 50 % of the side, at a random place, filled with the mean of the image."""
    side = max(1, round(0.1 * level * min(images.shape[1:3])))
    covered = images.copy()
    rows = generator.integers(0, images.shape[1] - side + 1, len(images))
    columns = generator.integers(0, images.shape[2] - side + 1, len(images))
    for n, (row, column) in enumerate(zip(rows, columns, strict=True)):
        covered[n, row : row + side, column : column + side] = images[n].mean(axis=(0, 1))
    return covered


#: The corruptions by name.
CORRUPTIONS: Mapping[str, Callable[[Floats, int, np.random.Generator], Floats]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "rotation": _rotation,
    "shift": _shift,
    "occlusion": _occlusion,
}


def corrupted(images: Images, name: str, severity: int) -> Images:
    """Images after a corruption: the same for the same images, name and severity.

    Args:
        images: uint8 [N, H, W, C].
        name: one of :data:`CORRUPTIONS`.
        severity: one of :data:`SEVERITIES`.

    References:
        Hendrycks and Dietterich (2019), "Benchmarking neural network robustness to common corruptions and
        perturbations".
    """
    generator = np.random.default_rng([list(CORRUPTIONS).index(name), severity])
    made = CORRUPTIONS[name](images.astype(np.float32), severity, generator)
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)
