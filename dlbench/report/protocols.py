"""Validation against test accuracy, and the variation by source of randomness, as tables and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from dlbench.analysis.configurations import axes_of, common, free_axes, tally
from dlbench.analysis.protocols import CrossedSources, ProtocolFindings, SourceVariation
from dlbench.report.tables import (
    Column,
    Report,
    Table,
    amount,
    bounded,
    capitalized,
    count,
    field_columns,
    listed,
    means_note,
    plus_minus,
    replicate,
    signed,
    thousands,
    within,
)
from dlbench.spec.metrics import Metric, metric, metric_key, title, words
from dlbench.storage.results import TrialResult


def protocol_report(found: ProtocolFindings | None, trials: Sequence[TrialResult]) -> Report:
    """One row per configuration: the accuracy on the images that selected the epoch, and on test images."""
    if found is None:
        return []
    axes = axes_of(trials) or ["model"]
    measured = metric(found.selection)
    in_unit = partial(plus_minus, measured=measured)
    validation, test = words(found.selection), words(found.report)
    columns = (
        *field_columns(axes, trials),
        Column(metric_key(found.selection), f"{title(found.selection)} of the best epoch", in_unit),
        Column(metric_key(found.report), f"{title(found.report)} of this epoch", in_unit),
        Column("difference", f"difference{measured.in_heading} [95 %]", partial(signed, measured=measured)),
        Column("seeds", f"{replicate(each.configuration for each in found.differences)}s"),
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
    measured, groups = metric(found.selection), [each.configuration for each in found.differences]
    difference = f"{signed(found.overall, measured)} {measured.unit}".rstrip()
    return [
        f"Over all {len(found.differences)} configurations, {words(found.selection)} less {words(found.report)} is "
        f"{difference} on average ({count(len(found.overall.values), replicate(groups))})."
    ]


def variation_report(found: Sequence[SourceVariation], trials: Sequence[TrialResult]) -> Report:
    """One row per configuration: the standard deviation of the reported metric between seeds."""
    if not found:
        return []
    measured, name = metric(found[0].metric), title(found[0].metric).removesuffix(" %")
    axes = axes_of(trials)
    columns = (
        *field_columns(axes, trials),
        Column("std", f"std of {name}{measured.in_heading} [95 %]", partial(bounded, measured=measured)),
        Column("mean", f"mean {title(found[0].metric)}", measured.text),
        Column("seeds", f"{replicate(each.configuration for each in found)}s"),
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


def components_report(found: Sequence[CrossedSources]) -> Report:
    """One row per configuration and source of randomness: the standard deviation that it adds."""
    if not found:
        return []
    measured, name = metric(found[0].metric), title(found[0].metric).removesuffix(" %")
    groups = [each.configuration for each in found]
    trials = [trial for group in groups for trial in group.trials]
    axes = axes_of(trials)
    free = free_axes(groups, axes, "train_size")
    named = [axis for axis in axes if axis == "train_size" or axis in free]
    columns = (
        *field_columns(axes, trials),
        Column("source", "source", left=True),
        Column("levels", "levels", thousands),
        Column("std", f"std of {name}{measured.in_heading} [95 %]", partial(within, measured=measured)),
        Column("share", "% of variance", lambda share: f"{100 * share:.0f}"),
    )
    rows = tuple(
        (
            *(getattr(each.configuration.spec, name) for name in axes),
            _SOURCES[part.source],
            each.levels.get(part.source),
            tuple(math.sqrt(value) for value in (part.variance, part.low, part.high)),
            part.share,
        )
        for each in found
        for part in each.components
    )
    caption = (
        "What each source of randomness adds to the variation, where every seed of one meets every seed of the others "
        "(method of moments, intervals of Graybill and Wang). Levels: the number of its seeds. Residual: interactions "
        f"and the rest.{_IMAGES_NOTE if any(each.right for each in found) else ''}"
    )
    return [
        Table("Variance by source", columns, rows, caption),
        *(_precision(each, measured, named or ["model"]) for each in found),
    ]


_IMAGES_NOTE = (
    " Test images: what as many other images of the same kind would add for all trials alike, by how many trials "
    "classify each image correctly (bootstrap over images). More seeds do not reduce it."
)


#: What the sources of randomness are called, by the field of their seed.
_SOURCES = {
    "seed": "all other sources",
    "split_seed": "split",
    "init_seed": "initialisation",
    "order_seed": "order",
    "dropout_seed": "dropout",
    "augment_seed": "augmentation",
    "test_images": "test images",
    "residual": "residual",
}


def _precision(found: CrossedSources, measured: Metric, named: Sequence[str]) -> str:
    numbers, differences = zip(*found.detectable.items(), strict=True)
    return (
        f"{capitalized(found.configuration.label(named))}: on these test images, the mean of these "
        f"{len(found.configuration.trials)} trials has a standard error of {amount(found.std_error, measured)}, which "
        "counts each seed once. The smallest difference that "
        f"{listed([str(number) for number in numbers])} seeds of everything can show (paired, power 80 %): "
        f"{listed([measured.text(each) for each in differences])} {measured.unit}".rstrip()
        + "."
    )
