"""Configurations: groups of trials that differ only in their seeds. No jax."""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from operator import attrgetter, ne
from typing import Any

from dlbench.analysis.failures import measured, place_of
from dlbench.errors import InputError
from dlbench.records import TrialStatus
from dlbench.spec.claims import Key
from dlbench.spec.metrics import bounds_of, metric_of, selection_metric
from dlbench.spec.metrics import metric as metric_named
from dlbench.spec.naming import model_names, phrase
from dlbench.spec.trial import PARTS, REPLICATES, SEEDS, TrialSpec
from dlbench.stats import Interval, corrected_interval, crossed_mean, wilson_interval
from dlbench.storage.results import TrialResult

#: Fields that may be an axis of a heat map.
NUMERIC = ("learning_rate", "weight_decay", "batch_size", "num_epochs", "dropout", "train_size")
#: Fields that captions name even at their default.
_ALWAYS = (
    "model",
    "dataset",
    "train_size",
    "val_size",
    "optimizer",
    "learning_rate",
    "batch_size",
    "num_epochs",
    "seed",
)


#: From fewer values than this, no interval is shown: Student's interval of two values reaches 6.4 times their
#: distance to either side of the mean, which says less than the two values do.
MIN_FOR_INTERVAL = 3


@dataclass(frozen=True)
class Summary:
    """A metric over the seeds of a configuration.

    Attributes:
        interval: the mean with its Student t interval.
        values: the values, ordered by seed.
        is_mixture: whether some values are those of trials that collapsed and others are not, so that the mean
            describes neither.
    """

    interval: Interval
    values: tuple[float, ...]
    is_mixture: bool = False

    @property
    def has_interval(self) -> bool:
        """Whether there are enough values for an interval that says more than the values."""
        return len(self.values) >= MIN_FOR_INTERVAL


@dataclass(frozen=True)
class Configuration:
    """Trials that differ only in their seeds.

    Attributes:
        spec: their specification, with seeds of 0.
        trials: the trials.
        models: the names of the models that it is shown beside (:func:`dlbench.spec.naming.model_names`).

    Metrics are named "test/accuracy" or ``test_accuracy``.
    """

    spec: TrialSpec
    trials: tuple[TrialResult, ...]
    models: Mapping[str, str] = field(default_factory=dict)

    @functools.cached_property
    def complete(self) -> list[TrialResult]:
        """The trials that completed."""
        return [trial for trial in self.trials if trial.status is TrialStatus.COMPLETE]

    @property
    def overlap(self) -> float:
        """Validation images per training image of cross-validation, whose training sets overlap; 0 for one split.

        See :func:`dlbench.stats.corrected_interval`.
        """
        return overlap_of(self.spec)

    def summary(self, metric: str, confidence: float = 0.95) -> Summary | None:
        """The values of a metric and their mean with its interval; ``None`` if no trial completed."""
        found = sorted(self.valued(metric), key=lambda each: place_of(each[0]))
        if not found:
            return None
        trials, values = zip(*found, strict=True)
        mixed = self.is_mixture and any(trial.collapsed for trial in self.complete)
        interval = self.over_seeds(trials, values, confidence).within(*bounds_of(metric))
        return Summary(interval, values, mixed)

    @functools.cached_property
    def crossed(self) -> list[str]:
        """The seeds that are crossed, by field; empty if one seed tells the trials apart."""
        fields = axes_of(self.trials, [name for name in TrialSpec.model_fields if name not in SEEDS])
        return fields if len(fields) > 1 else []

    def by_crossed_seeds(self, valued: Iterable[tuple[TrialResult, float]]) -> dict[tuple[Any, ...], float]:
        """The values of trials by the seeds that are crossed."""
        return {
            tuple(getattr(trial.trial.spec, name) for name in self.crossed): value for trial, value in valued
        }

    def over_seeds(
        self, trials: Iterable[TrialResult], values: Iterable[float], confidence: float = 0.95
    ) -> Interval:
        """The mean of one value for each of some trials, with its interval over seeds.

        Seeds that are crossed count once, and folds are corrected for training sets that overlap.
        """
        values = [*values]
        if self.crossed and not self.overlap:
            by_seeds = self.by_crossed_seeds(zip(trials, values, strict=True))
            with contextlib.suppress(InputError):  # not every combination
                return crossed_mean(by_seeds, self.crossed, confidence)
        return corrected_interval(values, self.overlap, confidence)

    @functools.cached_property
    def failures(self) -> list[TrialResult]:
        """The trials that diverged or collapsed (:attr:`~dlbench.storage.results.TrialResult.collapsed`)."""
        return [trial for trial in self.trials if trial.collapsed]

    @property
    def is_mixture(self) -> bool:
        """Whether some trials failed and others did not, so that normal theory does not hold."""
        return bool(self.failures) and not all(trial.collapsed for trial in self.complete)

    @property
    def failure_rate(self) -> Interval | None:
        """The share of trials that failed, with its Wilson interval; ``None`` if no trial has a result."""
        num_ended = sum(trial.status.is_finished for trial in self.trials)
        return wilson_interval(len(self.failures), num_ended) if num_ended else None

    @property
    def survivors(self) -> Configuration:
        """The configuration without the trials that failed."""
        return replace(self, trials=tuple(trial for trial in self.trials if not trial.collapsed))

    def interval(self, metric: str, confidence: float = 0.95) -> Interval | None:
        """The mean of a metric with its interval over seeds; ``None`` if no trial completed."""
        summary = self.summary(metric, confidence)
        return summary.interval if summary else None

    def valued(self, metric: str) -> list[tuple[TrialResult, float]]:
        """The completed trials that have a metric, with its value."""
        return [(trial, value) for trial in self.complete if (value := trial.value(metric)) is not None]

    def mean(self, metric: str) -> float | None:
        """The mean of a metric, which takes less time than its interval; ``None`` if no trial completed."""
        values = [value for _, value in self.valued(metric)]
        return statistics.fmean(values) if values else None

    def by_seed(self, metric: str) -> dict[Key, float]:
        """The values of a metric by seed, split seed and fold, without the trials that lack one."""
        return {place_of(trial): value for trial, value in self.valued(metric)}

    def sort_key(self, metric: str | None = None) -> tuple[float, float]:
        """A key that sorts the best configuration first: by the mean of a metric, then by validation loss.

        Diverged trials count with the worst value of the metric.

        Args:
            metric: the metric; by default the one that its trials are chosen by.
        """
        metric = metric or metric_of(self.spec, "val")
        values, loss = [*measured({"": self}, metric).get("", {}).values()], self.mean("val/loss")
        if not values:
            return math.inf, math.inf
        value = statistics.fmean(values)
        sign = 1 if metric_named(metric).lower_is_better else -1
        return sign * value, math.inf if loss is None else loss

    @property
    def chance(self) -> float | None:
        """The test accuracy of a model that always predicts the most frequent class.

        Returns:
            An accuracy in [0, 1]; ``None`` if no trial has a confusion matrix.
        """
        chances = (trial.chance for trial in self.complete)
        return next((chance for chance in chances if chance is not None), None)

    def label(self, axes: Sequence[str]) -> str:
        """The values of the fields that distinguish it from other configurations."""
        return ", ".join(phrase(name, getattr(self.spec, name), self.models) for name in axes or ("model",))


def overlap_of(spec: TrialSpec) -> float:
    """Validation images per training image of cross-validation; 0 for one split."""
    return 1 / (spec.folds - 1) if spec.folds else 0.0


def best_first(groups: Iterable[Configuration], metric: str | None = None) -> list[Configuration]:
    """Configurations sorted by the mean of a metric, the best first; those without a result come last.

    Args:
        groups: the configurations.
        metric: the metric; by default the one that their trials are chosen by.
    """
    groups = [*groups]
    metric = metric or selection_metric(group.spec for group in groups)
    return sorted(groups, key=lambda group: group.sort_key(metric))


def configurations(trials: Iterable[TrialResult]) -> list[Configuration]:
    """Group trials that differ only in their seeds, in order of appearance."""
    groups: dict[object, list[TrialResult]] = {}
    settings = attrgetter(*(name for name in TrialSpec.model_fields if name not in REPLICATES))
    for trial in trials:
        groups.setdefault(settings(trial.trial.spec), []).append(trial)
    models = model_names(group[0].trial.spec.model for group in groups.values())
    return [
        Configuration(
            group[0].trial.spec.model_copy(update=dict.fromkeys(REPLICATES, 0)), tuple(group), models
        )
        for group in groups.values()
    ]


def labelled(groups: Iterable[Configuration], axes: Sequence[str]) -> dict[str, Configuration]:
    """Configurations by label."""
    return {group.label(axes): group for group in groups}


def axes_of(trials: Sequence[TrialResult], without: Sequence[str] = REPLICATES) -> list[str]:
    """The fields that take more than one value among the trials."""
    return axes_of_specs([trial.trial.spec for trial in trials], without)


def axes_of_specs(specs: Sequence[TrialSpec], without: Sequence[str] = REPLICATES) -> list[str]:
    """The fields that take more than one value among specifications."""
    columns = {name: map(attrgetter(name), specs) for name in TrialSpec.model_fields if name not in without}
    varied = [name for name, values in columns.items() if any(map(ne, values, repeat(next(values, None))))]
    if "split_seed" in varied and _split_follows_seed(specs):
        varied.remove("split_seed")
    return varied


def free_axes(groups: Sequence[Configuration], axes: Sequence[str], leader: str) -> list[str]:
    """The axes that vary where another, the leader, does not: without the leader, and without what follows from it."""

    def num_values(*names: str) -> int:
        return len({tuple(getattr(group.spec, name) for name in names) for group in groups})

    return [axis for axis in axes if num_values(leader, axis) > num_values(leader)]


def _split_follows_seed(specs: Iterable[TrialSpec]) -> bool:
    """Whether every trial has the split seed that it has by default, which the seed determines."""
    return all(spec.split_seed in (None, spec.default_split_seed) for spec in specs)


def common(trials: Sequence[TrialResult], axes: Sequence[str] | None = None) -> str:
    """The settings that all trials share, in one line.

    Args:
        trials: the trials.
        axes: the fields in which they differ, seeds included, if the caller has computed them already.
    """
    varied = [*(axes_of(trials, ()) if axes is None else axes)]
    if _split_follows_seed(trial.trial.spec for trial in trials):
        varied.append("split_seed")
    spec, default = trials[0].trial.spec, TrialSpec()
    fixed = [(name, getattr(spec, name)) for name in TrialSpec.model_fields if name not in varied]
    if all(each.trial.spec.split_seed == each.trial.spec.default_split_seed for each in trials):
        fixed = [(name, value) for name, value in fixed if name != "split_seed"]  # it says what the seed says
    told = {name: value for name, value in fixed if name in _ALWAYS or value != getattr(default, name)}
    for part, registry in PARTS.items():
        if f"{part}_args" in told and part not in varied:
            told[part] = registry.text(getattr(spec, part), told.pop(f"{part}_args"))
    return ", ".join(phrase(name, told[name]) for name in TrialSpec.model_fields if name in told)


@dataclass(frozen=True)
class Plane:
    """Configurations over two numeric fields, with all other fields equal: the content of one heat map.

    Attributes:
        label: the values of the other fields that distinguish it from other planes; "" if there is one plane.
        down: the field of the rows.
        across: the field of the columns.
        cells: the configurations by row and column value.
    """

    label: str
    down: str
    across: str
    cells: dict[tuple[Any, Any], Configuration]

    @property
    def downs(self) -> list[Any]:
        """The row values, sorted; ``None`` (the model's own value) comes first."""
        return _in_order(first for first, _ in self.cells)

    @property
    def acrosses(self) -> list[Any]:
        """The column values, sorted."""
        return _in_order(second for _, second in self.cells)


def _in_order(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values), key=lambda value: -1.0 if value is None else value)


def planes(groups: Iterable[Configuration], axes: Sequence[str]) -> list[Plane]:
    """One plane per combination of the other axes; none unless exactly two axes are numeric."""
    numeric = [name for name in NUMERIC if name in axes]
    if len(numeric) != 2:
        return []
    found: dict[str, Plane] = {}
    for group in groups:
        label = group.label(others) if (others := [name for name in axes if name not in numeric]) else ""
        plane = found.setdefault(label, Plane(label, numeric[0], numeric[1], {}))
        plane.cells[getattr(group.spec, plane.down), getattr(group.spec, plane.across)] = group
    return list(found.values())


def tally(group: Configuration) -> str:
    """The number of seeds (and folds) behind its means: "5", or "4 of 5" if one did not complete."""
    complete, total = len(group.complete), len(group.trials)
    return str(total) if complete == total else f"{complete} of {total}"
