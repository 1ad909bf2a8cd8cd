"""The plan of a study: what will be trained, before anything is written. No jax."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dlbench.execution import costs, environment
from dlbench.records import TrialStatus
from dlbench.spec import programs
from dlbench.spec.programs import Program
from dlbench.spec.registry import MODELS
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import Trial
from dlbench.storage.sources import Kept
from dlbench.storage.studies import StoredTrials, read_trials


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
        stored: what ``folder`` already holds.
        environment: the environment in which trials would be trained; empty if there are no results with which it
            would have to be compared.
        sources: other studies that hold a result of this environment, by the id of a trial that ``folder`` lacks.
        unreadable: why other studies could not be searched for results, a sentence each.
        shorter: the trials of this environment that trials to come continue, because they differ from them only in
            having fewer epochs and their state was kept, by trial id.
        num_length_bound: trials that could continue another one, but for a schedule that depends on the number of
            epochs.
        machines: what to say of the machines, a sentence each.
        generation: of a search, the generation that the next trials belong to; one more than it has for those that
            confirm the winner, two more when it has ended.
    """

    study: StudySpec
    trials: tuple[Trial, ...]
    folder: Path
    workers: int
    cores: int
    device: str
    data_dir: str | None
    stored: StoredTrials
    environment: Mapping[str, Any]
    sources: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    shorter: Mapping[str, Kept] = field(default_factory=dict)
    num_length_bound: int = 0
    machines: tuple[str, ...] = ()
    generation: int = 1

    @functools.cached_property
    def done(self) -> frozenset[str]:
        """The ids of the trials that have a result of the present environment, in ``folder`` or to be copied."""
        return (self._with_result - self.superseded) | self.sources.keys()

    @functools.cached_property
    def superseded(self) -> frozenset[str]:
        """The ids of the trials that have a result of another environment, and are trained again."""
        now = self.environment.get("digest")
        return frozenset(i for i in self._with_result if self.stored.is_of_another(i, now))

    @functools.cached_property
    def failed(self) -> frozenset[str]:
        """The ids of the trials that failed."""
        return frozenset(t.id for t in self.trials if self.stored.status(t.id) is TrialStatus.FAILED)

    @functools.cached_property
    def _with_result(self) -> frozenset[str]:
        return frozenset(t.id for t in self.trials if self.stored.status(t.id).is_finished)

    @functools.cached_property
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

    @property
    def trained_again(self) -> list[str]:
        """Which trials are trained again and why, a sentence for each environment that results come from."""
        again = sorted(self.superseded - self.sources.keys())
        found = Counter(self.stored.environments.get(trial_id) for trial_id in again)
        said = [
            f"{'1 trial was' if number == 1 else f'{number:,} trials were'} trained in another environment "
            f"({environment.change(other, self.environment, self.stored.described)}) and "
            f"{'is' if number == 1 else 'are'} trained again, because bits can differ; the earlier results are kept"
            for other, number in found.items()
        ]
        if lost := [self.stored.broken[trial.id] for trial in self.trials if trial.id in self.stored.broken]:
            said.append(
                f"{'1 trial is' if len(lost) == 1 else f'{len(lost):,} trials are'} trained again, because files are "
                f"missing or damaged: {lost[0]}"
            )
        return said

    @property
    def copied(self) -> list[str]:
        """What is used of other studies, a sentence for each of them; and why some of it cannot be used."""
        found = Counter(folders[0] for folders in self.sources.values())
        return [
            f"{'1 trial is' if number == 1 else f'{number:,} trials are'} copied from {folder}, which has trained "
            f"{'it' if number == 1 else 'them'} in this environment"
            for folder, number in found.items()
        ] + [*self._continued, *self.unreadable]

    @property
    def _continued(self) -> Iterator[str]:
        found = Counter((kept.folder.parent.parent, kept.epoch) for kept in self.shorter.values())
        for (folder, epoch), number in found.items():
            yield (
                f"{'1 trial continues' if number == 1 else f'{number:,} trials continue'} after epoch {epoch} of the "
                f"same trial in {folder}"
            )
        if bound := self.num_length_bound:
            yield (
                f"{'1 trial' if bound == 1 else f'{bound:,} trials'} cannot continue a shorter one whose state was "
                "kept, because the learning rate schedule depends on the number of epochs; trained from the beginning"
            )

    def part(self, seeds: Collection[int]) -> Plan:
        """The plan of the trials with these seeds only, in the same folder, with their present statuses."""
        specs = tuple(spec for spec in self.study.trials if spec.seed in seeds)
        trials = tuple(trial for trial in self.trials if trial.spec.seed in seeds)
        stored = read_trials(self.folder, self.study.looks, self.study.search)
        left = {t.id for t in trials if stored.environments.get(t.id) != self.environment.get("digest")}
        return replace(
            self,
            study=self.study.model_copy(update={"trials": specs}),
            trials=trials,
            stored=stored,
            sources={trial_id: found for trial_id, found in self.sources.items() if trial_id in left},
            shorter={trial_id: kept for trial_id, kept in self.shorter.items() if trial_id in left},
        )

    @functools.cached_property
    def estimate_s(self) -> float:
        """Estimated seconds for training the missing trials; for a search, those that it will propose too."""
        search = self.study.search
        left = [
            trial.of_length(max(trial.spec.num_epochs - self.shorter[trial.id].epoch, 1))
            if trial.id in self.shorter
            else trial
            for trial in self.missing
        ]
        known = costs.estimate_s(left, max(self.workers, 1))
        if self.study.design == "comparison":
            known += costs.linear_s(left)
        if search is None or not self.missing:
            return known
        ahead = search.most_work - math.fsum(search.work(trial.spec) for trial in self.trials)
        return known * (1 + max(ahead, 0.0) / math.fsum(search.work(trial.spec) for trial in self.missing))
