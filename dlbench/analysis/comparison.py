"""The comparison of models: their ranking, and the differences that the data support. No jax."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dlbench.analysis.configurations import Configuration, configurations, labelled
from dlbench.analysis.failures import measured
from dlbench.analysis.looks import last_look, study_alpha
from dlbench.analysis.outlook import SeedsNeeded, seeds_to_separate
from dlbench.analysis.search import compared_axes, concluded
from dlbench.spec.looks import Look, seeds_at
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.metrics import metric_key, report_metric, selection_metric
from dlbench.stats import PairwiseComparison, Ranking, ranking
from dlbench.storage.results import StudyRecord, TrialResult


@dataclass(frozen=True)
class ModelComparison:
    """What may be concluded from a comparison of models.

    Attributes:
        metric: the metric that is compared.
        trials: the trials that are analysed; for a growing study, those of its last look.
        num_left_out: trials that belong to the next look and are not analysed yet.
        configurations: the configurations of these trials, by label.
        ranking: the ranking of those that completed trials; ``None`` if there are none, or if a growing study
            has not reached its first look.
        look: the last look of a growing study; ``None`` before the first, and for a study of fixed size.
    """

    metric: str
    trials: tuple[TrialResult, ...]
    num_left_out: int
    configurations: dict[str, Configuration]
    ranking: Ranking | None
    look: Look | None

    @property
    def is_conclusive(self) -> bool:
        """Whether a data set has two models or more, each with two seeds or more, so that they can be compared."""
        if self.ranking is None or not self.ranking.comparisons:
            return False
        return all(entry.interval.n > 1 for entry in self.ranking.entries)

    @property
    def winner(self) -> str | None:
        """The model that is significantly better than every other, if there is one data set."""
        return self.ranking.winner if self.ranking and self.is_conclusive else None

    @property
    def winners(self) -> tuple[str, ...]:
        """The models that are significantly better than every other on the same data set."""
        return self.ranking.winners if self.ranking and self.is_conclusive else ()

    @property
    def is_separated(self) -> bool:
        """Whether on every data set, one model is significantly better than every other."""
        return self.ranking is not None and self.is_conclusive and self.ranking.is_separated

    @property
    def supported(self) -> list[PairwiseComparison]:
        """The differences that the data support, the smallest p-value first."""
        if self.ranking is None or not self.is_conclusive:
            return []
        pairs = [pair for pair in self.ranking.comparisons if pair.supported]
        return sorted(pairs, key=lambda pair: pair.p_adjusted)

    @property
    def without_result(self) -> list[str]:
        """The models whose trials have no result, which are in no comparison."""
        compared = {entry.name for entry in self.ranking.entries} if self.ranking else set()
        return [label for label in self.configurations if label not in compared]

    @cached_property
    def at_chance(self) -> dict[str, float]:
        """The models whose accuracy is not shown to be better than chance, with the accuracy of chance.

        Chance is the accuracy of always predicting the most frequent class. A model is at chance if neither its
        interval over seeds nor the intervals over images of all its networks lie above that. Empty where the metric is
        no test accuracy.
        """
        if self.ranking is None or not self.is_conclusive or metric_key(self.metric) != "test_accuracy":
            return {}
        found = {}
        for entry in self.ranking.entries:
            group = self.configurations[entry.name]
            low = entry.interval.low
            alone = [bound for trial in group.trials if (bound := trial.test_accuracy_low) is not None]
            if len(alone) == len(group.trials):
                low = max(low, min(alone))
            if group.chance is not None and low <= group.chance:
                found[entry.name] = group.chance
        return found

    @property
    def not_worse(self) -> list[str]:
        """The models that are not significantly worse than any other, without those at chance."""
        if self.ranking is None or not self.is_conclusive:
            return []
        best = [entry.name for entry in self.ranking.entries if entry.best_rank == 1]
        return [name for name in best if name not in self.at_chance]

    @cached_property
    def outlook(self) -> tuple[SeedsNeeded, ...]:
        """The seeds needed to separate the first model from the second and from the last; empty if it is separated.

        Of several data sets, it is about the first on which no model is separated from all others.
        """
        if self.ranking is None or not self.is_conclusive or self.is_separated:
            return ()
        if any(group.overlap for group in self.configurations.values()):
            return ()  # more repetitions add little to what the folds share
        won = {entry.stratum for entry in self.ranking.entries if entry.name in self.winners}
        stratum = next(entry.stratum for entry in self.ranking.entries if entry.stratum not in won)
        first, *names = [entry.name for entry in self.ranking.entries if entry.stratum == stratum]
        return seeds_to_separate(self.ranking, first, list(dict.fromkeys((*names[:1], *names[-1:]))))


def compared_metric(trials: Iterable[TrialResult]) -> str:
    """The metric by which configurations are compared.

    It is the one that the trials are chosen by, on test images, or on the held-out folds where images are folded.
    """
    trials = [*trials]
    specs = [trial.trial.spec for trial in trials]
    return selection_metric(specs) if any(spec.folds for spec in specs) else reported_metric(trials)


def reported_metric(trials: Iterable[TrialResult]) -> str:
    """The metric that trials are chosen by, on test images."""
    return report_metric(trial.trial.spec for trial in trials)


def compare_models(
    result: StudyRecord, metric: str | None = None, others: Sequence[float] = ()
) -> ModelComparison:
    """Rank the models of a comparison, at the level that the study's last look allows.

    Args:
        result: the study.
        metric: the metric to compare, "test/accuracy" or ``test_accuracy``; by default :func:`compared_metric`.
        others: p-values of further tests of the study, which share its error rate.

    Raises:
        UnknownNameError: there is no such metric.
    """
    metric = metric or compared_metric(result.trials)
    higher_is_better = not metric_named(metric).lower_is_better
    trials, looks = concluded(result), result.spec.looks
    look = last_look(looks, trials)
    if look:
        seeds = seeds_at(look, (trial.seed for trial in trials))
        trials = tuple(trial for trial in trials if trial.seed in seeds)
    groups = labelled(configurations(trials), compared_axes(result))
    values = measured(groups, metric)
    ranked = None
    if values and bool(look) == bool(looks):
        # Accuracies on different data sets are not compared.
        strata = {label: groups[label].spec.dataset for label in values}
        num_pairs = sum(math.comb(size, 2) for size in Counter(strata.values()).values())
        alpha = study_alpha(result, num_pairs + len(others))
        mixtures = [label for label, group in groups.items() if group.is_mixture]
        overlap = max(group.overlap for group in groups.values())
        ranked = ranking(values, 1 - alpha, alpha, higher_is_better, overlap, others, mixtures, strata)
    return ModelComparison(metric, trials, len(result.trials) - len(trials), groups, ranked, look)


def pair_record(pair: PairwiseComparison) -> dict[str, Any]:
    """A comparison of two configurations as a record of JSON values."""
    difference = pair.comparison.difference
    return {
        "a": pair.a,
        "b": pair.b,
        "difference": difference.estimate,
        "low": difference.low,
        "high": difference.high,
        "n": pair.comparison.n,
        "test": pair.comparison.test,
        "p_adjusted": pair.p_adjusted,
        "supported": pair.supported,
    }
