"""Trials that diverged or collapsed: results like any other, which count as failures in every comparison. No jax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from dlbench.records import TrialStatus
from dlbench.spec.claims import Key, key_of
from dlbench.spec.metrics import metric as metric_named
from dlbench.storage.results import TrialResult


class _Measured(Protocol):
    """A group of trials with the values of their metrics."""

    @property
    def trials(self) -> tuple[TrialResult, ...]: ...

    def by_seed(self, metric: str) -> dict[Key, float]: ...


def measured(groups: Mapping[str, _Measured], metric: str) -> dict[str, dict[Key, float]]:
    """The values of a metric by group and replicate, with diverged trials at the worst value.

    That is an accuracy of 0, as a network that diverged gives no answer; of a loss, the worst of all groups. Metrics
    without a worst value, such as times, leave diverged trials out.

    Args:
        groups: the groups by name.
        metric: the metric, "test/accuracy" or ``test_accuracy``.

    Returns:
        The groups that have a value; none if all trials diverged.
    """
    found = {name: group.by_seed(metric) for name, group in groups.items()}
    worst, known = metric_named(metric).worst, [each for values in found.values() for each in values.values()]
    if worst is not None and known:
        worst = worst if math.isfinite(worst) else max(known)
        for name, group in groups.items():
            diverged = (trial.trial.spec for trial in group.trials if trial.status is TrialStatus.DIVERGED)
            found[name] |= {key_of(spec): worst for spec in diverged}
    return {name: values for name, values in found.items() if values}
