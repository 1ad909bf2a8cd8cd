"""Convergence: how many trials converged, and when. No jax."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from dlbench.storage.results import TrialResult


@dataclass(frozen=True)
class Convergence:
    """How many trials of a configuration converged before their last epoch.

    Attributes:
        num_converged: trials that did.
        num_trials: all completed trials.
        mean_epoch: the mean epoch of those that did, counted from 1; ``None`` if none did.
    """

    num_converged: int
    num_trials: int
    mean_epoch: float | None


def converged_epoch(trial: TrialResult) -> int | None:
    """The epoch in which a trial converged, if that was before its last one.

    The recorded ``convergence_epoch`` is the number of epochs both for a trial that converges in its last epoch
    and for one that never converges. The two are not distinguished here, because the training losses that
    distinguish them are not always at hand: exported studies and long lists of trials come without them, and a
    study must not be described differently with and without.

    Returns:
        The epoch, counted from 1; ``None`` if training ended first, or if it is not recorded.
    """
    epoch = trial.convergence_epoch
    return epoch if epoch is not None and epoch < trial.num_epochs else None


def censored_epoch(trial: TrialResult, metric: str) -> tuple[int, bool] | None:
    """The epoch of an event, and whether it happened; if not, the last epoch of the trial, which censors it.

    Args:
        trial: a completed trial.
        metric: ``convergence_epoch`` or ``plateau_epoch``.

    Returns:
        ``None`` if the event is not recorded.
    """
    epoch = getattr(trial, metric)
    if epoch is None:
        return None
    if metric == "convergence_epoch":
        return epoch, converged_epoch(trial) is not None
    last = trial.stopped_epoch or trial.num_epochs
    return min(epoch, last), epoch <= last


def epochs_to_accuracy(trial: TrialResult, target: float) -> tuple[int, bool] | None:
    """The first epoch whose validation accuracy is at least a target, and whether there is one.

    Args:
        trial: a trial with its epochs.
        target: an accuracy in [0, 1].

    Returns:
        The epoch, counted from 1, or else the last one, which censors it; ``None`` if no epoch is at hand.
    """
    reached = (n for n, epoch in enumerate(trial.history, start=1) if epoch.val_accuracy >= target)
    epoch = next(reached, None)
    return (epoch or len(trial.history), epoch is not None) if trial.history else None


def time_to_accuracy(trial: TrialResult, target: float) -> tuple[float, bool] | None:
    """The seconds of training until :func:`epochs_to_accuracy`, with every epoch of a trial taking the same time.

    The times of a study's trials depend on what else the machine did; compare those of trials that were trained alone.
    """
    found, seconds = epochs_to_accuracy(trial, target), trial.train_time_s
    if found is None or seconds is None:
        return None
    return seconds * found[0] / len(trial.history), found[1]


def convergence(trials: Iterable[TrialResult]) -> Convergence | None:
    """How many of these completed trials converged; ``None`` if none records it."""
    recorded = [trial for trial in trials if trial.convergence_epoch is not None]
    epochs = [epoch for trial in recorded if (epoch := converged_epoch(trial)) is not None]
    mean = statistics.fmean(epochs) if epochs else None
    return Convergence(len(epochs), len(recorded), mean) if recorded else None
