"""What each configuration costs, and whether a costlier one is shown to be better. No jax."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlbench.analysis.energy import DEFAULT, UNKNOWN, Power, Rates
from dlbench.analysis.failures import place_of
from dlbench.analysis.predictions import Predictions
from dlbench.models.counts import Counts
from dlbench.stats import Interval
from dlbench.stats.crossed import crossed_mean, crossed_share

#: Costs that can be compared, the first that is known before the others; attributes of :class:`Cost`.
MEASURES = ("flops", "parameters", "memory_bytes")
#: A configuration is costlier than another if it costs this much more.
COSTLIER = 1.05


@dataclass(frozen=True)
class Cost:
    """The costs of a configuration beside its test accuracy.

    Attributes:
        accuracy: test accuracy, over seeds and images.
        parameters: number of parameters; ``None`` if unknown.
        size_bytes: bytes of the parameters in float32; likewise.
        memory_bytes: bytes that training needs at once, with the images of the data set, as XLA plans it; ``None`` in
            studies of earlier releases.
        flops: operations of one forward pass of one image; ``None`` where they cannot be counted.
        train_s: mean training time of a trial, in seconds.
        images_per_s: mean number of training images per second.
        energy_j: energy of training and evaluating a trial, in joules; ``None`` where the power is not known.
        carbon_g: carbon dioxide equivalent of that energy, in grams; likewise.
        price: price of the time of a trial by a stated rate; ``None`` without one.
    """

    accuracy: Interval
    parameters: int | None
    size_bytes: int | None
    memory_bytes: int | None
    flops: int | None
    train_s: float | None
    images_per_s: float | None
    energy_j: float | None = None
    carbon_g: float | None = None
    price: float | None = None


@dataclass(frozen=True)
class NotShownBetter:
    """A configuration that costs more than another, and is not shown to be more accurate.

    Attributes:
        costlier: its label.
        cheaper: the label of the most accurate configuration that is cheaper.
        ratio: how many times as much it costs.
        difference: accuracy of the costlier minus that of the cheaper, over the seeds and images that they share.
    """

    costlier: str
    cheaper: str
    ratio: float
    difference: Interval


@dataclass(frozen=True)
class Costs:
    """The costs of a study's configurations.

    Attributes:
        costs: by label.
        fronts: by measure, the labels of the Pareto front of the means, the cheapest first. There is none of training
            times, and of the energy that follows from them: trials that share the machine do not show which is faster.
        measure: the measure by which `not_better` calls a configuration costlier; empty where none is known.
        not_better: costlier configurations that are not shown to be better.
        power: the power of a worker, by which energy is computed, and where it comes from.
        rates: by what carbon dioxide and price are computed.
        worker_s: seconds of all workers that the whole study took, waiting and compiling included.
    """

    costs: Mapping[str, Cost]
    fronts: Mapping[str, tuple[str, ...]]
    measure: str
    not_better: tuple[NotShownBetter, ...]
    power: Power = UNKNOWN
    rates: Rates = DEFAULT
    worker_s: float = 0.0


def costs_of(
    found: Mapping[str, Predictions],
    counted: Mapping[str, Counts],
    power: Power = UNKNOWN,
    rates: Rates = DEFAULT,
    worker_s: float = 0.0,
) -> Costs:
    """The costs of configurations.

    Args:
        found: their predictions by label.
        counted: parameters and operations by label, where they can be counted.
        power: the power of a worker.
        rates: by what carbon dioxide and price are computed.
        worker_s: seconds of all workers that the study took.
    """
    costs = {label: _cost(each, counted.get(label), power, rates) for label, each in found.items()}
    fronts = {name: front for name in MEASURES if (front := _front(costs, name))}
    measure = next(iter(fronts), "")
    not_better = tuple(_not_better(costs, found, measure)) if measure else ()
    return Costs(costs, fronts, measure, not_better, power, rates, worker_s)


def _cost(found: Predictions, counts: Counts | None, power: Power, rates: Rates) -> Cost:
    group = found.configuration
    parameters = next((trial.num_params for trial in found.trials if trial.num_params), None)
    times = [group.mean(name) for name in ("train_time_s", "eval_time_s")]
    busy_s = sum(seconds for seconds in times if seconds is not None)
    energy_j = power.energy_j(busy_s)
    return Cost(
        crossed_share(found.right, found.over_seeds),
        parameters,
        None if parameters is None else 4 * parameters,
        max((trial.memory_bytes for trial in found.trials if trial.memory_bytes), default=None),
        counts.forward_flops if counts else None,
        times[0],
        group.mean("images_per_s"),
        energy_j,
        rates.carbon_of(energy_j),
        rates.price_of(busy_s),
    )


def _front(costs: Mapping[str, Cost], name: str) -> tuple[str, ...]:
    """The Pareto front of the means, the cheapest first; empty where a cost is unknown."""
    known = {label: getattr(cost, name) for label, cost in costs.items()}
    if None in known.values():
        return ()
    return pareto_front(known, {label: cost.accuracy.estimate for label, cost in costs.items()})


def pareto_front(costs: Mapping[str, float], merits: Mapping[str, float]) -> tuple[str, ...]:
    """The labels to which no other is as cheap and better, the cheapest first.

    Args:
        costs: the cost of each label.
        merits: the merit of each label; higher is better.
    """
    reached: list[str] = []
    for label in sorted(merits, key=lambda label: (costs[label], -merits[label])):
        if not reached or merits[label] > merits[reached[-1]]:
            reached.append(label)
    return tuple(reached)


def _not_better(
    costs: Mapping[str, Cost], found: Mapping[str, Predictions], measure: str
) -> Sequence[NotShownBetter]:
    said = []
    for label, cost in costs.items():
        price = getattr(cost, measure)
        cheaper = [other for other in costs if price > COSTLIER * getattr(costs[other], measure)]
        if not cheaper:
            continue
        best = max(cheaper, key=lambda other: costs[other].accuracy.estimate)
        difference = accuracy_difference(found[label], found[best])
        if difference is not None and not difference.low > 0:
            said.append(NotShownBetter(label, best, price / getattr(costs[best], measure), difference))
    return said


def accuracy_difference(first: Predictions, other: Predictions) -> Interval | None:
    """Accuracy of the first minus that of the other, of the same replicates and images; ``None`` without any."""
    ours, theirs = ({place_of(trial): n for n, trial in enumerate(each.trials)} for each in (first, other))
    pairs = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if not pairs or first.dataset.digest != other.dataset.digest:
        return None
    differences = first.right[[n for n, _ in pairs]] - other.right[[n for _, n in pairs]]
    group = max(first.configuration, other.configuration, key=lambda each: each.overlap)
    return crossed_mean(
        differences, functools.partial(group.over_seeds, [first.trials[n] for n, _ in pairs])
    ).within(-1.0, 1.0)
