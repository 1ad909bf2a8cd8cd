"""The configuration that a grid selected, and how well the data support the selection, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.analysis.configurations import Configuration
from dlbench.analysis.selection import MAX_RANKED, GridSelection, Separation, Stability
from dlbench.report.outlook import seeds_in_words
from dlbench.report.tables import Report, percent, plus_minus, points, within


def selection_report(found: GridSelection | None, axes: Sequence[str]) -> Report:
    """The selected configuration with its test accuracy, and whether it is significantly better than the others.

    Args:
        found: the selection; ``None`` if no trial completed.
        axes: the fields that distinguish the configurations.
    """
    if found is None:
        return ["No trial completed, so no configuration is selected."]
    best = f"Highest validation accuracy: {found.selected.label(axes)} ({_accuracies(found.selected)})."
    if found.second is None:
        return [best]
    biased = (
        f"It was selected from {found.num_candidates:,} configurations by this accuracy, which is therefore biased "
        "upwards. Its test accuracy is not: the test images took no part in the selection."
    )
    if not found.has_replicates:
        alone = "One seed cannot show how much of its lead is due to chance; train each configuration with several."
        return [best, biased, alone]
    tests = "corrected resampled t tests" if found.selected.overlap else "paired t tests"
    said: Report = [best, biased, _tests(found.separation, f"{tests}, Holm's correction, 5 %")]
    if found.separation and found.separation.outlook:
        names = {"0": "it", "1": found.second.label(axes)}
        said.append(seeds_in_words([found.separation.outlook], names, points))
    return [*said, *([_bootstrap(found.stability)] if found.stability else [])]


def _accuracies(group: Configuration) -> str:
    """Validation and test accuracy with intervals over seeds; of one trial, over its test images."""
    if len(group.complete) == 1:
        (trial,) = group.complete
        assert trial.test_accuracy_bounds
        assert trial.best_val_accuracy is not None
        return f"{percent(trial.best_val_accuracy)} %; test accuracy {within(trial.test_accuracy_bounds)} %"
    validation, test = group.summary("val/accuracy"), group.summary("test/accuracy")
    assert validation
    assert test
    what = f"{len(validation.values)} {'trials (seeds and folds)' if group.overlap else 'seeds'}"
    return f"{plus_minus(validation)} % over {what}; test accuracy {plus_minus(test)} %"


def _tests(separation: Separation | None, tests: str) -> str:
    open_question = "The data do not show that it is the best."
    if separation is None:
        return f"More than {MAX_RANKED} configurations are not tested against each other. {open_question}"
    others, better = separation.num_others, separation.num_separated
    than = f"each of the other {others}" if others > 1 else "the other one"
    if not separation.is_complete:
        than = f"{better or 'none'} of the other {others}" if others > 1 else ""
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
