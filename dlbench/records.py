"""Records of a trial: its status, its epochs and its outcome. No jax."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple


class TrialStatus(StrEnum):
    """The status of a trial. The last three are final; INTERRUPTED is never stored.

    A trial that is stored as running, in a study that no process works on any more, was interrupted.
    """

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    INTERRUPTED = "INTERRUPTED"
    COMPLETE = "COMPLETE"
    DIVERGED = "DIVERGED"
    FAILED = "FAILED"

    @property
    def is_finished(self) -> bool:
        """Whether the trial has a result; training it again would give the same one."""
        return self in (TrialStatus.COMPLETE, TrialStatus.DIVERGED)

    @property
    def has_ended(self) -> bool:
        """Whether the trial is over: it has a result, or failed."""
        return self.is_finished or self is TrialStatus.FAILED


#: The kinds of time that a worker spends. For each trial they are recorded as ``KIND_time_s``, and together they add
#: up to the worker's total time. Waiting includes the worker's start.
TIME_KINDS = ("compile", "train", "eval", "io", "wait")


class Epoch(NamedTuple):
    """One epoch: mean losses, and accuracies in [0, 1], which are not finite where targets are numbers.

    Those of training are running means over the steps of the epoch: of parameters that change, with dropout, mixup and
    transformed images where the trial has them. Those of validation are of the parameters at the end of the epoch.

    ``val_metric`` is the trial's own metric on the validation images; ``None`` where that is their loss or accuracy, or
    where it is not finite.
    """

    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_metric: float | None = None

    @classmethod
    def of(cls, stored: Iterable[float | None]) -> Epoch:
        """An epoch from its stored values, in which ``None`` stands for a value that is not finite."""
        values = [*stored]
        return cls(*(math.nan if value is None else value for value in values[:4]), *values[4:])

    def to_record(self) -> dict[str, float | None]:
        """The values for JSON, by name; without the trial's own metric where there is none."""
        found = dict(zip(self._fields, map(json_number, self), strict=True))
        return found if found["val_metric"] is not None else {name: found[name] for name in self._fields[:4]}

    def metric(self, name: str) -> float:
        """The value of the trial's validation metric; nan where it is not finite."""
        value = {"val/accuracy": self.val_accuracy, "val/loss": self.val_loss}.get(name, self.val_metric)
        return math.nan if value is None else value

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


def plateau_epoch(train_losses: list[float]) -> int:
    """The convergence epoch that DeepLearningPipeline published its results by.

    The first epoch, counted from 1, at which the training loss has changed by less than 0.001, up or down, for three
    epochs in a row. If training ends before, the epoch after the last one, which says that it was not reached.
    """
    small = 0
    for epoch, (before, after) in enumerate(itertools.pairwise(train_losses), start=2):
        small = small + 1 if abs(before - after) < 0.001 else 0
        if small == 3:
            return epoch
    return len(train_losses) + 1


def history_digest(history: list[Epoch]) -> str:
    """SHA-256 of all values of all epochs."""
    return digest([[*epoch.to_record().values()] for epoch in history])


#: Key in a flat record, by metric name. Other metrics are recorded under their name, with "_" in place of "/".
METRICS: Mapping[str, str] = {
    "val/accuracy": "best_val_accuracy",
    "val/loss": "best_val_loss",
    "test/accuracy": "test_accuracy",
    "test/loss": "test_loss",
    "test/accuracy_augmented": "test_accuracy_augmented",
    "test/precision": "macro_precision",
    "test/recall": "macro_recall",
    "test/f1": "macro_f1",
    "test/roc_auc": "roc_auc",
}
_METRIC_OF = {key: name for name, key in METRICS.items()}


class _Metric:
    """A metric as an attribute: its value, or ``None`` if unknown."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, outcome: Outcome, owner: type | None = None) -> float | None:
        return outcome.metrics.get(self._name)


class _Seconds:
    """A kind of time as an attribute, in seconds; ``None`` if unknown."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __get__(self, outcome: Outcome, owner: type | None = None) -> float | None:
        return outcome.times.get(self._kind)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The results of a trial. Unknown values are ``None``, or missing from a mapping.

    Attributes:
        metrics: metrics by name ("test/accuracy"): accuracies in [0, 1]. Validation metrics are
            those of the best epoch; test metrics are measured with the parameters of that epoch.
        times: seconds by kind (:data:`TIME_KINDS`).
        num_params: number of parameters.
        best_epoch: the epoch whose parameters were tested, counted from 1.
        convergence_epoch: see :func:`convergence_epoch`.
        plateau_epoch: see :func:`plateau_epoch`.
        diverged_epoch: the epoch in which a loss was first not finite, counted from 1.
        stopped_epoch: the epoch after which early stopping ended the trial, counted from 1.
        test_accuracy_low: lower bound of the 95 % Wilson interval of the test accuracy, over test images.
        test_accuracy_high: its upper bound.
        confusion_matrix: row i counts the test images of class i by predicted class.
        compile_time_alone_s: seconds that compiling the trial's program would take for this trial alone.
        images_per_s: training images per second of training.
        memory_bytes: bytes that the program which trained it needs at once, for all of its lanes, as XLA plans it.
        split_digest: SHA-256 of the split.
        params_sha256: SHA-256 of the parameters after the last epoch.
        best_params_sha256: SHA-256 of the parameters of the best epoch.
        history_sha256: see :func:`history_digest`.
        files_sha256: SHA-256 of the trial's files (see :func:`dlbench.storage.artifacts.files_digest`).
        environment: digest of everything in the environment that could change bits (see
            :mod:`dlbench.execution.environment`).
        device: the kind of device.
        xla_threads: number of threads that XLA used.
        worker: the worker's number.
        origin: the study in which it was trained and its times were measured, if it was copied from there.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    times: Mapping[str, float | None] = field(default_factory=dict)
    num_params: int | None = None
    best_epoch: int | None = None
    convergence_epoch: int | None = None
    diverged_epoch: int | None = None
    stopped_epoch: int | None = None
    plateau_epoch: int | None = None
    test_accuracy_low: float | None = None
    test_accuracy_high: float | None = None
    confusion_matrix: Sequence[Sequence[int]] | None = None
    compile_time_alone_s: float | None = None
    images_per_s: float | None = None
    memory_bytes: int | None = None
    split_digest: str | None = None
    params_sha256: str | None = None
    best_params_sha256: str | None = None
    history_sha256: str | None = None
    files_sha256: str | None = None
    environment: str | None = None
    device: str | None = None
    xla_threads: int | None = None
    worker: int | None = None
    origin: str | None = None

    best_val_accuracy = _Metric("val/accuracy")
    best_val_loss = _Metric("val/loss")
    test_accuracy = _Metric("test/accuracy")
    test_loss = _Metric("test/loss")
    test_accuracy_augmented = _Metric("test/accuracy_augmented")
    macro_precision = _Metric("test/precision")
    macro_recall = _Metric("test/recall")
    macro_f1 = _Metric("test/f1")
    roc_auc = _Metric("test/roc_auc")
    compile_time_s = _Seconds("compile")
    train_time_s = _Seconds("train")
    eval_time_s = _Seconds("eval")
    io_time_s = _Seconds("io")
    wait_time_s = _Seconds("wait")

    def to_record(self) -> dict[str, Any]:
        """A flat record of JSON values: the keys of :data:`OUTCOME_FIELDS`, then those of other metrics."""
        others = {name.replace("/", "_", 1): v for name, v in self.metrics.items() if name not in METRICS}
        return {name: getattr(self, name) for name in OUTCOME_FIELDS} | others

    def keys(self) -> Iterable[str]:
        """The keys of the flat record; ``dict(outcome)`` and ``{**outcome}`` use them."""
        return self.to_record().keys()

    def __getitem__(self, key: str) -> Any:
        return self.to_record()[key]

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outcome:
        """The outcome of a flat record. Keys that are not the name of a field are metrics."""
        fields: dict[str, Any] = {}
        metrics: dict[str, float | None] = {}
        times: dict[str, float | None] = {}
        for key, value in record.items():
            if key in _TIMES:
                times[_TIMES[key]] = value
            elif key in _PLAIN:
                fields[key] = value
            else:
                metrics[_METRIC_OF.get(key) or key.replace("_", "/", 1)] = value
        return cls(metrics=metrics, times=times, **fields)


_TIMES = {f"{kind}_time_s": kind for kind in TIME_KINDS}
_PLAIN = frozenset(each.name for each in fields(Outcome)) - {"metrics", "times"}

#: The keys of a flat record, in order.
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
    "environment",
    "files_sha256",
    "stopped_epoch",
    "origin",
    "plateau_epoch",
    "memory_bytes",
)


def digest(value: object) -> str:
    """SHA-256, in hexadecimal, of a JSON value in canonical form (sorted keys, no spaces, no NaN)."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def canonical_json(value: object) -> str:
    """JSON in canonical form, so that equal values have equal digests."""
    return _CANONICAL.encode(value)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_number(value: float | None) -> float | None:
    """A value for JSON: ``None`` if it is not finite, since JSON has no such numbers."""
    return None if value is None or not math.isfinite(value) else value
