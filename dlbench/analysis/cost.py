"""What each configuration costs, and whether a dearer one is shown to be better. No jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlbench.analysis.predictions import Predictions
from dlbench.models.counts import Counts
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_interval, resample_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Costs that can be compared, in order, with the name of the attribute of :class:`Cost`.
MEASURES = ("parameters", "flops", "train_s")
#: A configuration is dearer than another if it costs this much more.
DEARER = 1.05


@dataclass(frozen=True)
class Cost:
    """The costs of a configuration beside its test accuracy.

    Attributes:
        accuracy: test accuracy, over seeds and images.
        parameters: number of parameters; ``None`` if unknown.
        size_bytes: bytes of the parameters in float32; likewise.
        flops: operations of one forward pass of one image; ``None`` where they cannot be counted.
        train_s: mean training time of a trial, in seconds.
        images_per_s: mean number of training images per second.
    """

    accuracy: Interval
    parameters: int | None
    size_bytes: int | None
    flops: int | None
    train_s: float | None
    images_per_s: float | None


@dataclass(frozen=True)
class NotShownBetter:
    """A configuration that costs more than another, and is not shown to be more accurate.

    Attributes:
        dearer: its label.
        cheaper: the label of the most accurate configuration that is cheaper.
        ratio: how many times as much it costs.
        difference: accuracy of the dearer minus that of the cheaper, over the seeds and images that they share.
    """

    dearer: str
    cheaper: str
    ratio: float
    difference: Interval


@dataclass(frozen=True)
class Costs:
    """The costs of a study's configurations.

    Attributes:
        costs: by label.
        fronts: by measure, the labels of the Pareto front of the means, the cheapest first.
        measure: the measure by which `not_better` calls a configuration dearer.
        not_better: dearer configurations that are not shown to be better.
    """

    costs: Mapping[str, Cost]
    fronts: Mapping[str, tuple[str, ...]]
    measure: str
    not_better: tuple[NotShownBetter, ...]


def costs_of(found: Mapping[str, Predictions], counted: Mapping[str, Counts]) -> Costs:
    """The costs of configurations.

    Args:
        found: their predictions by label.
        counted: parameters and operations by label, where they can be counted.
    """
    costs = {label: _cost(each, counted.get(label)) for label, each in found.items()}
    fronts = {name: front for name in MEASURES if (front := _front(costs, name))}
    measure = next((name for name in ("flops", "parameters", "train_s") if name in fronts), "")
    return Costs(costs, fronts, measure, tuple(_not_better(costs, found, measure)) if measure else ())


def _cost(found: Predictions, counts: Counts | None) -> Cost:
    group = found.configuration
    right = _right(found)
    images = right.shape[1]
    resampled = (resample_weights(images) @ right.T / images).mean(axis=1)
    parameters = next((trial.num_params for trial in found.trials if trial.num_params), None)
    return Cost(
        crossed_interval(right.mean(axis=1, dtype=float), resampled, images),
        parameters,
        None if parameters is None else 4 * parameters,
        counts.forward_flops if counts else None,
        group.mean("train_time_s"),
        group.mean("images_per_s"),
    )


def _right(found: Predictions) -> NDArray[np.float32]:
    """Whether each answer is right, as 1 or 0: [S, N]."""
    import numpy as np

    right: NDArray[np.float32] = (found.logits.argmax(axis=2) == found.labels).astype(np.float32)
    return right


def _front(costs: Mapping[str, Cost], name: str) -> tuple[str, ...]:
    """The Pareto front of the means, the cheapest first; empty where a cost is unknown."""
    known = {label: getattr(cost, name) for label, cost in costs.items()}
    if None in known.values():
        return ()
    reached: list[str] = []
    for label in sorted(costs, key=lambda label: (known[label], -costs[label].accuracy.estimate)):
        if not reached or costs[label].accuracy.estimate > costs[reached[-1]].accuracy.estimate:
            reached.append(label)
    return tuple(reached)


def _not_better(
    costs: Mapping[str, Cost], found: Mapping[str, Predictions], measure: str
) -> Sequence[NotShownBetter]:
    said = []
    for label, cost in costs.items():
        price = getattr(cost, measure)
        cheaper = [other for other in costs if price > DEARER * getattr(costs[other], measure)]
        if not cheaper:
            continue
        best = max(cheaper, key=lambda other: costs[other].accuracy.estimate)
        difference = accuracy_difference(found[label], found[best])
        if difference is not None and not difference.low > 0:
            said.append(NotShownBetter(label, best, price / getattr(costs[best], measure), difference))
    return said


def accuracy_difference(first: Predictions, other: Predictions) -> Interval | None:
    """Accuracy of the first minus that of the other, of the same seeds on the same images; ``None`` without any."""
    places = {(trial.seed, trial.split_seed): n for n, trial in enumerate(other.trials)}
    pairs = [
        (n, places[trial.seed, trial.split_seed])
        for n, trial in enumerate(first.trials)
        if (trial.seed, trial.split_seed) in places
    ]
    if not pairs or first.dataset.digest != other.dataset.digest:
        return None
    ours, theirs = zip(*pairs, strict=True)
    difference = _right(first)[list(ours)] - _right(other)[list(theirs)]
    images = difference.shape[1]
    resampled = (resample_weights(images) @ difference.T / images).mean(axis=1)
    return crossed_interval(difference.mean(axis=1, dtype=float), resampled, images)
