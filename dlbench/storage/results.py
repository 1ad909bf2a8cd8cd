"""What training yields: the record of a trial and of a study. No jax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlbench.records import OUTCOME_FIELDS, TIME_KINDS, Epoch, TrialStatus, json_number
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial, TrialSpec

if TYPE_CHECKING:
    from dlbench.storage.checkpoints import LoadedModel


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
            "optimizer_args": dict(self.trial.spec.optimizer_args),
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
        from dlbench.storage.checkpoints import load

        return load(self)


#: For attributes, which are asked for by the ten thousand.
_OUTCOME, _SPEC = frozenset(OUTCOME_FIELDS), frozenset(TrialSpec.model_fields)


@dataclass(frozen=True)
class StudyRecord:
    """What is recorded of a study: its trials in the order asked for, and where they are kept.

    Attributes:
        spec: what was asked for.
        trials: its trials.
        folder: the study's folder.
        wall_time_s: seconds that the last command took; 0 where the study was only opened.
        times: seconds by kind (:data:`~dlbench.records.TIME_KINDS`) of all workers, over all the commands that
            trained the study. For one command they add up to workers times its wall time; trials that failed or
            were started twice are included.
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

    def summary(self) -> dict[str, Any]:
        """What the study was, without its trials."""
        return {
            "kind": self.spec.kind,
            "name": self.folder.name,
            "folder": str(self.folder),
            "num_trials": len(self.trials),
            "axes": {name: list(values) for name, values in self.spec.axes.items()},
            "wall_time_s": self.wall_time_s,
            **{f"{kind}_time_s": self.times.get(kind) for kind in TIME_KINDS},
        }

    def to_dict(self) -> dict[str, Any]:
        """One record of all that JSON can carry."""
        return {"study": self.summary(), "trials": [trial.to_dict() for trial in self.trials]}
