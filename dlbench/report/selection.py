"""The configuration that a grid selected, and how well the data support the selection, in words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dlbench.analysis.configurations import Configuration
from dlbench.analysis.selection import MAX_RANKED, GridSelection, Separation, Stability
from dlbench.report.outlook import seeds_in_words
from dlbench.report.tables import Report, amount, plus_minus, within
from dlbench.spec.metrics import REPORT_METRIC, metric, noun, words


def selection_report(found: GridSelection | None, axes: Sequence[str]) -> Report:
    """The selected configuration with its test accuracy, and whether it is significantly better than the others.

    Args:
        found: the selection; ``None`` if no trial completed.
        axes: the fields that distinguish the configurations.
    """
    if found is None:
        return ["No trial completed, so no configuration is selected."]
    lower = metric(found.metric).lower_is_better
    best = (
        f"{'Lowest' if lower else 'Highest'} {words(found.metric)}: {found.selected.label(axes)} "
        f"({_measured(found.selected, found.metric, found.reported)})."
    )
    if found.second is None:
        return [best]
    rest = (
        f"Its {words(found.reported)} is not: the test images took no part in the selection."
        if found.selected.spec.val_from == "train"
        else f"So is its {words(found.reported)}, if less: the validation images are among the test images."
    )
    biased = (
        f"It was selected from {found.num_candidates:,} configurations by this {noun(found.metric)}, which is "
        f"therefore biased {'downwards' if lower else 'upwards'}. {rest}"
    )
    if not found.has_replicates:
        alone = "One seed cannot show how much of its lead is due to chance; train each configuration with several."
        return [best, biased, alone]
    tests = "corrected resampled t tests" if found.selected.overlap else "paired t tests"
    said: Report = [best, biased, _tests(found.separation, f"{tests}, Holm's correction, 5 %")]
    if found.separation and found.separation.outlook:
        names = {"0": "it", "1": found.second.label(axes)}
        said.append(
            seeds_in_words([found.separation.outlook], names, partial(amount, measured=metric(found.metric)))
        )
    return [*said, *([_bootstrap(found.stability)] if found.stability else [])]


def _measured(group: Configuration, selection: str, report: str) -> str:
    """The metric on validation and test images, with intervals over seeds; an accuracy of one trial, over images."""
    validation, test = group.summary(selection), group.summary(report)
    first, second = metric(selection), metric(report)
    texts = [
        "-" if validation is None else plus_minus(validation, first) + first.sign,
        "-" if test is None else plus_minus(test, second) + second.sign,
    ]
    if len(group.complete) == 1:
        bounds = group.complete[0].test_accuracy_bounds
        if report == REPORT_METRIC and bounds:
            texts[1] = f"{within(bounds)} %"
    elif validation is not None:
        what = "trials (seeds and folds)" if group.overlap else "seeds"
        texts[0] += f" over {len(validation.values)} {what}"
    return f"{texts[0]}; {words(report)} {texts[1]}"


def _tests(separation: Separation | None, tests: str) -> str:
    open_question = "The data do not show that it is the best."
    if separation is None:
        return f"More than {MAX_RANKED} configurations are not tested against each other. {open_question}"
    others, better = separation.num_others, separation.num_separated
    than = f"each of the other {others}" if others > 1 else "the other one"
    if not separation.is_complete:
        than = f"{better or 'none'} of the other {others}" if others > 1 else ""
    if any(pair.comparison.test == "crossed t" for pair in separation.comparisons):
        tests = f"{tests}, in which each of the crossed seeds counts once"
    if any(pair.comparison.test in ("signed-rank", "rank-sum") for pair in separation.comparisons):
        tests = f"{tests}, by ranks where some trials of a configuration collapsed"
    if not than:
        return f"It is not significantly better than the other one ({tests}). {open_question}"
    found = f"It is significantly better than {than} ({tests})."
    return found if separation.is_complete else f"{found} {open_question}"


def _bootstrap(stability: Stability) -> str:
    if stability.share is None:
        return (
            f"On the {stability.num_seeds} seeds that all configurations completed, another one comes first."
        )
    return (
        f"In {100 * stability.share:.0f} % of bootstrap samples of the {stability.num_seeds} seeds it is selected "
        "again; with few seeds, this share is too high."
    )
