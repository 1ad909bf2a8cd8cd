"""Run a search: propose configurations, train them, propose others, and confirm the winner on new seeds. No jax.

The store of the study is the only record. A search that is interrupted or killed follows the same course when it is
run again: earlier generations are proposed again, and their results are found. In a tuned comparison, each model has a
search of its own; their generations are trained together, and the winners are compared on the new seeds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Unpack

from dlbench.analysis.search import score, searches, sort_key
from dlbench.errors import SpecError
from dlbench.execution import messages
from dlbench.execution.crew import Crew
from dlbench.execution.plan import Plan
from dlbench.report import progress_of_search
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import TrialSpec
from dlbench.storage import artifacts
from dlbench.storage.results import TrialResult
from dlbench.studies.options import RunOptions, RunSettings, merged
from dlbench.studies.planning import plan
from dlbench.studies.proposals import Proposals, Replicates
from dlbench.studies.result import StudyResult, open_study
from dlbench.studies.running import observed, run_planned, warn_of_failures


def run_search(
    study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]
) -> StudyResult:
    """Run a search to its end and return the results of all its trials.

    After an interruption, the same call continues where it stopped, with the same trials.

    Args:
        study: a search, as :func:`dlbench.search` makes it, a comparison of tuned models, as :func:`dlbench.compare`
            does, or either of them as :func:`dlbench.open_study` returns it.
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
    with observed(merged(options, **settings)) as how, Crew() as crew:
        begun = plan(study.model_copy(update={"trials": ()}), how)
        how = replace(how, out=begun.folder)
        course = _Course(study, search, how, lambda planned, how: run_planned(planned, how, crew))
        for number in course:
            course.notify(progress_of_search(search, number, course.result))
        result = course.result
    warn_of_failures(result, stacklevel=2)
    return replace(result, wall_time_s=time.perf_counter() - start)


def plan_search(study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]) -> Plan:
    """The plan of a search as far as its results reach: the trials that are done, and those that come next.

    Nothing is trained or written. Arguments and errors are those of :func:`dlbench.plan`, which shows the beginning of
    a search; the plan's ``generation`` is that of the next trials.
    """
    how = merged(options, **settings)
    begun = plan(study.model_copy(update={"trials": ()}), how)
    search = study.search
    if search is None or not any(begun.stored.status(trial.id).is_finished for trial in begun.trials):
        return begun
    held = open_study(begun.folder, history=False)
    trials = {trial.id: trial for trial in held.trials if trial.status.is_finished}

    def look_up(planned: Plan, how: RunOptions) -> StudyResult:
        if planned.missing or planned.sources:
            raise _NotTrainedError
        found = tuple(trials[trial.id] for trial in planned.trials)
        return replace(held, spec=planned.study, trials=found)

    kept = replace(how, out=begun.folder, keep_state=True, reuse=False)
    course, done = _Course(study, search, kept, look_up), 0
    with contextlib.suppress(_NotTrainedError):
        for number in course:
            done = number
        done += 1  # the confirmation
    return replace(plan(course.study, replace(how, out=begun.folder)), generation=done + 1)


class _NotTrainedError(Exception):
    """Trials of a search have no result yet."""


class _Course:
    """The trials of a search so far, and their results.

    Args:
        study: the search.
        search: how it proposes configurations.
        how: where and how to run.
        perform: returns the results of a plan.
    """

    def __init__(
        self,
        study: StudySpec,
        search: SearchSpec,
        how: RunOptions,
        perform: Callable[[Plan, RunOptions], StudyResult],
    ) -> None:
        self._study, self._search, self._perform = study, search, perform
        self._drops_states = search.resource == "epochs" and not how.keep_state
        self._how = replace(how, keep_state=True) if self._drops_states else how
        self._groups: dict[TrialSpec, Replicates] = {}
        self._found: dict[TrialSpec, TrialResult] = {}
        self._reached: dict[Replicates, int] = {}
        self.result: StudyResult

    @property
    def study(self) -> StudySpec:
        """The search with its trials so far."""
        return self._study.model_copy(update={"trials": tuple(self._groups)})

    def __iter__(self) -> Iterator[int]:
        """Follow the course of the search to its end; yields the number of each generation after it."""
        proposals = [Proposals(part) for part in self._search.parts]
        for number, size in enumerate(self._search.generations, start=1):
            asked = [each.ask(size) for each in proposals]
            self.train(asked)
            for each, configurations in zip(proposals, asked, strict=True):
                each.tell(*self.results(configurations))
            yield number
        self.confirm()

    def notify(self, text: str) -> None:
        if self._how.on_event:
            self._how.on_event(messages.Notice(text=text))

    def train(self, asked: Sequence[Sequence[Replicates]]) -> None:
        """Train the configurations of each part, rung by rung: a rung ends when all its trials have ended."""
        brackets = [
            (rungs, [*dict.fromkeys(share)]) for part in asked for rungs, share in self._search.brackets(part)
        ]
        while brackets:
            self._run(
                {
                    spec: each
                    for rungs, going in brackets
                    for each in going
                    for spec in self._search.at_rung(each, rungs[0])
                }
            )
            left = []
            for (rung, *others), going in brackets:
                self._reached |= {each: max(rung, self._reached.get(each, 0)) for each in going}
                if others:
                    left.append((tuple(others), self._best(going, rung)))
            self._drop_states([spec for _, going in left for each in going for spec in self._trained(each)])
            brackets = left

    def results(self, asked: Sequence[Replicates]) -> tuple[list[float], list[str], list[int]]:
        """The value of each configuration, its first id and the rung that it reached."""
        found = [self._trials(each, self._reached[each]) for each in asked]
        values = [score(trials, self._search.metric) for trials in found]
        ids = [min(trial.id for trial in trials) for trials in found]
        return values, ids, [self._reached[each] for each in asked]

    def confirm(self) -> None:
        """Train the winner of each part with new seeds."""
        new: dict[TrialSpec, Replicates] = {}
        for found in searches(self.result):
            if found.winner is None:
                continue
            first = found.winner.configuration.trials[0].id
            group = next(self._groups[spec] for spec, trial in self._found.items() if trial.id == first)
            one_seed = [spec for spec in group if spec.seed == group[0].seed]  # one for each fold
            for seed in self._search.new_seeds:
                new |= {spec.model_copy(update={"seed": seed}): group for spec in one_seed}
        if new:
            self._run(new)
            self._drop_states([])

    def _run(self, groups: Mapping[TrialSpec, Replicates]) -> None:
        self._groups.update(groups)
        self.result = self._perform(plan(self.study, self._how), self._how)
        self._found = dict(zip(self._groups, self.result.trials, strict=True))

    def _best(self, going: Sequence[Replicates], rung: int) -> list[Replicates]:
        """The configurations that go on from a rung."""
        ordered = sorted(going, key=lambda each: sort_key(self._trials(each, rung), self._search.metric))
        return ordered[: self._search.survivors(len(going))]

    def _trained(self, replicates: Replicates) -> tuple[TrialSpec, ...]:
        """The trials of the last rung that a configuration reached."""
        return self._search.at_rung(replicates, self._reached[replicates])

    def _trials(self, replicates: Replicates, rung: int) -> list[TrialResult]:
        return [self._found[spec] for spec in self._search.at_rung(replicates, rung)]

    def _drop_states(self, needed: Sequence[TrialSpec]) -> None:
        """Remove the states that trials have ended with, except for those from which others will continue."""
        if self._drops_states:
            artifacts.remove_kept(self.result.folder, {self._found[spec].id for spec in needed})
