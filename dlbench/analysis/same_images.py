"""Models on the same test images: McNemar's test of their networks, seed by seed. No jax."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dlbench.analysis.comparison import ModelComparison
from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Configuration
from dlbench.analysis.failures import place_of
from dlbench.stats import Interval, mcnemar
from dlbench.stats.crossed import crossed_share
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Level of each test on its own. The tests count networks that differ; conclusions about models take the ranking.
LEVEL = 0.05


@dataclass(frozen=True)
class SameImages:
    """Networks of two models, tested against each other on the same images.

    Attributes:
        first: the model that ranks first.
        other: the model it is compared with.
        num_fewer: seeds in which the first makes significantly fewer errors.
        num_more: seeds in which it makes significantly more.
        num_seeds: seeds that were tested.
    """

    first: str
    other: str
    num_fewer: int
    num_more: int
    num_seeds: int


def compare_on_same_images(
    comparison: ModelComparison, answers: Mapping[str, NDArray[np.bool_]]
) -> tuple[SameImages, ...]:
    """Compare the networks of the first model with those of each other model, by exact McNemar tests.

    Args:
        comparison: the comparison of the models.
        answers: by trial id, whether each test image was classified correctly; trials that are not in it are
            left out.

    Returns:
        One entry per other model that shares a seed with the first, in the order of the ranking.
    """
    if comparison.ranking is None:
        return ()
    first, *others = (entry.name for entry in comparison.ranking.entries)
    networks = comparison.configurations
    counted = [
        (other, _count(networks[first].complete, networks[other].complete, answers)) for other in others
    ]
    return tuple(SameImages(first, other, *counts) for other, counts in counted if counts)


def accuracy_on_new_images(
    group: Configuration, answers: Mapping[str, NDArray[np.bool_]], confidence: float = 0.95
) -> Interval | None:
    """The mean test accuracy of a configuration, with an interval for new seeds and new images.

    Args:
        group: the configuration.
        answers: by trial id, whether each test image was classified correctly.
        confidence: nominal coverage, in (0, 1).

    Returns:
        The interval (:mod:`dlbench.stats.crossed`); ``None`` unless the answers of all completed trials, at
        least three, to the same images are at hand.
    """
    trials = [trial for trial in group.complete if trial.id in answers]
    found = [answers[trial.id] for trial in trials]
    if len(found) < max(MIN_FOR_INTERVAL, len(group.complete)) or len({len(each) for each in found}) > 1:
        return None
    import numpy as np

    return crossed_share(
        np.stack(found).astype(np.float32), functools.partial(group.over_seeds, trials, confidence=confidence)
    )


def _count(
    first: Sequence[TrialResult], other: Sequence[TrialResult], answers: Mapping[str, NDArray[np.bool_]]
) -> tuple[int, int, int] | None:
    """Seeds in which the first makes significantly fewer errors, more errors, and seeds in total."""
    others = {place_of(trial): answers[trial.id] for trial in other if trial.id in answers}
    tests = [
        mcnemar(answers[trial.id].tolist(), others[key].tolist())
        for trial in first
        if trial.id in answers and (key := place_of(trial)) in others
    ]
    if not tests:
        return None
    differ = [test for test in tests if test.p_value <= LEVEL]
    fewer = sum(test.only_a_correct > test.only_b_correct for test in differ)
    return fewer, len(differ) - fewer, len(tests)
