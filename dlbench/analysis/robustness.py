"""Accuracies on corrupted test images, from which of them each network answers rightly. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dlbench.analysis.predictions import Predictions
from dlbench.data.corruptions import CORRUPTIONS, SEVERITIES
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_share

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Robustness:
    """Accuracies of a configuration on corrupted test images, each a mean over seeds with its interval.

    Attributes:
        predictions: the answers on the images as they are.
        num_images: number of images that were corrupted.
        clean: accuracy on them as they are.
        by_severity: by corruption, the accuracy at each severity from 1 to 5.
        means: by corruption, the mean over the severities.
        mean: the mean over all corruptions and severities.
    """

    predictions: Predictions
    num_images: int
    clean: Interval
    by_severity: Mapping[str, tuple[Interval, ...]]
    means: Mapping[str, Interval]
    mean: Interval


def robustness(found: Predictions, answers: NDArray[Any]) -> Robustness:
    """The accuracies of a configuration on corrupted images.

    Args:
        found: its predictions on the images as they are.
        answers: whether each network answers each image rightly, bool [S, 1 + corruptions * severities, N]: as they
            are, then by corruption and severity.
    """
    import numpy as np

    right = answers.astype(np.float32)

    def interval(versions: slice) -> Interval:
        return crossed_share(right[:, versions].mean(axis=1), found.over_seeds)

    grades = len(SEVERITIES)
    starts = {name: 1 + grades * n for n, name in enumerate(CORRUPTIONS)}
    return Robustness(
        found,
        answers.shape[2],
        interval(slice(0, 1)),
        {name: tuple(interval(slice(s + g, s + g + 1)) for g in range(grades)) for name, s in starts.items()},
        {name: interval(slice(start, start + grades)) for name, start in starts.items()},
        interval(slice(1, None)),
    )
