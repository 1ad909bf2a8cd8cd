"""Accuracy by slice of the test images: the worst slice, and the gaps between slices. No jax."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbench import data, files
from dlbench.analysis.predictions import Predictions
from dlbench.data.slices import CLASS
from dlbench.errors import InputError, StoreError, UnknownNameError
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_intervals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Slices of a rule: images ordered by a number, in as many equal parts.
NUM_PARTS = 4
#: Slices of which accuracies are computed; text that differs from image to image makes no slices.
MAX_SLICES = 1000
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
#: A rate of fewer images than this does not count towards the equalised-odds difference.
MIN_IMAGES = 10


def _brightness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The mean of all pixels."""
    brightness: NDArray[np.float64] = images.reshape(len(images), -1).mean(axis=1, dtype=float)
    return brightness


def _contrast(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The standard deviation of all pixels."""
    contrast: NDArray[np.float64] = images.reshape(len(images), -1).std(axis=1, dtype=float)
    return contrast


#: Rules that make slices of images, by name: what is low, what is high, and the number of each image.
RULES: Mapping[str, tuple[str, str, Callable[[Any], Any]]] = {
    "brightness": ("dark", "bright", _brightness),
    "contrast": ("low contrast", "high contrast", _contrast),
}


@dataclass(frozen=True)
class Slice:
    """A slice of the test images.

    Attributes:
        name: its name.
        support: number of its images.
        accuracy: mean over seeds, with its interval over seeds and images.
    """

    name: str
    support: int
    accuracy: Interval


@dataclass(frozen=True)
class BySlice:
    """The accuracies of a configuration by slice.

    Attributes:
        predictions: what they were computed from.
        by: what makes the slices.
        slices: one entry per slice, ordered by the numbers that their names begin with, then by name.
        gap: accuracy of the best slice minus that of the worst. It is biased upwards: the best of equal slices is above
            the worst by chance.
        equalized_odds: the equalised-odds difference: over all classes, the largest difference between slices of the
            share of images of the class, or of the others, that are answered with it. Slices with fewer than ten such
            images are left out of each. ``None`` where no two slices have as many.
    """

    predictions: Predictions
    by: str
    slices: tuple[Slice, ...]
    gap: Interval
    equalized_odds: Interval | None

    @property
    def worst(self) -> Slice:
        """The slice with the lowest accuracy."""
        return min(self.slices, key=lambda each: each.accuracy.estimate)


def named_slices(by: str, dataset: data.Dataset) -> Sequence[str]:
    """The slice of each test image of a data set: those that it carries, or else those of a rule.

    Args:
        by: the name of slices of the data set, or one of :data:`RULES`, which makes quarters of the images, in the
            order of a number.
        dataset: the data set.

    Raises:
        UnknownNameError: the data set has no such slices, and there is no such rule.
    """
    import numpy as np

    if by in dataset.slices:
        ids: list[str] = dataset.slices[by].tolist()
        return ids
    if by == CLASS and dataset.targets == "classes":
        return [str(dataset.class_names[n] if dataset.class_names else n) for n in dataset.test_labels]
    if by not in RULES:
        raise UnknownNameError("slice", by, (CLASS, *RULES, *dataset.slices), field="by")
    low, high, function = RULES[by]
    numbers = function(dataset.test_images)
    rank = np.argsort(np.argsort(numbers, kind="stable"), kind="stable")
    part = rank * NUM_PARTS // len(numbers)
    names = [f"1 ({low})", *map(str, range(2, NUM_PARTS)), f"{NUM_PARTS} ({high})"]
    return [names[n] for n in part]


def slices_of(path: Path, column: str) -> list[str]:
    """The slice of each test image, from a column of a CSV file that has one row per test image.

    Raises:
        InputError: the file cannot be read, or has no such column.
    """
    try:
        with files.opened(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            if column in names:
                return [str(row[column]) for row in reader]
    except (OSError, ValueError, StoreError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path} cannot be read: {reason}", field="by", value=str(path)) from None
    raise UnknownNameError(f"column of {path}", column, names, field="by")


def by_slice(predictions: Predictions, ids: Sequence[Any], by: str = "slice") -> BySlice:
    """The accuracies of a configuration by slice.

    Args:
        predictions: its answers.
        ids: the slice of each test image, such as the writer of a digit.
        by: what makes the slices.

    Raises:
        InputError: there is not one id per test image, only one slice, or more than a thousand.

    References:
        Hardt et al. (2016), "Equality of opportunity in supervised learning". fairlearn's ``MetricFrame`` and
        ``equalized_odds_difference`` compute the same.
    """
    import numpy as np

    labels, answers = predictions.labels, predictions.logits.argmax(axis=2)
    if len(ids) != len(labels):
        raise InputError(f"slices need one id per test image, {len(labels):,}; got {len(ids):,}")
    texts = list(map(str, ids))
    names = sorted({*texts}, key=_place_of)
    order = {name: n for n, name in enumerate(names)}
    place = np.array([order[text] for text in texts])
    if not 2 <= len(names) <= MAX_SLICES:
        raise InputError(
            f"slices need at least two different ids and at most {MAX_SLICES:,}; got {len(names):,}"
        )
    classes = predictions.logits.shape[2]
    cell = place * classes + labels  # slice and true class
    cells = len(names) * classes
    held = np.bincount(cell, minlength=cells).reshape(len(names), classes)
    enough = held >= MIN_IMAGES, held.sum(axis=1, keepdims=True) - held >= MIN_IMAGES

    def counts(cell: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        found = np.stack([np.bincount(cell, weight, cells) for weight in weights])
        return found.reshape(len(weights), len(names), classes)

    def statistic(weights: NDArray[np.float32]) -> NDArray[Any]:
        found, images = [], counts(cell, weights)
        for answer in answers:
            answered = counts(cell, weights * (answer == labels))
            wrongly = counts(place * classes + answer, weights) - answered
            with np.errstate(invalid="ignore", divide="ignore"):
                accuracy = answered.sum(axis=2) / images.sum(axis=2)
            others = images.sum(axis=2, keepdims=True) - images
            odds = np.maximum(
                _largest_difference(answered, images, enough[0]),
                _largest_difference(wrongly, others, enough[1]),
            )
            gap = np.nanmax(accuracy, axis=1) - np.nanmin(accuracy, axis=1)
            found.append(np.concatenate([accuracy, gap[:, None], odds[:, None]], axis=1))
        return np.stack(found, axis=1)

    support = np.bincount(place, minlength=len(names))
    sizes = [*support, support.min(), support.min()]  # a gap is no better known than the smallest slice
    intervals = crossed_intervals(statistic, len(labels), predictions.over_seeds, sizes)
    return BySlice(
        predictions,
        by,
        tuple(Slice(name, int(support[n]), intervals[n]) for n, name in enumerate(names)),
        intervals[-2],
        intervals[-1] if max(each.sum(axis=0).max() for each in enough) > 1 else None,
    )


def _place_of(name: str) -> tuple[float, str]:
    """A key that sorts names by the number that they begin with: 2, 10, 20 to 30, missing."""
    number = _NUMBER.match(name)
    return float(number[0]) if number else math.inf, name


def _largest_difference(
    answered: NDArray[Any], images: NDArray[Any], enough: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The largest difference between slices, over classes, of the share of images that are answered with a class: [B].

    Args:
        answered: images that are answered with the class, [B, slices, classes].
        images: all images that could be.
        enough: whether a slice has enough of them to count, [slices, classes].
    """
    import numpy as np

    counted = (images > 0) & enough
    rate = np.divide(answered, images, out=np.zeros(answered.shape), where=counted)
    high = np.where(counted, rate, -np.inf).max(axis=1)
    low = np.where(counted, rate, np.inf).min(axis=1)
    difference: NDArray[np.float64] = np.where(high >= low, high - low, 0.0).max(axis=1)
    return difference
