"""Intervals of a number that was measured with several seeds on the same images: both of them vary."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from dlbench.errors import InputError
from dlbench.stats.intervals import Interval, finite, mean_std, student_bounds

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Bootstrap samples of the images. They only estimate a variance, whose root is then known to 4 %.
NUM_RESAMPLES = 400


def crossed_interval(
    by_seed: Iterable[float],
    resampled: Iterable[float],
    num_images: int,
    confidence: float = 0.95,
    overlap: float = 0.0,
) -> Interval:
    """Mean over seeds, with an interval for other seeds and other images of the same kind.

    The variances of the mean over seeds and of the mean over images are added: s² / S, where s is the standard
    deviation over the S seeds, and the variance of the bootstrap over images. The bounds are Student's, with the
    degrees of freedom of Welch and Satterthwaite. What seeds and images have in common counts twice, so the
    interval is slightly too wide. With one seed, it covers other images alone; `method` says so. Of values from
    cross-validation, the variance over seeds is s² (1/S + overlap), as in :func:`~dlbench.stats.corrected_interval`.

    Args:
        by_seed: the value of each seed on all images, [S].
        resampled: the mean over seeds on each bootstrap sample of the images, [B]; values that are not finite are
            left out.
        num_images: number of images.
        confidence: nominal coverage, in (0, 1).
        overlap: held-out images per training image of values from cross-validation; 0 for independent values.

    Raises:
        InputError: no seeds, a value of a seed that is not finite, or a confidence outside (0, 1).

    References:
        Owen (2007), "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), on why both are added.
        Satterthwaite (1946), "An approximate distribution of estimates of variance components".
    """
    sample = finite(by_seed)
    mean, std = mean_std(sample)
    seeds = std**2 * (1 / len(sample) + overlap) if len(sample) > 1 else 0.0
    images = mean_std([float(value) for value in resampled if math.isfinite(value)] or [mean])[1] ** 2
    terms = ((seeds, len(sample) - 1), (images, num_images - 1))
    total = seeds + images
    spread = sum(variance**2 / df for variance, df in terms if df)
    df = total**2 / spread if spread > 0 else math.inf
    low, high = student_bounds(mean, math.sqrt(total), df, confidence) if total > 0 else (mean, mean)
    method = "Student t over seeds and images" if len(sample) > 1 else "Student t over images"
    return Interval(mean, low, high, method, len(sample), std, confidence)


def resample_weights(
    num_images: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> NDArray[np.float32]:
    """How often each image is drawn in each bootstrap sample, float32 [B, N]; the same for the same arguments."""
    import numpy as np

    drawn = np.random.default_rng(seed).multinomial(num_images, [1 / num_images] * num_images, num_resamples)
    return drawn.astype(np.float32)


def crossed_mean(cells: NDArray[np.floating[Any]], overlap: float = 0.0) -> Interval:
    """The mean over seeds and images of one number for each of them, with its 95 % interval.

    Args:
        cells: the numbers [S, N], such as 1 for a right answer and 0 for a wrong one.
        overlap: as in :func:`crossed_interval`.

    Raises:
        InputError: there are no seeds, or a mean is not finite.
    """
    images = cells.shape[1]
    resampled = (resample_weights(images) @ cells.T / images).mean(axis=1)
    return crossed_interval(cells.mean(axis=1, dtype=float), resampled, images, overlap=overlap)


def crossed_intervals(
    statistic: Callable[[NDArray[np.float32]], NDArray[Any]], num_images: int, overlap: float = 0.0
) -> list[Interval]:
    """The 95 % intervals of statistics of weighted images, as :func:`crossed_interval` makes them.

    Args:
        statistic: takes weights of images [B, N] and returns values [B, S, K] of S seeds and K statistics. With equal
            weights they must be finite.
        num_images: N.
        overlap: as in :func:`crossed_interval`.

    Returns:
        One interval for each of the K statistics.

    Raises:
        InputError: there are no images, or a value is not finite.
    """
    import numpy as np

    if num_images < 1:
        raise InputError(f"intervals over images need at least one image; got {num_images}.")
    by_seed = np.asarray(statistic(np.ones((1, num_images), np.float32)), float)[0]
    resampled = np.asarray(statistic(resample_weights(num_images)), float).mean(axis=1)
    return [
        crossed_interval(by_seed[:, k], resampled[:, k], num_images, overlap=overlap)
        for k in range(by_seed.shape[1])
    ]
