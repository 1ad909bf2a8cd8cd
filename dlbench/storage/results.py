"""The results of trials and studies. No jax."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from dlbench.errors import UnknownNameError
from dlbench.records import (
    METRICS,
    OUTCOME_FIELDS,
    TIME_KINDS,
    Epoch,
    Outcome,
    TrialStatus,
    digest,
    json_number,
)
from dlbench.spec.metrics import is_metric, metric_key, metric_of, point
from dlbench.spec.parts import Arguments
from dlbench.spec.published import Published
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.training.schedules import epoch_rates, is_constant

if TYPE_CHECKING:
    from dlbench.storage.checkpoints import LoadedModel


T = TypeVar("T")


class _OfSpec(Generic[T]):
    """A field of the trial's specification, as an attribute of its result."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trial: TrialResult, owner: type | None = None) -> T:
        return cast(T, getattr(trial.trial.spec, self._name))


class _OfOutcome(Generic[T]):
    """A field of the trial's outcome, as an attribute of its result; ``None`` if unknown."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, trial: TrialResult, owner: type | None = None) -> T | None:
        return cast("T | None", getattr(trial.outcome, self._name))


@dataclass(frozen=True)
class TrialResult:
    """A trial and its results.

    Every field of its specification and of its outcome is an attribute: ``result.learning_rate``,
    ``result.test_accuracy``. Accuracies are in [0, 1], times in seconds.

    Attributes:
        trial: the trial.
        status: its status.
        outcome: its results.
        history: its epochs; empty if they were not read.
        error: the reason if it failed.
        study_dir: the study's folder.
    """

    trial: Trial
    status: TrialStatus
    outcome: Outcome = Outcome()  # noqa: RUF009 (it is frozen)
    history: tuple[Epoch, ...] = ()
    error: str | None = None
    study_dir: Path | None = None

    model = _OfSpec[str]()
    model_args = _OfSpec[Arguments]()
    dropout = _OfSpec["float | None"]()
    dataset = _OfSpec[str]()
    dataset_args = _OfSpec[Arguments]()
    train_size = _OfSpec["int | None"]()
    val_size = _OfSpec["int | None"]()
    test_size = _OfSpec["int | None"]()
    split_seed = _OfSpec[int]()
    sampling = _OfSpec[str]()
    val_from = _OfSpec[str]()
    folds = _OfSpec["int | None"]()
    fold = _OfSpec[int]()
    transform = _OfSpec[str]()
    transform_args = _OfSpec[Arguments]()
    val_transform = _OfSpec[str]()
    val_transform_args = _OfSpec[Arguments]()
    test_augmented = _OfSpec[bool]()
    test_transform = _OfSpec[str]()
    test_transform_args = _OfSpec[Arguments]()
    normalize = _OfSpec[str]()
    criterion = _OfSpec[str]()
    criterion_args = _OfSpec[Arguments]()
    class_weights = _OfSpec["str | tuple[tuple[int, float], ...] | None"]()
    mixup = _OfSpec[float]()
    optimizer = _OfSpec[str]()
    optimizer_args = _OfSpec[Arguments]()
    learning_rate = _OfSpec[float]()
    schedule = _OfSpec[str]()
    schedule_args = _OfSpec[Arguments]()
    weight_decay = _OfSpec[float]()
    decay_mode = _OfSpec[str]()
    decay_on = _OfSpec[str]()
    clip_norm = _OfSpec["float | None"]()
    ema_decay = _OfSpec[float]()
    batch_size = _OfSpec[int]()
    num_epochs = _OfSpec[int]()
    selection_metric = _OfSpec[str]()
    selection_metric_args = _OfSpec[Arguments]()
    patience = _OfSpec["int | None"]()
    min_delta = _OfSpec[float]()
    seed = _OfSpec[int]()
    vary = _OfSpec[str]()
    init_seed = _OfSpec["int | None"]()
    order_seed = _OfSpec["int | None"]()
    dropout_seed = _OfSpec["int | None"]()
    augment_seed = _OfSpec["int | None"]()

    num_params = _OfOutcome[int]()
    best_val_accuracy = _OfOutcome[float]()
    best_epoch = _OfOutcome[int]()
    convergence_epoch = _OfOutcome[int]()
    diverged_epoch = _OfOutcome[int]()
    stopped_epoch = _OfOutcome[int]()
    plateau_epoch = _OfOutcome[int]()
    memory_bytes = _OfOutcome[int]()
    test_accuracy = _OfOutcome[float]()
    test_accuracy_low = _OfOutcome[float]()
    test_accuracy_high = _OfOutcome[float]()
    test_loss = _OfOutcome[float]()
    test_accuracy_augmented = _OfOutcome[float]()
    macro_precision = _OfOutcome[float]()
    macro_recall = _OfOutcome[float]()
    macro_f1 = _OfOutcome[float]()
    roc_auc = _OfOutcome[float]()
    confusion_matrix = _OfOutcome[Sequence[Sequence[int]]]()
    train_time_s = _OfOutcome[float]()
    eval_time_s = _OfOutcome[float]()
    compile_time_s = _OfOutcome[float]()
    compile_time_alone_s = _OfOutcome[float]()
    io_time_s = _OfOutcome[float]()
    wait_time_s = _OfOutcome[float]()
    images_per_s = _OfOutcome[float]()
    split_digest = _OfOutcome[str]()
    params_sha256 = _OfOutcome[str]()
    best_params_sha256 = _OfOutcome[str]()
    history_sha256 = _OfOutcome[str]()
    device = _OfOutcome[str]()
    xla_threads = _OfOutcome[int]()
    worker = _OfOutcome[int]()
    environment = _OfOutcome[str]()
    files_sha256 = _OfOutcome[str]()
    origin = _OfOutcome[str]()

    @property
    def id(self) -> str:
        """The trial's content-addressed id."""
        return self.trial.id

    @property
    def failure(self) -> str:
        """Why it failed, in one line; empty where it did not."""
        return next(iter((self.error or "").splitlines()), "")

    @property
    def folder(self) -> Path:
        """The trial's folder, which holds its checkpoint and its predictions."""
        assert self.study_dir is not None
        return self.study_dir / "trials" / self.id

    @property
    def best_val_loss(self) -> float | None:
        """The validation loss of the best epoch, whose parameters are tested."""
        if self.best_epoch and self.history:
            return json_number(self.history[self.best_epoch - 1].val_loss)
        return self.outcome.best_val_loss

    @property
    def test_accuracy_bounds(self) -> tuple[float, float, float] | None:
        """The test accuracy with the bounds of its 95 % Wilson interval."""
        bounds = self.test_accuracy, self.test_accuracy_low, self.test_accuracy_high
        return None if None in bounds else cast(tuple[float, float, float], bounds)

    @property
    def chance(self) -> float | None:
        """The test accuracy of always predicting the most frequent class; ``None`` without a confusion matrix."""
        if self.confusion_matrix is None:
            return None
        counts = [sum(row) for row in self.confusion_matrix]
        return max(counts) / sum(counts)

    @property
    def collapsed(self) -> bool:
        """Whether it diverged, or the lower bound of its test accuracy, over test images, is not above chance.

        A trial that was not trained to its end for any other reason has not.
        """
        if self.status is TrialStatus.DIVERGED:
            return True
        chance, low = self.chance, self.test_accuracy_low
        return (
            self.status is TrialStatus.COMPLETE and chance is not None and low is not None and low <= chance
        )

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """The metrics by name: ``result.metrics["test/accuracy"]``."""
        return self.outcome.metrics

    def value(self, name: str) -> Any:
        """The value of a field or of a metric ("test/accuracy"), by name; ``None`` if unknown.

        Raises:
            UnknownNameError: there is no such field or metric.
        """
        name = METRICS.get(name, name)
        if name in TRIAL_FIELDS:
            return getattr(self, name)
        whole = name if "/" in name else name.replace("_", "/", 1)
        if whole not in self.outcome.metrics and not is_metric(name):
            raise UnknownNameError("field", name, TRIAL_FIELDS)
        if whole not in self.outcome.metrics and (found := point(name)):
            return self._at(*found)
        return self.outcome.metrics.get(whole)

    def _at(self, curve: str, epoch: int) -> float | None:
        """The value of a curve after an epoch, counted from 1, or from the end; ``None`` if it is unknown."""
        place = epoch - 1 if epoch > 0 else len(self.history) + epoch
        known = 0 <= place < len(self.history)
        return json_number(getattr(self.history[place], curve)) if known else None

    def __repr__(self) -> str:
        key = metric_key(metric_of(self.trial.spec, "test"))
        value = self.value(key)
        measured = "" if value is None else f", {key}={value:.4f}"
        return f"TrialResult({self.id}, {self.trial.spec.model}, {self.status}{measured})"

    def to_dict(self, history: bool = True) -> dict[str, Any]:
        """One flat record of JSON values.

        Args:
            history: whether to include the epochs.
        """
        record = {
            "id": self.id,
            **self.trial.spec.to_record(),
            "lanes": self.trial.lanes,
            "data_digest": self.trial.data_digest,
            "model_digest": self.trial.model_digest,
            "part_digests": dict(self.trial.part_digests),
            "numerics": self.trial.numerics,
            "status": str(self.status),
            **self.outcome.to_record(),
            "best_val_loss": self.best_val_loss,
            "error": self.error,
        }
        if history:
            record["history"] = [
                {"epoch": number, **epoch.to_record()} for number, epoch in enumerate(self.history, start=1)
            ]
            if not is_constant(self.trial.spec):
                for epoch, rate in zip(record["history"], epoch_rates(self.trial.spec), strict=False):
                    epoch["learning_rate"] = rate
        return record

    def load(self) -> LoadedModel:
        """Load the model with the parameters of the best validation epoch.

        Raises:
            StoreError: there is no checkpoint, because the trial did not complete.
        """
        from dlbench.storage.checkpoints import load

        return load(self)


#: The names that :meth:`TrialResult.value` accepts, besides those of metrics.
TRIAL_FIELDS = ("id", "status", "error", "collapsed", *TrialSpec.model_fields, *OUTCOME_FIELDS)


#: A linear model is fitted to this many splits of a study.
LINEAR_SPLITS = 10


@dataclass(frozen=True)
class LinearModel:
    """What a linear model reaches on a split, beside which networks are shown.

    Attributes:
        method: how it was fitted, in words.
        values: its metrics and ``num_params``, by key.
    """

    method: str
    values: Mapping[str, float]


def split_key(trial: Trial) -> str:
    """What tells the images that a trial trains, validates and tests on, and its metric, from those of others."""
    spec = trial.spec
    sizes = spec.train_size, spec.val_size, spec.test_size, spec.split_seed, spec.folds, spec.fold
    drawn = [each for each in (spec.sampling, spec.val_from) if each not in ("stratified", "train")]
    return digest(
        [*drawn, trial.data_digest, *sizes, spec.selection_metric, list(spec.selection_metric_args)]
    )[:16]


@dataclass(frozen=True)
class StudyRecord:
    """The record of a study: its trials in the order requested, and its folder.

    Attributes:
        spec: the specification of the study.
        trials: its trials.
        folder: the study's folder.
        wall_time_s: seconds that the last command took; 0 if the study was only opened.
        times: seconds by kind (:data:`~dlbench.records.TIME_KINDS`) of all workers, over all commands that trained the
            study. For one command they add up to workers times its wall time; trials that failed or were started
            twice are included.
        energy: joules by kind of counter ("rapl", "nvml"), and the "seconds" of all workers during which they were
            counted; empty where no counter could be read.
        environments: descriptions of the environments in which it was trained, by digest.
        superseded: the earlier results of trials that were trained again in another environment.
        published: results that others have published, which the study's file names.
        linear: linear models of a comparison's splits, by :func:`split_key`.
        right: of the export of a study that crosses seeds: how many test images were classified correctly by how many
            trials of a configuration, by the id of its first trial. Studies have the logits themselves.
        load: the load of the machine (its average over a minute) before training; ``None`` if it is not recorded.
    """

    spec: StudySpec
    trials: tuple[TrialResult, ...]
    folder: Path
    wall_time_s: float = 0.0
    times: Mapping[str, float] = field(default_factory=dict)
    energy: Mapping[str, float] = field(default_factory=dict)
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    superseded: tuple[TrialResult, ...] = ()
    published: tuple[Published, ...] = ()
    linear: Mapping[str, LinearModel] = field(default_factory=dict)
    load: float | None = None
    right: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def complete(self) -> list[TrialResult]:
        """The trials that have completed."""
        return [trial for trial in self.trials if trial.status is TrialStatus.COMPLETE]

    @property
    def failed(self) -> list[TrialResult]:
        """The trials that could not be trained."""
        return [trial for trial in self.trials if trial.status is TrialStatus.FAILED]

    def summary(self) -> dict[str, Any]:
        """A record of the study without its trials."""
        return {
            "kind": self.spec.kind,
            "name": self.folder.name,
            "folder": str(self.folder),
            "num_trials": len(self.trials),
            "num_superseded": len(self.superseded),
            "axes": {name: list(values) for name, values in self.spec.axes.items()},
            "wall_time_s": self.wall_time_s,
            **{f"{kind}_time_s": self.times.get(kind) for kind in TIME_KINDS},
        }

    def to_dict(self) -> dict[str, Any]:
        """A record of the study and its trials, of JSON values."""
        return {"study": self.summary(), "trials": [trial.to_dict() for trial in self.trials]}
