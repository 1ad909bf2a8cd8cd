"""Trials that diverged or collapsed: results like any other, which count as failures in every comparison. No jax."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dlbench.records import TrialStatus
from dlbench.spec.claims import Key, key_of
from dlbench.spec.metrics import metric as metric_named
from dlbench.storage.results import TrialResult


class _Measured(Protocol):
    """A group of trials."""

    @property
    def trials(self) -> tuple[TrialResult, ...]: ...

    @property
    def complete(self) -> Sequence[TrialResult]: ...


def chance_of(trial: TrialResult) -> float | None:
    """The test accuracy of always predicting the most frequent class; ``None`` without a confusion matrix."""
    if trial.confusion_matrix is None:
        return None
    counts = [sum(row) for row in trial.confusion_matrix]
    return max(counts) / sum(counts)


def has_failed(trial: TrialResult) -> bool:
    """Whether a trial diverged or collapsed.

    A trial has collapsed if the lower bound of its test accuracy, over its test images, is not above that of always
    predicting the most frequent class. A trial that was not trained to its end for any other reason has not failed.
    """
    if trial.status is TrialStatus.DIVERGED:
        return True
    chance, low = chance_of(trial), trial.test_accuracy_low
    return trial.status is TrialStatus.COMPLETE and chance is not None and low is not None and low <= chance


def place_of(trial: TrialResult) -> Key:
    """The place of a trial in its study, which pairs it with a trial of another configuration."""
    return key_of(trial.trial.spec)


def measured(
    groups: Mapping[str, _Measured], metric: str, key: Callable[[TrialResult], Any] = place_of
) -> dict[str, dict[Any, float]]:
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
