"""Trials that diverged or collapsed: results like any other, which count as failures in every comparison. No jax."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from dlbench.records import TrialStatus
from dlbench.spec.claims import Key, key_of
from dlbench.spec.metrics import metric as metric_named
from dlbench.storage.results import TrialResult

Name = TypeVar("Name", bound=Hashable)


class _Measured(Protocol):
    """A group of trials."""

    @property
    def trials(self) -> tuple[TrialResult, ...]: ...

    @property
    def complete(self) -> Sequence[TrialResult]: ...


def place_of(trial: TrialResult) -> Key:
    """The place of a trial in its study, which pairs it with a trial of another configuration."""
    return key_of(trial.trial.spec)


def measured(
    groups: Mapping[Name, _Measured], metric: str, key: Callable[[TrialResult], Any] = place_of
) -> dict[Name, dict[Any, float]]:
    """The values of a metric by group and replicate, with diverged trials at the worst value.

    That is an accuracy of 0, as a network that diverged gives no answer; of a metric without a bound, such as a loss,
    the worst of all groups. Metrics without a worst value, such as times, leave diverged trials out.

    Args:
        groups: the groups by name.
        metric: the metric, "test/accuracy" or ``test_accuracy``.
        key: what pairs a trial with one of another group.

    Returns:
        The groups that have a value; none if all trials diverged.
    """
    found = {
        name: {key(trial): value for trial in group.complete if (value := trial.value(metric)) is not None}
        for name, group in groups.items()
    }
    worst, known = metric_named(metric).worst, [each for values in found.values() for each in values.values()]
    if worst is not None and known:
        worst = worst if math.isfinite(worst) else max(known) if worst > 0 else min(known)
        for name, group in groups.items():
            diverged = (trial for trial in group.trials if trial.status is TrialStatus.DIVERGED)
            found[name] |= {key(trial): worst for trial in diverged}
    return {name: values for name, values in found.items() if values}
