"""Models compared over several data sets: mean ranks, performance profiles, probability of improvement. No jax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import axes_of, configurations
from dlbench.analysis.failures import measured
from dlbench.spec.metrics import REPORT_METRIC
from dlbench.stats import (
    Interval,
    MeanRanks,
    Profile,
    mean_ranks,
    performance_profiles,
    probability_of_improvement,
)
from dlbench.storage.results import TrialResult

#: Multiples of the least error rate on a data set, of which profiles give the share of data sets.
RATIOS = (1.0, 1.1, 1.5, 2.0)


@dataclass(frozen=True)
class OverDatasets:
    """The configurations of a study compared over its data sets.

    Attributes:
        ranks: their mean ranks by test accuracy.
        profiles: for each, the share of data sets on which its error rate is at most a multiple of the least.
        improvements: for each but the first, the probability that a trial of the first is better than one of it.
    """

    ranks: MeanRanks
    profiles: dict[str, Profile]
    improvements: dict[str, Interval]


def over_datasets(trials: Sequence[TrialResult]) -> OverDatasets | None:
    """Compare the configurations of a study over its data sets; ``None`` unless all have results on two or more.

    Diverged trials count with an accuracy of 0.
    """
    axes = axes_of(trials)
    others = [name for name in axes if name not in ("dataset", "split_seed")]
    if "dataset" not in axes or not others:
        return None
    groups = {(group.label(others), group.spec.dataset): group for group in configurations(trials)}
    found = measured(
        {f"{label}\n{dataset}": group for (label, dataset), group in groups.items()}, REPORT_METRIC
    )
    accuracies: dict[str, dict[str, list[float]]] = {}
    for name, values in found.items():
        label, _, dataset = name.partition("\n")
        accuracies.setdefault(label, {})[dataset] = list(values.values())
    tasks = {dataset for by_dataset in accuracies.values() for dataset in by_dataset}
    if len(accuracies) < 2 or len(tasks) < 2 or any(len(each) < len(tasks) for each in accuracies.values()):
        return None
    errors = {
        label: {dataset: [1 - value for value in values] for dataset, values in by_dataset.items()}
        for label, by_dataset in accuracies.items()
    }
    ranks = mean_ranks(accuracies)
    first, *rest = ranks.ranks
    return OverDatasets(
        ranks,
        performance_profiles(errors, RATIOS),
        {other: probability_of_improvement(accuracies, first, other) for other in rest},
    )
