"""Mean and standard deviation of each channel of images, computed exactly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Images
from dlbench.data.mapped import take

#: Number of values that are looked at together, so that the memory needed does not grow with the number of images.
CHUNK_VALUES = 1 << 20


def channel_statistics(
    images: Images, indices: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The mean and the standard deviation of each channel over all pixels of all images, on the scale [0, 1].

    Both are computed from counts of the 256 values, so they do not depend on the order of the images and are exact up
    to the final rounding. The images are read in chunks and never copied as a whole.

    Args:
        images: uint8 [N, H, W, C], 0 to 255, not empty.
        indices: the images that count, integers [M], not empty; by default all of them. An image that is named twice
            counts twice.

    Returns:
        mean float32 [C] in [0, 1]; standard deviation float32 [C], divided by the number of values and not by one
        less. Where a channel has one value throughout, its standard deviation is given as 1, so that dividing by it is
        harmless, as in scikit-learn's ``StandardScaler``.
    """
    channels = images.shape[-1]
    rows = np.arange(len(images)) if indices is None else indices
    size = max(1, CHUNK_VALUES // math.prod(images.shape[1:]))
    occurrences = np.zeros((channels, 256), np.int64)
    for start in range(0, len(rows), size):
        chunk = take(images, rows[start : start + size])
        for channel in range(channels):
            occurrences[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    means, deviations = zip(*map(_mean_and_deviation, occurrences.tolist()), strict=True)
    return np.array(means, np.float32), np.array(deviations, np.float32)


def _mean_and_deviation(occurrences: list[int]) -> tuple[float, float]:
    """Of a channel whose value v occurs ``occurrences[v]`` times. The sums are whole numbers of any size."""
    count = sum(occurrences)
    total = sum(value * times for value, times in enumerate(occurrences))
    squares = sum(value * value * times for value, times in enumerate(occurrences))
    variance = (count * squares - total * total) / (count * 255) ** 2
    return total / (count * 255), math.sqrt(variance) or 1.0
