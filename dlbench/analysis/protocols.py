"""Validation accuracy of the best epoch against test accuracy, and the variation by source of randomness. No jax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dlbench.analysis.answers import right_counts
from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Configuration, Summary, axes_of, configurations
from dlbench.errors import InputError
from dlbench.spec.metrics import REPORT_METRIC, report_metric, selection_metric
from dlbench.stats import (
    Component,
    Interval,
    corrected_comparison,
    corrected_interval,
    images_component,
    smallest_difference,
    std_interval,
    variance_components,
)
from dlbench.storage.results import TrialResult


@dataclass(frozen=True)
class ProtocolDifference:
    """A configuration under two protocols: both report its best epoch, on different images.

    Attributes:
        configuration: the configuration.
        selected_on: the metric on the validation images, which also selected the epoch.
        tested: the metric of the same epoch on test images.
        difference: the first less the second, seed by seed.
    """

    configuration: Configuration
    selected_on: Summary
    tested: Summary
    difference: Summary


@dataclass(frozen=True)
class ProtocolFindings:
    """Two protocols compared over the configurations of a study.

    Attributes:
        selection: the metric by which the best epoch is selected.
        report: the same metric on test images.
        differences: one per configuration that completed a trial.
        overall: the mean difference over all configurations, seed by seed; ``None`` with one configuration, or
            fewer than two shared seeds.
    """

    selection: str
    report: str
    differences: tuple[ProtocolDifference, ...]
    overall: Summary | None


def compare_protocols(
    trials: Sequence[TrialResult], selection: str | None = None, report: str | None = None
) -> ProtocolFindings | None:
    """Compare the metric on the images that selected the epoch with the metric on test images.

    Args:
        trials: the trials of a study.
        selection: the metric by which the best epoch is selected; by default that of the trials.
        report: the same metric on test images.

    Returns:
        The differences; ``None`` if no trial completed.
    """
    specs = [trial.trial.spec for trial in trials]
    selection, report = selection or selection_metric(specs), report or report_metric(specs)
    groups = [group for group in configurations(trials) if group.complete]
    differences = tuple(
        ProtocolDifference(group, selected_on, tested, _difference(selected_on, tested, group.overlap))
        for group in groups
        if (selected_on := group.summary(selection)) and (tested := group.summary(report))
    )
    if not differences:
        return None
    return ProtocolFindings(selection, report, differences, _overall(groups, selection, report))


def _difference(selected_on: Summary, tested: Summary, overlap: float) -> Summary:
    differences = tuple(a - b for a, b in zip(selected_on.values, tested.values, strict=True))
    return Summary(corrected_comparison(selected_on.values, tested.values, overlap).difference, differences)


def _overall(groups: Sequence[Configuration], selection: str, report: str) -> Summary | None:
    selected_on, tested = ([group.by_seed(metric) for group in groups] for metric in (selection, report))
    keys = sorted(set.intersection(*map(set, tested)))
    if len(groups) < 2 or len(keys) < 2:
        return None
    means = tuple(
        math.fsum(a[key] - b[key] for a, b in zip(selected_on, tested, strict=True)) / len(groups)
        for key in keys
    )
    return Summary(corrected_interval(means, max(group.overlap for group in groups)), means)


@dataclass(frozen=True)
class SourceVariation:
    """The variation between seeds when they change one source of randomness.

    Attributes:
        configuration: the configuration; its ``vary`` is the source.
        metric: the metric.
        std: the standard deviation with its chi-square interval; ``None`` for fewer seeds than an interval takes.
        mean: the mean; ``None`` if no trial completed.
    """

    configuration: Configuration
    metric: str
    std: Interval | None
    mean: float | None


def variation_by_source(
    trials: Sequence[TrialResult], metric: str | None = None
) -> tuple[SourceVariation, ...]:
    """The standard deviation of a metric by source of randomness; empty unless the study varies the source."""
    if "vary" not in axes_of(trials):
        return ()
    metric = metric or report_metric(trial.trial.spec for trial in trials)
    return tuple(
        SourceVariation(
            group,
            metric,
            std_interval(values)
            if len(values := group.by_seed(metric).values()) >= MIN_FOR_INTERVAL
            else None,
            group.mean(metric),
        )
        for group in configurations(trials)
    )


@dataclass(frozen=True)
class CrossedSources:
    """A configuration whose seeds are crossed: every seed of one source of randomness with every seed of the others.

    Attributes:
        configuration: the configuration.
        metric: the metric.
        levels: the number of seeds of each source, by field; and of test images, where they are a component.
        components: the variance that each source adds, that of the choice of the test images where it is known, and
            the residual.
        std_error: standard error of the mean of these trials on these test images, in which trials that share a seed
            are not independent.
        detectable: the smallest difference on the same test images that a paired comparison of two such configurations
            finds with a power of 80 %, by number of seeds that vary every source.
        right: for j = 0 to k, how many test images exactly j of the k trials classify correctly; empty if unknown.
    """

    configuration: Configuration
    metric: str
    levels: Mapping[str, int]
    components: tuple[Component, ...]
    std_error: float
    detectable: Mapping[int, float]
    right: tuple[int, ...] = ()


#: Numbers of seeds for which the smallest detectable difference is given.
_NUM_SEEDS = (5, 10, 20)


def components_of(
    trials: Sequence[TrialResult],
    metric: str | None = None,
    known: Mapping[str, Sequence[int]] | None = None,
) -> tuple[CrossedSources, ...]:
    """The variance by source of randomness of every configuration whose trials cross two sources or more.

    Args:
        trials: the trials of a study.
        metric: the metric; by default the one that is reported of the trials.
        known: how many images were classified correctly by how many trials
            (:func:`~dlbench.analysis.answers.right_counts`), by the id of a configuration's first trial; by default it
            is read from the logits of the trials, as far as there are any.
    """
    groups = [group for group in configurations(trials) if group.crossed]
    if not groups:
        return ()
    metric = metric or report_metric(trial.trial.spec for trial in trials)
    found = (_crossed(group, metric, known or {}) for group in groups)
    return tuple(each for each in found if each is not None)


def _crossed(group: Configuration, metric: str, known: Mapping[str, Sequence[int]]) -> CrossedSources | None:
    values, fields = group.by_crossed_seeds(group.valued(metric)), group.crossed
    if len(values) < len(group.trials) or group.failures:
        return None  # folds, or trials that collapsed or are missing
    levels = {name: len({getattr(trial, name) for trial in group.trials}) for name in fields}
    try:
        components = variance_components(values, fields)
    except InputError:  # not every combination
        return None
    parts = [each.variance / levels.get(each.source, len(values)) for each in components]
    std = math.sqrt(2 * math.fsum(each.variance for each in components))
    detectable = {number: smallest_difference(number, std) for number in _NUM_SEEDS}
    right: tuple[int, ...] = ()
    if metric == REPORT_METRIC:
        right = tuple(known.get(group.trials[0].id, ())) or right_counts(group)
    if right:
        images = images_component(right)
        levels[images.source] = sum(right)
        components = _with_shares((*components[:-1], images, components[-1]))
    error = math.sqrt(math.fsum(parts))
    return CrossedSources(group, metric, levels, components, error, detectable, right)


def _with_shares(components: Sequence[Component]) -> tuple[Component, ...]:
    total = math.fsum(each.variance for each in components)
    return tuple(replace(each, share=each.variance / total if total else math.nan) for each in components)
