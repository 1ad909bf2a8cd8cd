"""The plan of a study: what will be trained, before anything is written. No jax."""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dlbench.execution import costs
from dlbench.records import TrialStatus
from dlbench.spec import programs
from dlbench.spec.programs import Program
from dlbench.spec.registry import MODELS
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial
from dlbench.storage.studies import read_statuses


@dataclass(frozen=True)
class Plan:
    """The plan of a study: what will be trained, before anything is written.

    Args:
        study: the study as specified.
        trials: its trials in the study's order, resolved against their data.
        folder: the study's folder, which need not exist yet.
        workers: number of worker processes; 0 trains in the calling process.
        cores: number of cores that train one trial, on a CPU.
        device: "cpu", "gpu", "tpu" or "metal".
        data_dir: folder of the user's data sets.
        statuses: the status of each trial that ``folder`` already holds, by id.
    """

    study: StudySpec
    trials: tuple[Trial, ...]
    folder: Path
    workers: int
    cores: int
    device: str
    data_dir: str | None
    statuses: Mapping[str, TrialStatus]

    @functools.cached_property
    def done(self) -> frozenset[str]:
        """The ids of the trials that have a result."""
        return frozenset(i for i, status in self._known() if status.is_finished)

    @functools.cached_property
    def failed(self) -> frozenset[str]:
        """The ids of the trials that failed."""
        return frozenset(i for i, status in self._known() if status is TrialStatus.FAILED)

    @property
    def programs(self) -> list[Program]:
        """The trials, grouped by the XLA program that they share."""
        return programs.programs(self.trials)

    @property
    def missing(self) -> list[Trial]:
        """The trials that have no result yet."""
        return [trial for trial in self.trials if trial.id not in self.done]

    @property
    def own_models(self) -> list[str]:
        """What identifies each model of the user's own and how it is told that it trains, a sentence each."""
        return [
            about
            for model in dict.fromkeys(t.spec.model for t in self.trials)
            if (about := MODELS.about(model))
        ]

    def part(self, seeds: Collection[int]) -> Plan:
        """The plan of the trials with these seeds only, in the same folder, with their present statuses."""
        specs = tuple(spec for spec in self.study.trials if spec.seed in seeds)
        return replace(
            self,
            study=self.study.model_copy(update={"trials": specs}),
            trials=tuple(trial for trial in self.trials if trial.spec.seed in seeds),
            statuses=read_statuses(self.folder, self.study.looks),
        )

    @property
    def estimate_s(self) -> float:
        """Estimated seconds for training the missing trials."""
        return costs.estimate_s(self.missing, max(self.workers, 1))

    def _known(self) -> Iterator[tuple[str, TrialStatus]]:
        """Id and status of its trials that the folder holds."""
        ids = (trial.id for trial in self.trials)
        return ((trial_id, self.statuses[trial_id]) for trial_id in ids if trial_id in self.statuses)
