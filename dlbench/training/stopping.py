"""When a trial ends before its last epoch. No jax."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.records import Epoch
from dlbench.spec.metrics import metric, metric_of
from dlbench.spec.trial import TrialSpec


def is_ended(spec: TrialSpec, history: Sequence[Epoch]) -> bool:
    """Whether a trial ends after these epochs, because it has diverged or stops early."""
    return bool(history) and (not history[-1].is_finite or is_stopped(spec, history))


def is_stopped(spec: TrialSpec, history: Sequence[Epoch]) -> bool:
    """Whether early stopping ends a trial after these epochs.

    It does when the validation metric has not improved by more than ``min_delta`` for ``patience`` epochs. The last
    epoch that a trial has anyway is no early stop.
    """
    if spec.patience is None or len(history) >= spec.num_epochs:
        return False
    sign = -1 if metric(metric_of(spec, "val")).lower_is_better else 1
    best, waited = float("-inf"), 0
    for epoch in history:
        score = sign * epoch.metric(spec.selection_metric)
        best, waited = (score, 0) if score > best + spec.min_delta else (best, waited + 1)
    return waited >= spec.patience
