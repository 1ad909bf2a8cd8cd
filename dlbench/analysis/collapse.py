"""The learning rate at which runs collapse. No jax."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dlbench.analysis.configurations import Configuration, axes_of, configurations
from dlbench.stats import Midpoint, logistic_midpoint
from dlbench.storage.results import TrialResult

MIN_RATES = 3


@dataclass(frozen=True)
class Collapse:
    """Which runs collapse as the learning rate rises, with everything else equal.

    Attributes:
        configuration: one of the configurations; they differ in the learning rate alone.
        rates: the learning rates, ascending.
        failures: for each, the number of trials that diverged or collapsed.
        totals: for each, the number of trials that ended.
        midpoint: of the decimal logarithm of the learning rate; ``None`` where none or all of the trials collapsed.
    """

    configuration: Configuration
    rates: tuple[float, ...]
    failures: tuple[int, ...]
    totals: tuple[int, ...]
    midpoint: Midpoint | None


def collapse_by_rate(trials: Sequence[TrialResult]) -> tuple[Collapse, ...]:
    """The collapses of a study by learning rate; empty if none collapsed, or fewer than three rates were trained."""
    others = [name for name in axes_of(trials) if name != "learning_rate"]
    curves: dict[tuple[object, ...], list[Configuration]] = {}
    for group in configurations(trials):
        if any(trial.status.is_finished for trial in group.trials):
            curves.setdefault(tuple(getattr(group.spec, name) for name in others), []).append(group)
    found = []
    for groups in curves.values():
        groups.sort(key=lambda group: group.spec.learning_rate)
        rates = tuple(group.spec.learning_rate for group in groups)
        failures = tuple(len(group.failures) for group in groups)
        totals = tuple(sum(trial.status.is_finished for trial in group.trials) for group in groups)
        if len(rates) >= MIN_RATES:
            is_mixed = 0 < sum(failures) < sum(totals)
            midpoint = logistic_midpoint([*map(math.log10, rates)], failures, totals) if is_mixed else None
            found.append(Collapse(groups[0], rates, failures, totals, midpoint))
    return tuple(found) if any(sum(each.failures) for each in found) else ()
