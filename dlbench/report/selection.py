"""The configuration that a grid chose, and how much that choice is worth, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.analysis.configurations import Configuration
from dlbench.report.outlook import seeds_to_settle
from dlbench.report.tables import percent, plus_minus, within
from dlbench.stats import mean_interval, ranking, selection_estimate

#: More configurations than this are not tested: no number of seeds settles thousands of comparisons.
MAX_RANKED = 50
#: Nor are more than this resampled: it would take gigabytes.
MAX_RESAMPLED = 1000
_CHOSEN_BY = "best_val_accuracy"


def selection(groups: Sequence[Configuration], axes: Sequence[str]) -> list[str]:
    """The first configuration by validation accuracy, its test accuracy, and whether others are told from it.

    Args:
        groups: the configurations, in the order of their validation accuracy.
        axes: the fields that tell them apart.
    """
    groups = [group for group in groups if group.complete]
    if not groups:
        return ["No trial completed, so none is the best."]
    first = groups[0]
    said = [f"Highest validation accuracy: {first.label(axes)} ({_figures(first)})."]
    if len(groups) > 1:
        said.append(
            f"It was chosen from {len(groups):,} by that accuracy, which therefore flatters it; its test accuracy "
            "does not: those images took no part in the choice."
        )
        said += _support(groups, axes)
    return said


def _figures(group: Configuration) -> str:
    """Validation and test accuracy with intervals: over seeds, or for one trial over its test images."""
    if len(group.complete) == 1:
        (trial,) = group.complete
        assert trial.test_accuracy_bounds
        assert trial.best_val_accuracy is not None
        tested = within(trial.test_accuracy_bounds)
        return f"{percent(trial.best_val_accuracy)} %; test accuracy {tested} %"
    validation, test = (
        plus_minus(mean_interval(group.by_seed(figure).values())) for figure in (_CHOSEN_BY, "test_accuracy")
    )
    return f"{validation} % over {len(group.complete)} seeds; test accuracy {test} %"


def _support(groups: Sequence[Configuration], axes: Sequence[str]) -> list[str]:
    """How many the seeds tell from the first, how many seeds would, and whether others would choose it."""
    if any(len(group.complete) < 2 for group in groups):
        return ["One seed cannot show how much of its lead is chance; several seeds can."]
    measured = {str(number): group.by_seed(_CHOSEN_BY) for number, group in enumerate(groups)}
    if len(groups) > MAX_RANKED:
        tested = [
            f"More than {MAX_RANKED} are not tested against each other. That it is the best is not shown."
        ]
    else:
        ranked = ranking(measured)
        pairs = [pair for pair in ranked.comparisons if "0" in (pair.a, pair.b)]
        settled = sum(pair.supported for pair in pairs)
        amount = "all" if settled == len(pairs) else settled or "none"
        tested = [
            f"Of the other {len(pairs)}, these seeds tell {amount} from it "
            "(paired t tests, Holm's correction, 5 %)."
            + ("" if settled == len(pairs) else " That it is the best is not shown.")
        ]
        if outlook := seeds_to_settle(ranked, "0", ["1"], {"0": "it", "1": groups[1].label(axes)}):
            tested.append(outlook)
    return [*tested, *_stability(measured)]


def _stability(measured: dict[str, dict[tuple[int, int], float]]) -> list[str]:
    """In what part of resamples of the seeds the first comes first."""
    shared = set.intersection(*(set(group) for group in measured.values()))
    if len(shared) < 2 or len(measured) > MAX_RESAMPLED:
        return []
    estimate = selection_estimate(measured, num_resamples=2000)
    if estimate.selected != "0":
        return [f"On the {len(shared)} seeds that all completed, another one comes first."]
    return [
        f"Other seeds would have chosen it in {100 * estimate.probability_first:.0f} % of resamples (a bootstrap of "
        f"{estimate.n} seeds; so few flatter it)."
    ]
