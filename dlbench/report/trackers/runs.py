"""A trial as a run of a tracker: what is sent, whatever the tracker. No jax."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dlbench.records import TIME_KINDS, Epoch, TrialStatus, digest
from dlbench.report.studies import study_report
from dlbench.report.tables import count, to_markdown
from dlbench.spec.metrics import metric_of
from dlbench.spec.registry import label
from dlbench.storage.results import StudyRecord, TrialResult
from dlbench.storage.tensorboard import hyper_parameters
from dlbench.training.schedules import epoch_rates, is_constant

#: The project or experiment of all runs.
PROJECT = "dlbench"


@dataclass(frozen=True)
class Run:
    """A trial as a run.

    Attributes:
        trial: the trial, which has a result.
        study: the name of its study.
    """

    trial: TrialResult
    study: str

    @property
    def name(self) -> str:
        """A short name: the model, the seed and the trial's id."""
        return f"{label(self.trial.model)} seed {self.trial.seed} ({self.trial.id})"

    @cached_property
    def digest(self) -> str:
        """The digest of all that is recorded of the trial; another one means another result."""
        return digest(self.trial.to_dict())

    @property
    def failed(self) -> bool:
        """Whether the trial failed."""
        return self.trial.status is TrialStatus.FAILED

    @property
    def tags(self) -> dict[str, str]:
        """What identifies the trial."""
        return {
            "dlbench.trial": self.trial.id,
            "dlbench.study": self.study,
            "dlbench.status": str(self.trial.status),
            "dlbench.environment": self.trial.environment or "unknown",
        }

    @property
    def settings(self) -> dict[str, object]:
        """Its settings."""
        return hyper_parameters(self.trial.trial)

    @property
    def curves(self) -> list[dict[str, float]]:
        """For each epoch its metrics by name ("train/loss"); values that are not finite are left out."""
        spec = self.trial.trial.spec
        own = metric_of(spec, "val")
        rates = [] if is_constant(spec) else epoch_rates(spec)
        points = []
        for number, epoch in enumerate(self.trial.history):
            point = {name.replace("_", "/", 1): getattr(epoch, name) for name in Epoch._fields[:4]}
            point |= {own: epoch.val_metric} if own not in point else {}
            point |= {"learning_rate": rates[number]} if number < len(rates) else {}
            points.append(_finite(point))
        return points

    @property
    def final(self) -> dict[str, float]:
        """Its final metrics and costs. Those of validation, which curves show too, are ``best/val_accuracy``."""
        outcome = self.trial.outcome
        metrics = {
            f"best/{name.replace('/', '_')}" if name.startswith("val/") else name: value
            for name, value in outcome.metrics.items()
        }
        costs = {f"time/{kind}_s": outcome.times.get(kind) for kind in TIME_KINDS}
        counts = {"best/epoch": outcome.best_epoch, "num_params": outcome.num_params}
        return _finite({**metrics, **counts, **costs})

    @property
    def files(self) -> Path | None:
        """The folder of its checkpoint and predictions, if there is one."""
        return self.trial.folder if self.trial.study_dir and self.trial.folder.is_dir() else None


@dataclass(frozen=True)
class StudyRuns:
    """A study as the parent of its trials' runs.

    Attributes:
        result: the study.
    """

    result: StudyRecord

    @property
    def name(self) -> str:
        """The name of the study's folder, by which a tracker tells studies apart."""
        return self.result.folder.resolve().name

    @cached_property
    def runs(self) -> list[Run]:
        """The trials that have a result or failed."""
        shown = [t for t in self.result.trials if t.status.has_ended]
        return [Run(trial, self.name) for trial in shown]

    @property
    def digest(self) -> str:
        """The digest of all runs."""
        return digest([run.digest for run in self.runs])

    @property
    def settings(self) -> dict[str, object]:
        """The values of each field that varies."""
        axes = {name: ", ".join(map(str, values)) for name, values in self.result.spec.axes.items()}
        return {"design": self.result.spec.design, "num_trials": len(self.result), **axes}

    @property
    def report(self) -> str:
        """The study's report in Markdown."""
        return to_markdown(study_report(self.result).parts) + "\n"


@dataclass(frozen=True)
class Sent:
    """What was sent to a tracker.

    Attributes:
        study: the name of the study.
        place: where its runs are.
        added: the number of trials whose runs were added.
        known: the number of those that were there already.
    """

    study: str
    place: str
    added: int
    known: int


def sent_in_words(sent: Sent) -> str:
    """A sentence on what was sent."""
    there = f"; {count(sent.known, 'trial')} there already" if sent.known else ""
    return f"{sent.study}: {count(sent.added, 'run')} added to {sent.place}{there}"


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {
        name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)
    }
