"""Run a search: propose configurations, train them, propose others, and confirm the winner on new seeds. No jax.

The store of the study is the only record. A search that is interrupted or killed follows the same course when it is
run again: earlier generations are proposed again, and their results are found.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from dlbench.analysis.search import score, search_findings, sort_key
from dlbench.errors import SpecError
from dlbench.execution import messages
from dlbench.report import progress_of_search
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import TrialSpec
from dlbench.storage.results import TrialResult
from dlbench.studies.options import RunOptions, RunSettings, merged
from dlbench.studies.planning import plan
from dlbench.studies.proposals import Proposals, Replicates
from dlbench.studies.result import StudyResult
from dlbench.studies.running import observed, run_planned, warn_of_failures


def run_search(
    study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]
) -> StudyResult:
    """Run a search to its end and return the results of all its trials.

    After an interruption, the same call continues where it stopped, with the same trials. Workers are restarted for
    each generation.

    Args:
        study: a search, as :func:`dlbench.search` makes it, or :func:`dlbench.open_study` returns it.
        options: where and how to run; the fields of :class:`~dlbench.RunOptions` are also accepted as keyword
            arguments. ``on_event`` is called with the plan of each generation, its events, and a notice of its result.

    Raises:
        InputError: a value breaks a rule; Optuna is not installed, or in another version than the search began with.
            Other errors are those of :func:`dlbench.run`.
    """
    start = time.perf_counter()
    search = study.search
    if search is None:
        raise SpecError("the study is no search", value=study.design, remedy="make it with dlbench.search")
    with observed(merged(options, **settings)) as how:
        begun = plan(study.model_copy(update={"trials": ()}), how)
        course = _Course(study, search, replace(how, out=begun.folder))
        proposals = Proposals(search)
        for number, size in enumerate(search.generations, start=1):
            asked = proposals.ask(size)
            proposals.tell(*course.train(asked))
            course.notify(progress_of_search(search, number, course.result))
        result = course.confirm()
    warn_of_failures(result, stacklevel=2)
    return replace(result, wall_time_s=time.perf_counter() - start)


class _Course:
    """The trials of a search so far, and their results."""

    def __init__(self, study: StudySpec, search: SearchSpec, how: RunOptions) -> None:
        self._study, self._search, self._how = study, search, how
        self._groups: dict[TrialSpec, Replicates] = {}
        self._found: dict[TrialSpec, TrialResult] = {}
        self.result: StudyResult

    def notify(self, text: str) -> None:
        if self._how.on_event:
            self._how.on_event(messages.Notice(text=text))

    def train(self, asked: Sequence[Replicates]) -> tuple[list[float], list[str]]:
        """Train configurations, rung by rung, and return the value and the first id of each."""
        going = list(dict.fromkeys(asked))
        for rung in self._search.rungs:
            seeds = self._search.seeds[:rung]
            self._run({spec: each for each in going for spec in each if spec.seed in seeds})
            going.sort(key=lambda each: sort_key(self._trials(each), self._search.metric))
            going = going[: self._search.survivors(len(going))]
        found = list(map(self._trials, asked))
        values = [score(trials, self._search.metric) for trials in found]
        return values, [min(trial.id for trial in trials) for trials in found]

    def confirm(self) -> StudyResult:
        """Train the winner with new seeds."""
        winner = search_findings(self.result).winner
        if winner is not None:
            first = winner.configuration.trials[0].id
            group = next(self._groups[spec] for spec, trial in self._found.items() if trial.id == first)
            one_seed = [spec for spec in group if spec.seed == group[0].seed]  # one for each fold
            new = [
                spec.model_copy(update={"seed": seed}) for seed in self._search.new_seeds for spec in one_seed
            ]
            self._run(dict.fromkeys(new, group))
        return self.result

    def _run(self, groups: Mapping[TrialSpec, Replicates]) -> None:
        self._groups.update(groups)
        study = self._study.model_copy(update={"trials": tuple(self._groups)})
        self.result = run_planned(plan(study, self._how), self._how)
        self._found = dict(zip(self._groups, self.result.trials, strict=True))

    def _trials(self, replicates: Replicates) -> list[TrialResult]:
        """The trials of a configuration so far."""
        return [self._found[spec] for spec in replicates if spec in self._found]
