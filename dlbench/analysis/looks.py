"""Interim looks at a growing comparison: which was taken, and the level that it may spend. No jax."""

from __future__ import annotations

from collections.abc import Iterable

from dlbench.records import TrialStatus
from dlbench.spec.looks import Look
from dlbench.stats import sequential_alpha
from dlbench.storage.results import TrialResult

_UNFINISHED = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.INTERRUPTED)


def last_look(looks: tuple[int, ...], trials: Iterable[TrialResult]) -> Look | None:
    """The last look whose trials have all ended; ``None`` before the first."""
    unfinished = {trial.seed for trial in trials if trial.status in _UNFINISHED}
    seeds = sorted({trial.seed for trial in trials})
    whole = next((n for n, seed in enumerate(seeds) if seed in unfinished), len(seeds))
    taken = [number for number, needed in enumerate(looks, start=1) if needed <= whole]
    return Look(taken[-1], looks) if taken else None


def alpha_of(look: Look) -> float:
    """The family-wise error rate that a look may spend."""
    return sequential_alpha(look.number, len(look.schedule))
