"""The configuration that a grid selects, and how well the data support that selection. No jax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import Configuration
from dlbench.analysis.failures import measured
from dlbench.analysis.outlook import SeedsNeeded, seeds_to_separate
from dlbench.spec.claims import Key
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.metrics import report_metric, selection_metric
from dlbench.stats import PairwiseComparison, ranking, selection_estimate

#: More configurations than this are not tested: no practical number of seeds separates thousands of pairs.
MAX_RANKED = 50
#: More configurations than this are not resampled, which would take gigabytes of memory.
MAX_RESAMPLED = 1000
_NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class Separation:
    """How many of the other configurations differ significantly from the selected one.

    Attributes:
        num_others: the other configurations.
        num_separated: those that are significantly worse.
        outlook: the seeds needed to separate the selected one from the second; ``None`` if they are separated, and
            with folds.
        comparisons: the comparisons of all candidates, which are named by their place.
    """

    num_others: int
    num_separated: int
    outlook: SeedsNeeded | None
    comparisons: tuple[PairwiseComparison, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the selected configuration is significantly better than every other."""
        return self.num_separated == self.num_others


@dataclass(frozen=True)
class Stability:
    """Whether other seeds would have led to the same selection.

    Attributes:
        num_seeds: seeds that all configurations have a result of.
        share: the part of bootstrap resamples of these seeds in which the selected configuration comes first;
            ``None`` if another one comes first on these seeds already.
    """

    num_seeds: int
    share: float | None


@dataclass(frozen=True)
class GridSelection:
    """The configuration of a grid with the best mean of a metric.

    Attributes:
        metric: the metric.
        reported: the same on test images; of trials that are chosen by another, the one that they report.
        selected: the configuration.
        second: the next best; ``None`` if there is no other.
        num_candidates: the configurations that have a result, the selected one included; diverged trials count.
        has_replicates: whether each of them has at least two seeds, so that differences can be tested.
        separation: the tests against the others; ``None`` without replicates, or with more than
            :data:`MAX_RANKED` candidates.
        stability: the bootstrap; ``None`` without two shared seeds, with folds, which are not independent, or with
            more than :data:`MAX_RESAMPLED` candidates.
    """

    metric: str
    reported: str
    selected: Configuration
    second: Configuration | None
    num_candidates: int
    has_replicates: bool
    separation: Separation | None = None
    stability: Stability | None = None


def select(
    groups: Sequence[Configuration], metric: str | None = None, others: Sequence[float] = ()
) -> GridSelection | None:
    """Select the first configuration of a grid, and test and resample the selection.

    Args:
        groups: the configurations, sorted by the metric as ``best_first(groups, metric)`` sorts them.
        metric: the metric to select by, "val/accuracy" or ``best_val_accuracy``; by default the one that their trials
            are chosen by.
        others: p-values of further tests of the study, which share its error rate.

    Returns:
        The selection; ``None`` if no trial completed.

    Raises:
        UnknownNameError: there is no such metric.
    """
    if not any(group.complete for group in groups):
        return None
    specs = [group.spec for group in groups]
    metric, reported = metric or selection_metric(specs), report_metric(specs)
    named = {str(number): group for number, group in enumerate(groups)}
    values = measured(named, metric)
    groups = [named[name] for name in values]
    second = groups[1] if len(groups) > 1 else None
    has_replicates = all(len(each) > 1 for each in values.values())
    if second is None or not has_replicates:
        return GridSelection(metric, reported, groups[0], second, len(groups), has_replicates)
    by_place = {str(place): each for place, each in enumerate(values.values())}
    mixtures = [str(place) for place, group in enumerate(groups) if group.is_mixture]
    higher_is_better = not metric_named(metric).lower_is_better
    overlap = max(group.overlap for group in groups)
    return GridSelection(
        metric,
        reported,
        groups[0],
        second,
        len(groups),
        has_replicates,
        _separation(by_place, higher_is_better, overlap, others, mixtures)
        if len(groups) <= MAX_RANKED
        else None,
        None if overlap else _stability(by_place, higher_is_better),
    )


_Values = dict[str, dict[Key, float]]


def _separation(
    values: _Values, higher_is_better: bool, overlap: float, others: Sequence[float], mixtures: Sequence[str]
) -> Separation:
    ranked = ranking(
        values, higher_is_better=higher_is_better, overlap=overlap, others=others, mixtures=mixtures
    )
    pairs = [pair for pair in ranked.comparisons if "0" in (pair.a, pair.b)]
    outlook = () if overlap else seeds_to_separate(ranked, "0", ["1"])
    return Separation(
        len(pairs),
        sum(pair.supported for pair in pairs),
        outlook[0] if outlook else None,
        ranked.comparisons,
    )


def _stability(values: _Values, higher_is_better: bool) -> Stability | None:
    shared = set.intersection(*(set(group) for group in values.values()))
    if len(shared) < 2 or len(values) > MAX_RESAMPLED:
        return None
    estimate = selection_estimate(values, num_resamples=_NUM_RESAMPLES, higher_is_better=higher_is_better)
    return Stability(len(shared), estimate.probability_first if estimate.selected == "0" else None)
