"""Rotated digits: the images of ``mnist5k``, each turned by an angle that is its target. A regression without network.

The angles are drawn by the raw output of PCG64, whose stream NumPy guarantees, and the images are turned in integer
arithmetic, so that the arrays are the same on every platform.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Dataset, Images, from_arrays

NAME = "rotated_digits"
DIGEST = "f80ab4e8a860ed5d35d09384826ad7e81114eab8fba826bacd2d75025ac3a148"
"""Digest of the data set."""

#: Angles lie between minus and plus this many degrees, in steps of a tenth.
MAX_ANGLE = 45
_SEED = 45
#: Sines and coordinates have this many binary digits after the point.
_BITS = 15


def make(digits: Dataset) -> Dataset:
    """Turn digits by random angles.

    Args:
        digits: ``mnist5k``.

    Returns:
        The data set; its targets are the angles in degrees, counterclockwise.
    """
    count = len(digits.train_labels) + len(digits.test_labels)
    steps = np.random.PCG64(_SEED).random_raw(count) % np.uint64(20 * MAX_ANGLE + 1)
    angles = (steps.astype(np.int64) - 10 * MAX_ANGLE) / 10
    train, test = np.split(angles, [len(digits.train_labels)])
    return from_arrays(
        NAME,
        turned(digits.train_images, train),
        train.astype(np.float32),
        turned(digits.test_images, test),
        test.astype(np.float32),
        source=f"{digits.source}, turned by up to {MAX_ANGLE} degrees",
    )


def turned(images: Images, angles: NDArray[np.float64]) -> Images:
    """Turn images about their centre, with bilinear interpolation and black outside.

    Args:
        images: uint8 [N, H, W, C].
        angles: float64 [N], degrees, counterclockwise.

    Returns:
        uint8 [N, H, W, C].
    """
    height, width = images.shape[1:3]
    rows, columns = np.mgrid[:height, :width].astype(np.int64)
    down, right = 2 * rows - (height - 1), 2 * columns - (width - 1)  # twice the distance from the centre
    found = np.empty_like(images)
    for number, (image, angle) in enumerate(zip(images, np.radians(angles), strict=True)):
        cosine, sine = (round(f(angle) * 2 ** (_BITS - 1)) for f in (math.cos, math.sin))
        y = cosine * down + sine * right + (height - 1 << _BITS - 1)
        x = cosine * right - sine * down + (width - 1 << _BITS - 1)
        found[number] = _interpolated(image, y, x)
    return found


def _interpolated(image: Images, y: NDArray[np.int64], x: NDArray[np.int64]) -> Images:
    """The values of an image [H, W, C] at places between its pixels, which have :data:`_BITS` binary digits."""
    one = 1 << _BITS
    padded = np.pad(image.astype(np.int64), ((1, 2), (1, 2), (0, 0)))
    top, left = (
        (place >> _BITS).clip(-1, size) + 1 for place, size in zip((y, x), image.shape, strict=False)
    )
    inside = [
        (-one < place) & (place < size << _BITS) for place, size in zip((y, x), image.shape, strict=False)
    ]
    below, beside = (y & one - 1)[..., None], (x & one - 1)[..., None]
    total = sum(
        padded[top + i, left + j] * (below if i else one - below) * (beside if j else one - beside)
        for i in (0, 1)
        for j in (0, 1)
    )
    values = (total + (1 << 2 * _BITS - 1)) >> 2 * _BITS
    return np.where((inside[0] & inside[1])[..., None], values, 0).astype(np.uint8)
