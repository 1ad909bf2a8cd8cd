"""What protocol and chance do to an accuracy: the epoch chosen on the images reported, and the sources of spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dlbench.analysis.configurations import Configuration, axes_of, common, configurations, tally
from dlbench.report.tables import Column, Report, Table, field_column, percent, plus_minus, within
from dlbench.stats import Interval, mean_interval, paired_comparison, std_interval
from dlbench.storage.results import TrialResult


def protocol_report(trials: Sequence[TrialResult]) -> Report:
    """Best validation accuracy, which is chosen on the images it reports, beside test accuracy, which is not."""
    groups = [group for group in configurations(trials) if group.complete]
    if not groups:
        return []
    axes = axes_of(trials)
    columns = (
        *map(field_column, axes or ["model"]),
        Column("best_val_accuracy", "best epoch, on the images that chose it %", plus_minus),
        Column("test_accuracy", "the same epoch, on test images %", plus_minus),
        Column("difference", "difference, points [95 %]", _signed),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            *(getattr(group.spec, name) for name in axes or ["model"]),
            group.interval("best_val_accuracy"),
            group.interval("test_accuracy"),
            _bias(group),
            tally(group),
        )
        for group in groups
    )
    caption = (
        f"{common(trials)}. Left: the highest validation accuracy of any epoch, as studies report it that have no "
        "test images apart; right: dlbench's protocol. Means over seeds ± their 95 % Student t intervals. The "
        "difference holds both the choice of the epoch and how easy these validation images are: unless the "
        "split is drawn anew, all seeds share them."
    )
    return [Table("Two protocols side by side", columns, rows, caption), *_overall(groups)]


def _bias(group: Configuration) -> Interval:
    validation, test = group.by_seed("best_val_accuracy"), group.by_seed("test_accuracy")
    return paired_comparison(validation.values(), test.values()).difference


def _overall(groups: Sequence[Configuration]) -> list[str]:
    """The mean difference over configurations, seed by seed."""
    validation, test = (
        [group.by_seed(figure) for group in groups] for figure in ("best_val_accuracy", "test_accuracy")
    )
    keys = sorted(set.intersection(*map(set, test)))
    if len(groups) < 2 or len(keys) < 2:
        return []
    biases = [
        math.fsum(v[key] - t[key] for v, t in zip(validation, test, strict=True)) / len(groups)
        for key in keys
    ]
    return [
        f"Over all {len(groups)} configurations, the accuracy on the images that chose the epoch, less the one on test "
        f"images, is {_signed(mean_interval(biases))} points on average ({len(keys)} seeds)."
    ]


def _signed(interval: Interval) -> str:
    values = [100 * value for value in (interval.estimate, interval.low, interval.high)]
    estimate, low, high = (f"{value + 0.0:+.2f}" for value in values)
    return estimate if math.isnan(interval.low) else f"{estimate} [{low}, {high}]"


def spread_report(trials: Sequence[TrialResult]) -> Report:
    """The standard deviation of test accuracy by source of randomness, where a study varies it."""
    axes = axes_of(trials)
    if "vary" not in axes:
        return []
    columns = (
        *map(field_column, axes),
        Column("std", "std of test acc, points [95 %]", _bounds),
        Column("mean", "mean test acc %", percent),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            *(getattr(group.spec, name) for name in axes),
            _std(group),
            group.mean("test_accuracy"),
            tally(group),
        )
        for group in configurations(trials)
    )
    caption = (
        "What follows the seed while the other sources of randomness stay as they are; all: every one of them. "
        "Standard deviations over seeds with 95 % chi-square intervals."
    )
    return [Table("Spread between seeds, by source", columns, rows, caption)]


def _std(group: Configuration) -> Any:
    values = group.by_seed("test_accuracy").values()
    return std_interval(values) if len(values) > 1 else None


def _bounds(interval: Interval) -> str:
    return within((interval.estimate, interval.low, interval.high))
