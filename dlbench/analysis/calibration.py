"""How far a network's probabilities can be trusted: calibration error, Brier score, NLL, temperature. No jax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dlbench.analysis.predictions import Predictions, validation_of
from dlbench.errors import InputError, StoreError
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_intervals

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Bins = Literal["width", "mass"]
#: Number of bins of a calibration error, as in Guo et al. (2017).
NUM_BINS = 15
#: What is measured, in order. Lower is better throughout.
MEASURES = (
    "nll",
    "brier",
    "ece",
    "ece_equal_mass",
    "classwise_ece",
    "classwise_ece_equal_mass",
)
#: The largest value of those that have one; the least is 0.
_MOST = {"nll": math.inf, "brier": 2.0}
#: Temperatures that are tried lie between exp(-bound) and exp(bound).
_LOG_BOUND = 4.0


@dataclass(frozen=True)
class ReliabilityBin:
    """The answers of all seeds whose confidence lies in one bin.

    Attributes:
        low: lower end of the bin.
        high: its upper end.
        count: number of answers.
        confidence: their mean confidence; `nan` where there is none.
        accuracy: the share of them that is right; likewise.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """The calibration of a configuration, before and after its logits are divided by a temperature.

    Attributes:
        predictions: what it was computed from.
        before: each of :data:`MEASURES`, a mean over seeds with its interval over seeds and images.
        after: likewise, after scaling; ``None`` where there are no validation logits.
        change: after minus before, of the same seeds and images.
        temperatures: the temperature of each seed, fitted on its validation images; above 1 where the network is
            too confident.
        problem: why there is no temperature; empty if there is one.
        reliability: the bins of equal width of the reliability diagram, before scaling.
        reliability_after: likewise, after scaling.
    """

    predictions: Predictions
    before: Mapping[str, Interval]
    after: Mapping[str, Interval] | None
    change: Mapping[str, Interval] | None
    temperatures: tuple[float, ...]
    problem: str
    reliability: tuple[ReliabilityBin, ...] = field(repr=False)
    reliability_after: tuple[ReliabilityBin, ...] = field(repr=False)


def calibration(predictions: Predictions) -> Calibration:
    """Measure the calibration of a configuration on test images, and scale it by temperatures of validation images."""
    import numpy as np

    labels, raw = predictions.labels, probabilities(predictions.logits)
    try:
        held = [validation_of(trial, predictions.dataset) for trial in predictions.trials]
    except StoreError as error:
        before = crossed_intervals(
            lambda weights: measure(raw, labels, weights), len(labels), predictions.over_seeds
        )
        return Calibration(
            predictions,
            _named(before),
            None,
            None,
            (),
            str(error),
            reliability(raw, labels),
            (),
        )
    temperatures = tuple(temperature(*each) for each in held)
    scaled = probabilities(predictions.logits / np.array(temperatures, np.float32)[:, None, None])

    def both(weights: NDArray[np.float32]) -> NDArray[Any]:
        first, second = measure(raw, labels, weights), measure(scaled, labels, weights)
        return np.concatenate([first, second, second - first], axis=2)

    found = crossed_intervals(both, len(labels), predictions.over_seeds)
    number = len(MEASURES)
    first, second = _named(found[:number]), _named(found[number : 2 * number])
    third = dict(zip(MEASURES, found[2 * number :], strict=True))
    return Calibration(
        predictions,
        first,
        second,
        third,
        temperatures,
        "",
        reliability(raw, labels),
        reliability(scaled, labels),
    )


def _named(found: Sequence[Interval]) -> dict[str, Interval]:
    return {
        name: interval.within(0.0, _MOST.get(name, 1.0))
        for name, interval in zip(MEASURES, found, strict=True)
    }


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The softmax of logits over their last axis."""
    from scipy.special import softmax

    found: NDArray[np.float64] = softmax(logits.astype(float), axis=-1)
    return found


def temperature(logits: NDArray[np.float32], labels: NDArray[np.integer[Any]]) -> float:
    """The number by which logits are divided so that their NLL is least: temperature scaling.

    Args:
        logits: float32 [M, C], of images that took no part in training.
        labels: integers [M].

    Raises:
        InputError: there are no images.

    References:
        Guo et al. (2017), "On calibration of modern neural networks".
    """
    import numpy as np
    from scipy.optimize import minimize_scalar

    if not len(labels):
        raise InputError("a temperature is fitted on at least one image; got none.")
    own = logits[np.arange(len(labels)), labels].astype(float)
    rest = logits.astype(float)

    def nll(log_t: float) -> float:
        scale = math.exp(-log_t)
        top = rest.max(axis=1)
        logs = top * scale + np.log(np.exp((rest - top[:, None]) * scale).sum(axis=1))
        return float((logs - own * scale).mean())

    found = minimize_scalar(nll, bounds=(-_LOG_BOUND, _LOG_BOUND), method="bounded", options={"xatol": 1e-7})
    return math.exp(float(found.x))


def measure(
    chances: NDArray[np.float64], labels: NDArray[np.integer[Any]], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Each of :data:`MEASURES`, of weighted images.

    NLL and Brier score (the sum over classes of squared differences, 0 to 2) are those of scikit-learn's ``log_loss``
    and ``brier_score_loss``. A calibration error is the mean over images of |accuracy - confidence| of their bin. The
    top label's takes the confidence of the answer; the class-wise one is the mean over classes, each against the rest.
    The bins have equal width, or hold equally many images.

    Args:
        chances: probabilities [S, N, C].
        labels: integers [N].
        weights: [B, N].

    Returns:
        [B, S, 6].

    References:
        Brier (1950), Monthly Weather Review 78(1). Naeini et al. (2015), "Obtaining well calibrated probabilities using
        Bayesian binning". Kull et al. (2019), "Beyond temperature scaling", for the class-wise error. Nixon et al.
        (2019), "Measuring calibration in deep learning", for bins of equal mass.
    """
    import numpy as np

    weights = weights / weights.sum(axis=1, keepdims=True)
    truth = labels[:, None] == np.arange(chances.shape[2])
    found = []
    for each in chances:
        own = np.maximum(each[truth], np.finfo(float).tiny)
        answers = each.argmax(axis=1)
        sure, right = each.max(axis=1), answers == labels
        columns = [weights @ -np.log(own), weights @ ((each - truth) ** 2).sum(axis=1)]
        columns += [_error(sure[:, None], right[:, None], weights, kind)[:, 0] for kind in _KINDS]
        columns += [_error(each, truth, weights, kind).mean(axis=1) for kind in _KINDS]
        found.append(np.stack(columns, axis=1))
    return np.stack(found, axis=1)


_KINDS: Sequence[Bins] = ("width", "mass")


def _error(
    sure: NDArray[np.float64], right: NDArray[np.bool_], weights: NDArray[np.float32], kind: Bins
) -> NDArray[np.float64]:
    """Calibration errors [B, K] of K questions: confidence and truth [N, K] of each image, weights [B, N]."""
    import numpy as np

    count, questions = sure.shape
    excess = np.zeros((count, questions, NUM_BINS), np.float32)
    place = np.stack([bins_of(column, kind) for column in sure.T], axis=1)
    np.put_along_axis(excess, place[:, :, None], (right - sure)[:, :, None].astype(np.float32), axis=2)
    sums = weights @ excess.reshape(count, -1)
    errors: NDArray[np.float64] = np.abs(sums.reshape(len(weights), questions, NUM_BINS)).sum(axis=2)
    return errors


def bins_of(sure: NDArray[np.float64], kind: Bins) -> NDArray[np.intp]:
    """The bin of each confidence, 0 to :data:`NUM_BINS` - 1: [i/15, (i+1)/15), or ranks of equal number; ties share."""
    import numpy as np

    if kind == "width":
        return np.minimum((sure * NUM_BINS).astype(np.intp), NUM_BINS - 1)
    edges = np.quantile(sure, np.arange(1, NUM_BINS) / NUM_BINS)
    return np.searchsorted(edges, sure, side="right")


def reliability(chances: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram, of equal width; the answers of all seeds together.

    Args:
        chances: probabilities [S, N, C].
        labels: integers [N].
    """
    import numpy as np

    sure, right = chances.max(axis=2).ravel(), (chances.argmax(axis=2) == labels).ravel()
    place = bins_of(sure, "width")
    numbers = np.bincount(place, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(place, sure, NUM_BINS) / numbers
        accuracy = np.bincount(place, right, NUM_BINS) / numbers
    return tuple(
        ReliabilityBin(
            i / NUM_BINS, (i + 1) / NUM_BINS, int(numbers[i]), float(confidence[i]), float(accuracy[i])
        )
        for i in range(NUM_BINS)
    )
