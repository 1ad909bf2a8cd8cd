"""Interim looks at a growing comparison: which look has been reached, and the error rate it may spend. No jax."""

from __future__ import annotations

from collections.abc import Iterable

from dlbench.spec.looks import Look
from dlbench.stats import sequential_levels
from dlbench.storage.results import StudyRecord, TrialResult

#: Family-wise error rate of a study: of its only analysis, or of all the looks at it together.
ALPHA = 0.05


def last_look(looks: tuple[int, ...], trials: Iterable[TrialResult]) -> Look | None:
    """The last look whose trials have all ended; ``None`` before the first."""
    unfinished = {trial.seed for trial in trials if not trial.status.has_ended}
    seeds = sorted({trial.seed for trial in trials})
    num_ended = next((n for n, seed in enumerate(seeds) if seed in unfinished), len(seeds))
    reached = [number for number, needed in enumerate(looks, start=1) if needed <= num_ended]
    return Look(reached[-1], looks) if reached else None


def alpha_of(look: Look, num_tests: int = 1) -> float:
    """The family-wise error rate of a look at which so many tests share :data:`ALPHA`.

    It is ``num_tests`` times the level of one test that has ``ALPHA / num_tests`` for all looks together. Holm's
    correction at this rate tests no hypothesis at a higher level than its share of ALPHA allows, because the level
    grows faster than the share.
    """
    tests = max(1, num_tests)
    return tests * sequential_levels(look.schedule, ALPHA / tests)[look.number - 1]


def study_alpha(result: StudyRecord, num_tests: int = 1) -> float:
    """The family-wise error rate at which a study may be analysed now.

    It is :data:`ALPHA` for a study of fixed size, that of the last look for one that grows, and 0 before its first
    look, when nothing may be concluded.

    Args:
        result: the study.
        num_tests: the tests that share the rate.
    """
    look = last_look(result.spec.looks, result.trials)
    return ALPHA if not result.spec.looks else alpha_of(look, num_tests) if look else 0.0
