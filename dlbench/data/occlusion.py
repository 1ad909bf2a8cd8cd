"""Images of which a part is covered, to see what a network looks at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dlbench.data.arrays import Images

#: A patch covers this share of the shorter side, and the next one begins after half of it.
SHARE = 0.2

#: Where a patch begins: its row and its column.
Corner = tuple[int, int]


def corners(shape: tuple[int, int, int]) -> tuple[int, tuple[Corner, ...]]:
    """The side of a patch, and where patches begin, so that they cover all of an image.

    Args:
        shape: height, width and channels.
    """
    side = max(2, round(SHARE * min(shape[:2])))
    rows, columns = (sorted({*range(0, size - side, max(1, side // 2)), size - side}) for size in shape[:2])
    return side, tuple((row, column) for row in rows for column in columns)


def occluded(image: Images) -> Images:
    """An image under every patch, filled with the mean of the image: uint8 [patches, H, W, C].

    Args:
        image: uint8 [H, W, C].
    """
    side, places = corners(image.shape)
    covered = np.repeat(image[None], len(places), axis=0)
    mean = np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
    for each, (row, column) in zip(covered, places, strict=True):
        each[row : row + side, column : column + side] = mean
    return covered


def occlusion_map(
    shape: tuple[int, int, int], changes: Sequence[float] | NDArray[np.floating]
) -> NDArray[np.float64]:
    """What each pixel changes: the mean over the patches that cover it, [H, W].

    Args:
        shape: height, width and channels.
        changes: by patch, in the order of :func:`corners`.

    References:
        Zeiler and Fergus (2014), "Visualizing and understanding convolutional networks".
    """
    side, places = corners(shape)
    total, times = np.zeros(shape[:2]), np.zeros(shape[:2])
    for change, (row, column) in zip(changes, places, strict=True):
        total[row : row + side, column : column + side] += change
        times[row : row + side, column : column + side] += 1
    return total / times
