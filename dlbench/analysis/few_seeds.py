"""What studies with few seeds would have concluded, of a study with many: the best of N, and wrong winners. No jax."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import Configuration, axes_of, best_first, configurations, labelled
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.metrics import report_metric
from dlbench.stats import expected_best, wrong_winner
from dlbench.storage.results import TrialResult

#: With fewer seeds of every configuration, nothing is said of studies with few of them.
MIN_SEEDS = 100
#: More configurations than this are not compared in pairs.
MAX_CONFIGURATIONS = 12
#: The numbers of seeds of such studies.
STUDY_SEEDS = (1, 3, 5, 10)
BEST_OF = (10, 100)


@dataclass(frozen=True)
class Spread:
    """The values of one configuration over its seeds.

    Attributes:
        configuration: the configuration.
        values: one number per seed.
        best_of: the expected best of as many seeds as :data:`BEST_OF` says.
    """

    configuration: Configuration
    values: tuple[float, ...]
    best_of: tuple[float, ...]


@dataclass(frozen=True)
class WrongWinner:
    """How often studies with few seeds would name the wrong one of two configurations.

    Attributes:
        better: the label of the configuration with the better mean.
        worse: that of the other one.
        difference: between their means, at least 0.
        shares: the share of wrong studies, for each number of :data:`STUDY_SEEDS`.
    """

    better: str
    worse: str
    difference: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class FewSeeds:
    """What few seeds would have said.

    Attributes:
        metric: the metric.
        spreads: one per configuration, by label, the best first.
        pairs: one per pair of configurations, the smallest difference first.
    """

    metric: str
    spreads: dict[str, Spread]
    pairs: tuple[WrongWinner, ...]


def few_seeds(trials: Sequence[TrialResult], metric: str | None = None) -> FewSeeds | None:
    """What studies with few seeds would have concluded.

    Args:
        trials: the trials of a study.
        metric: the metric; by default the one that is reported of the trials.

    Returns:
        ``None`` unless every configuration has :data:`MIN_SEEDS` seeds, and there are 2 to
        :data:`MAX_CONFIGURATIONS` of them.
    """
    groups = best_first(configurations(trials))
    if not 2 <= len(groups) <= MAX_CONFIGURATIONS or any(len(group.complete) < MIN_SEEDS for group in groups):
        return None
    metric = metric or report_metric(trial.trial.spec for trial in trials)
    lower_is_better = metric_named(metric).lower_is_better
    spreads = {}
    for label, group in labelled(groups, axes_of(trials)).items():
        values = tuple(group.by_seed(metric).values())
        best = expected_best(values, max(BEST_OF), not lower_is_better)
        spreads[label] = Spread(group, values, tuple(best[number - 1] for number in BEST_OF))
    sign = -1.0 if lower_is_better else 1.0
    pairs = []
    for first, other in itertools.combinations(spreads, 2):
        means = {label: sign * statistics.fmean(spreads[label].values) for label in (first, other)}
        better, worse = sorted(means, key=means.__getitem__, reverse=True)
        a, b = ([sign * value for value in spreads[label].values] for label in (better, worse))
        shares = tuple(wrong_winner(a, b, number) for number in STUDY_SEEDS)
        pairs.append(WrongWinner(better, worse, means[better] - means[worse], shares))
    return FewSeeds(metric, spreads, tuple(sorted(pairs, key=lambda pair: pair.difference)))
