"""What is known of a trial: its status, its epochs and its outcome. No jax."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple


class TrialStatus(StrEnum):
    """Where a trial stands. The last three are final."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"

    @property
    def is_finished(self) -> bool:
        """Whether the trial has a result that training it again would only repeat."""
        return self in (TrialStatus.COMPLETE, TrialStatus.DIVERGED)


#: What a worker spends its life on: each kind is a trial's ``KIND_time_s``, and together they are all of it.
#: Waiting includes the worker's start.
TIME_KINDS = ("compile", "train", "eval", "io", "wait")


class Epoch(NamedTuple):
    """One epoch: losses in nats, accuracies in [0, 1]."""

    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float

    @classmethod
    def of(cls, stored: Iterable[float | None]) -> Epoch:
        """From figures as they are stored, ``None`` for what is not finite."""
        return cls._make(math.nan if value is None else value for value in stored)

    @property
    def is_finite(self) -> bool:
        """Whether both losses are finite; a trial with one that is not has diverged."""
        return math.isfinite(self.train_loss) and math.isfinite(self.val_loss)


def convergence_epoch(train_losses: list[float], num_epochs: int) -> int:
    """DeepLearningPipeline's convergence epoch.

    The first epoch, counted from 1, at which the training loss has fallen by more than 0 and less than 0.001
    for three epochs in a row; ``num_epochs`` if that never happens.
    """
    small = 0
    for epoch, (before, after) in enumerate(itertools.pairwise(train_losses), start=2):
        small = small + 1 if 0 < before - after < 0.001 else 0
        if small == 3:
            return epoch
    return num_epochs


def history_digest(history: list[Epoch]) -> str:
    """SHA-256 of every figure of every epoch."""
    return digest([[*map(json_number, epoch)] for epoch in history])


#: The figures of a finished trial, in the order of a record.
OUTCOME_FIELDS = (
    "num_params",
    "best_val_accuracy",
    "best_val_loss",
    "best_epoch",
    "convergence_epoch",
    "diverged_epoch",
    "test_accuracy",
    "test_accuracy_low",
    "test_accuracy_high",
    "test_loss",
    "test_accuracy_augmented",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "roc_auc",
    "confusion_matrix",
    "train_time_s",
    "eval_time_s",
    "compile_time_s",
    "compile_time_alone_s",
    "io_time_s",
    "wait_time_s",
    "images_per_s",
    "split_digest",
    "params_sha256",
    "best_params_sha256",
    "history_sha256",
    "device",
    "xla_threads",
    "worker",
)


def digest(value: object) -> str:
    """SHA-256, in hexadecimal, of a JSON value in canonical form (sorted keys, no spaces, no NaN)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """One text for equal values, so that equal values have equal digests."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_number(value: float | None) -> float | None:
    """A float that JSON can carry: ``None`` for what is not finite."""
    return None if value is None or not math.isfinite(value) else value
