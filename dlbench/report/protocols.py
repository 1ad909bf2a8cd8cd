"""Validation against test accuracy, and the variation by source of randomness, as tables and words."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.analysis.configurations import axes_of, common, tally
from dlbench.analysis.protocols import ProtocolFindings, SourceVariation
from dlbench.report.tables import (
    Column,
    Report,
    Table,
    field_columns,
    means_note,
    percent,
    plus_minus,
    signed,
    within,
)
from dlbench.stats import Interval
from dlbench.storage.results import TrialResult


def protocol_report(found: ProtocolFindings | None, trials: Sequence[TrialResult]) -> Report:
    """One row per configuration: the accuracy on the images that selected the epoch, and on test images."""
    if found is None:
        return []
    axes = axes_of(trials) or ["model"]
    columns = (
        *field_columns(axes, trials),
        Column("best_val_accuracy", "val acc % of the best epoch", plus_minus),
        Column("test_accuracy", "test acc % of this epoch", plus_minus),
        Column("difference", "difference, points [95 %]", signed),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            *(getattr(each.configuration.spec, name) for name in axes),
            each.selected_on,
            each.tested,
            each.difference,
            tally(each.configuration),
        )
        for each in found.differences
    )
    note = means_note([summary for each in found.differences for summary in (each.selected_on, each.tested)])
    caption = (
        f"{common(trials)}. Validation accuracy: the highest of any epoch, as studies without separate test images "
        f"report it. Test accuracy: that of the same epoch, dlbench's protocol. {note} The difference includes "
        "both the selection of the epoch and how easy these validation images are, which all seeds share unless the "
        "split changes with the seed."
    )
    return [Table("Validation and test accuracy of the best epoch", columns, rows, caption), *_overall(found)]


def _overall(found: ProtocolFindings) -> Report:
    if found.overall is None:
        return []
    return [
        f"Over all {len(found.differences)} configurations, validation accuracy less test accuracy is "
        f"{signed(found.overall)} points on average ({len(found.overall.values)} seeds)."
    ]


def variation_report(found: Sequence[SourceVariation], trials: Sequence[TrialResult]) -> Report:
    """One row per configuration: the standard deviation of test accuracy between seeds."""
    if not found:
        return []
    axes = axes_of(trials)
    columns = (
        *field_columns(axes, trials),
        Column("std", "std of test acc, points [95 %]", _bounds),
        Column("mean", "mean test acc %", percent),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            *(getattr(each.configuration.spec, name) for name in axes),
            each.std,
            each.mean,
            tally(each.configuration),
        )
        for each in found
    )
    caption = (
        "vary: the source of randomness that follows the seed while the others are fixed; all: every source. "
        "Standard deviations over seeds with 95 % chi-square intervals, from three seeds on."
    )
    return [Table("Variation between seeds, by source", columns, rows, caption)]


def _bounds(interval: Interval) -> str:
    return within((interval.estimate, interval.low, interval.high))
