"""What training yields: the record of a trial and of a study. No jax."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dlbench.spec import StudySpec, Trial, TrialSpec, digest, json_number

if TYPE_CHECKING:
    import pandas as pd

    from dlbench.checkpoint import LoadedModel


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
KINDS = ("compile", "train", "eval", "io", "wait")


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


@dataclass(frozen=True)
class TrialResult:
    """A trial and what is known of it.

    ``outcome`` holds the figures (accuracies in [0, 1], losses in nats, times in seconds); each is also an
    attribute: ``result.test_accuracy``, ``None`` where it is not known.
    """

    trial: Trial
    status: TrialStatus
    outcome: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Epoch, ...] = ()
    error: str | None = None
    study_dir: Path | None = None

    @property
    def id(self) -> str:
        """The trial's content-addressed id."""
        return self.trial.id

    @property
    def folder(self) -> Path:
        """Where its checkpoint and predictions lie."""
        assert self.study_dir is not None
        return self.study_dir / "trials" / self.id

    @property
    def best_val_loss(self) -> float | None:
        """The validation loss of the epoch whose parameters are tested."""
        if self.best_epoch and self.history:
            return json_number(self.history[self.best_epoch - 1].val_loss)
        return self.outcome.get("best_val_loss")

    def __repr__(self) -> str:
        accuracy = "" if self.test_accuracy is None else f", test_accuracy={self.test_accuracy:.4f}"
        return f"TrialResult({self.id}, {self.trial.spec.model}, {self.status}{accuracy})"

    def __getattr__(self, name: str) -> Any:
        if name in _OUTCOME:
            return self.outcome.get(name)
        if name in _SPEC:
            return getattr(object.__getattribute__(self, "trial").spec, name)
        raise AttributeError(f"TrialResult has no attribute {name!r}")

    def to_dict(self, history: bool = True) -> dict[str, Any]:
        """One flat record that JSON can carry."""
        record = {
            "id": self.id,
            **dict(self.trial.spec),
            "model_args": dict(self.trial.spec.model_args),
            "lanes": self.trial.lanes,
            "data_digest": self.trial.data_digest,
            "model_digest": self.trial.model_digest,
            "status": str(self.status),
            **{name: self.outcome.get(name) for name in OUTCOME_FIELDS},
            "best_val_loss": self.best_val_loss,
            "error": self.error,
        }
        if history:
            names = ("epoch", *Epoch._fields)
            record["history"] = [
                dict(zip(names, (number, *map(json_number, epoch)), strict=True))
                for number, epoch in enumerate(self.history, start=1)
            ]
        return record

    def load(self) -> LoadedModel:
        """The model with the parameters of the best validation epoch.

        Raises:
            StoreError: there is no checkpoint (the trial did not complete).
        """
        from dlbench.checkpoint import load

        return load(self)


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
#: For attributes, which are asked for by the ten thousand.
_OUTCOME, _SPEC = frozenset(OUTCOME_FIELDS), frozenset(TrialSpec.model_fields)


@dataclass(frozen=True)
class StudyResult:
    """A study's trials in the order asked for, and where they are kept.

    ``times``: seconds by kind (:data:`KINDS`) of all its workers, over all the commands that trained it; of one
    command they add up to workers times the seconds it took. Trials that failed or were begun twice are in it.
    """

    spec: StudySpec
    trials: tuple[TrialResult, ...]
    folder: Path
    wall_time_s: float = 0.0
    times: Mapping[str, float] = field(default_factory=dict)

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def complete(self) -> list[TrialResult]:
        """The trials that ended with a result."""
        return [trial for trial in self.trials if trial.status is TrialStatus.COMPLETE]

    @property
    def failed(self) -> list[TrialResult]:
        """The trials that could not be trained."""
        return [trial for trial in self.trials if trial.status is TrialStatus.FAILED]

    def best(self) -> TrialResult:
        """The completed trial of the highest validation accuracy (ties: lower loss there, then first).

        The choice is made on validation images; the test accuracy of what it picks is an honest estimate. That
        it is better than the second is not shown by being chosen: repeat it with seeds and compare.

        Raises:
            ValueError: no trial completed.
        """
        if not self.complete:
            raise ValueError("no trial of this study completed, so none is the best")

        def merit(trial: TrialResult) -> tuple[float, float]:
            loss = trial.best_val_loss
            return (-trial.best_val_accuracy, math.inf if loss is None else loss)

        return min(self.complete, key=merit)

    def to_dataframe(self) -> pd.DataFrame:
        """One row a trial (needs pandas)."""
        import pandas as pd

        return pd.DataFrame([trial.to_dict(history=False) for trial in self.trials])

    def summary(self) -> dict[str, Any]:
        """What the study was, without its trials."""
        return {
            "kind": self.spec.kind,
            "name": self.folder.name,
            "folder": str(self.folder),
            "num_trials": len(self.trials),
            "axes": {name: list(values) for name, values in self.spec.axes.items()},
            "wall_time_s": self.wall_time_s,
            **{f"{kind}_time_s": self.times.get(kind) for kind in KINDS},
        }

    def to_dict(self) -> dict[str, Any]:
        """One record of all that JSON can carry."""
        return {"study": self.summary(), "trials": [trial.to_dict() for trial in self.trials]}
