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


def convergence(trials: Iterable[TrialResult]) -> Convergence | None:
    """How many of these completed trials converged; ``None`` if none records it."""
    recorded = [trial for trial in trials if trial.convergence_epoch is not None]
    epochs = [epoch for trial in recorded if (epoch := converged_epoch(trial)) is not None]
    mean = statistics.fmean(epochs) if epochs else None
    return Convergence(len(epochs), len(recorded), mean) if recorded else None
