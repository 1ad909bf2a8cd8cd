"""Models on the same test images, network against network: McNemar's test, seed by seed, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dlbench.analysis.comparison import compared
from dlbench.stats import mcnemar
from dlbench.storage.results import StudyRecord, TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Level of each test on its own. They count networks that differ; what that says of models, the ranking tells.
LEVEL = 0.05


def same_images_report(result: StudyRecord, answers: Mapping[str, NDArray[np.bool_]]) -> list[str]:
    """In how many seeds the first model's network and each other's differ on the same images.

    Args:
        result: a comparison of models; of other studies, nothing is said.
        answers: per trial id, whether each test image was classified rightly.
    """
    if result.spec.design != "comparison" or not answers:
        return []
    groups = compared(result)
    lines = []
    for name, trials in [*groups.items()][1:]:
        first, own = next(iter(groups)), next(iter(groups.values()))
        if counted := _count(own, trials, answers):
            fewer, more, total = counted
            lines.append(
                f"  {first} against {name}: fewer errors in {fewer} of {total} seeds, more in {more}"
            )
    if not lines:
        return []
    return [
        "On the same test images, network against network of one seed (exact McNemar tests, 5 % each, not "
        "corrected; about these networks, not about models):\n" + "\n".join(lines)
    ]


def _count(
    first: Sequence[TrialResult], second: Sequence[TrialResult], answers: Mapping[str, NDArray[np.bool_]]
) -> tuple[int, int, int] | None:
    """Seeds in which the first errs significantly less, and more, of those that both have answers for."""
    others = {(trial.seed, trial.split_seed): answers[trial.id] for trial in second if trial.id in answers}
    tests = [
        mcnemar(answers[trial.id].tolist(), others[trial.seed, trial.split_seed].tolist())
        for trial in first
        if trial.id in answers and (trial.seed, trial.split_seed) in others
    ]
    if not tests:
        return None
    differ = [test for test in tests if test.p_value <= LEVEL]
    fewer = sum(test.only_a_correct > test.only_b_correct for test in differ)
    return fewer, len(differ) - fewer, len(tests)
