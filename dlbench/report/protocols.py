"""Validation against test accuracy, and the variation by source of randomness, as tables and words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dlbench.analysis.configurations import axes_of, common, tally
from dlbench.analysis.crossed import CrossedVariance
from dlbench.analysis.protocols import ProtocolFindings, SourceVariation
from dlbench.report.tables import (
    Column,
    Report,
    Table,
    capitalized,
    field_columns,
    listed,
    means_note,
    plus_minus,
    signed,
    within,
)
from dlbench.spec.metrics import Metric, metric, metric_key, title, words
from dlbench.stats import Component, Interval, smallest_difference
from dlbench.storage.results import TrialResult


def protocol_report(found: ProtocolFindings | None, trials: Sequence[TrialResult]) -> Report:
    """One row per configuration: the accuracy on the images that selected the epoch, and on test images."""
    if found is None:
        return []
    axes = axes_of(trials) or ["model"]
    measured = metric(found.selection)
    in_unit, unit = partial(plus_minus, measured=measured), f", {measured.unit}" if measured.unit else ""
    validation, test = words(found.selection), words(found.report)
    columns = (
        *field_columns(axes, trials),
        Column(metric_key(found.selection), f"{title(found.selection)} of the best epoch", in_unit),
        Column(metric_key(found.report), f"{title(found.report)} of this epoch", in_unit),
        Column("difference", f"difference{unit} [95 %]", partial(signed, measured=measured)),
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
    extreme = "lowest" if measured.lower_is_better else "highest"
    caption = (
        f"{common(trials)}. {capitalized(validation)}: the {extreme} of any epoch, as studies without separate test "
        f"images report it. {capitalized(test)}: that of the same epoch, dlbench's protocol. {note} The difference "
        "includes both the selection of the epoch and how easy these validation images are, which all seeds share "
        "unless the split changes with the seed."
    )
    heading = f"Validation and {test} of the best epoch"
    return [Table(heading, columns, rows, caption), *_overall(found)]


def _overall(found: ProtocolFindings) -> Report:
    if found.overall is None:
        return []
    measured = metric(found.selection)
    difference = f"{signed(found.overall, measured)} {measured.unit}".rstrip()
    return [
        f"Over all {len(found.differences)} configurations, {words(found.selection)} less {words(found.report)} is "
        f"{difference} on average ({len(found.overall.values)} seeds)."
    ]


def variation_report(
    found: Sequence[SourceVariation],
    trials: Sequence[TrialResult],
    crossed: Sequence[CrossedVariance] = (),
) -> Report:
    """The standard deviation of the reported metric between seeds, and by source where splits and seeds are crossed.

    Args:
        found: the variation by the source that the seed changes, a row per configuration.
        trials: the trials of the study.
        crossed: the components of the variance, likewise.
    """
    return [*_by_source(found, trials), *_crossed(crossed, trials)]


def _by_source(found: Sequence[SourceVariation], trials: Sequence[TrialResult]) -> Report:
    if not found:
        return []
    measured, name = metric(found[0].metric), title(found[0].metric).removesuffix(" %")
    unit = f", {measured.unit}" if measured.unit else ""
    axes = axes_of(trials)
    columns = (
        *field_columns(axes, trials),
        Column("std", f"std of {name}{unit} [95 %]", partial(_bounds, measured=measured)),
        Column("mean", f"mean {title(found[0].metric)}", measured.text),
        Column(
            "shown", f"{listed([*map(str, _SEEDS)])} seeds show{unit}", partial(_amounts, measured=measured)
        ),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            *(getattr(each.configuration.spec, name) for name in axes),
            each.std,
            each.mean,
            None
            if each.std is None
            else tuple(smallest_difference(n, 2**0.5 * each.std.estimate) for n in _SEEDS),
            tally(each.configuration),
        )
        for each in found
    )
    caption = (
        "vary: the source of randomness that follows the seed while the others are fixed; all: every source. "
        "Standard deviations over seeds with 95 % chi-square intervals, from three seeds on. Seeds show: the "
        "differences between two such configurations that a comparison with so many seeds each finds with a power of "
        "80 %."
    )
    return [Table("Variation between seeds, by source", columns, rows, caption)]


def _crossed(found: Sequence[CrossedVariance], trials: Sequence[TrialResult]) -> Report:
    if not found:
        return []
    measured = metric(found[0].metric)
    unit = f", {measured.unit}" if measured.unit else ""
    axes = axes_of([trial for each in found for trial in each.configuration.trials])
    said = {"split": "split", "training": "training", "residual": "both together"}
    columns = (
        *field_columns(axes, trials),
        *(
            Column(
                each.source, f"{said[each.source]}: std{unit} [95 %]", partial(_component, measured=measured)
            )
            for each in found[0].components
        ),
        Column("test_std", f"test images: std{unit}", measured.text),
        Column("counts", "splits x seeds", lambda counts: " x ".join(map(str, counts))),
    )
    rows = tuple(
        (
            *(getattr(each.configuration.spec, name) for name in axes),
            *each.components,
            each.test_std,
            (each.num_splits, each.num_seeds),
        )
        for each in found
    )
    caption = (
        "Every split is trained with every seed. Training: what the seed changes beside the split. Both together: "
        "their interaction, which a single split or a single seed cannot show. Components of the variance, as standard "
        "deviations, with 95 % intervals (Graybill and Wang), and their shares of the sum. Test images: what the "
        "choice of the test images adds to an accuracy, from the binomial distribution; all trials share them here."
    )
    return [Table("Where the variance comes from", columns, rows, caption)]


#: Numbers of seeds of which tables say what they show.
_SEEDS = (5, 10, 30)


def _component(each: Component, measured: Metric) -> str:
    low, high = (measured.text(max(0.0, bound) ** 0.5) for bound in (each.low, each.high))
    return f"{measured.text(each.std)} [{low}, {high}], {100 * each.share:.0f} %"


def _amounts(values: Sequence[float], measured: Metric) -> str:
    return ", ".join(map(measured.text, values))


def _bounds(interval: Interval, measured: Metric) -> str:
    return within((interval.estimate, interval.low, interval.high), measured)
