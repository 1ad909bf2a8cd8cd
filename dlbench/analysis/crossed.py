"""Variance by source, of configurations of which every split is trained with every seed. No jax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import Configuration, configurations
from dlbench.spec.claims import Key
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.metrics import report_metric
from dlbench.stats import Component, variance_components
from dlbench.storage.results import TrialResult

SOURCES = ("split", "training")


@dataclass(frozen=True)
class CrossedVariance:
    """The variance of one configuration over splits and seeds.

    Attributes:
        configuration: the configuration.
        metric: the metric.
        components: those of the split, of training (what else the seed changes), and of both together.
        num_splits: the splits, each of which was trained with every seed.
        num_seeds: the seeds.
        test_std: the standard deviation that the choice of the test images adds to a share: √(p(1 - p)/n) of n images;
            ``None`` of other metrics.
    """

    configuration: Configuration
    metric: str
    components: tuple[Component, ...]
    num_splits: int
    num_seeds: int
    test_std: float | None


def crossed_variance(trials: Sequence[TrialResult], metric: str | None = None) -> tuple[CrossedVariance, ...]:
    """The components of variance of each configuration that has at least two splits, each with the same seeds.

    Args:
        trials: the trials of a study; those of a configuration that do not belong to its crossed part are left out.
        metric: the metric; by default the one that is reported of the trials.
    """
    metric = metric or report_metric(trial.trial.spec for trial in trials)
    found = []
    for group in configurations(trials):
        values = _crossed(group.by_seed(metric))
        if not values:
            continue
        splits, seeds = ({key[place] for key in values} for place in range(2))
        components = variance_components(values, SOURCES)
        mean = math.fsum(values.values()) / len(values)
        counts = [sum(map(sum, t.confusion_matrix)) for t in group.complete if t.confusion_matrix]
        is_share = metric_named(metric).factor == 100 and counts
        test_std = math.sqrt(mean * (1 - mean) / counts[0]) if is_share else None
        found.append(CrossedVariance(group, metric, components, len(splits), len(seeds), test_std))
    return tuple(found)


def _crossed(values: Mapping[Key, float]) -> dict[tuple[int, int], float]:
    """The largest set of splits with the same seeds, by split and seed; empty if no two splits share two seeds."""
    seeds: dict[int, set[int]] = {}
    for seed, split, _ in values:
        seeds.setdefault(split, set()).add(seed)
    blocks: dict[frozenset[int], list[int]] = {}
    for split, own in seeds.items():
        blocks.setdefault(frozenset(own), []).append(split)
    shared, splits = max(
        blocks.items(), key=lambda block: len(block[0]) * len(block[1]), default=(frozenset(), [])
    )
    if len(shared) < 2 or len(splits) < 2:
        return {}
    return {(split, seed): values[seed, split, 0] for split in splits for seed in sorted(shared)}
