"""Add seeds to a comparison until its models are separated, or until the largest number of seeds is reached.

Models are separated when one of them has a significantly higher test accuracy than every other; the others need
not differ significantly from each other. Of several data sets, each needs such a model. The looks are planned
beforehand and share one error rate of 5 % (:mod:`dlbench.spec.looks`), so stopping early does not make false
conclusions more likely.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Unpack

from dlbench.analysis.comparison import ModelComparison, compare_models
from dlbench.errors import Field, SpecError
from dlbench.execution import messages
from dlbench.execution.crew import Crew
from dlbench.execution.plan import Plan
from dlbench.report import schedule_in_words
from dlbench.report.tables import listed
from dlbench.spec.looks import Look, seeds_at, with_looks
from dlbench.spec.study import StudySpec
from dlbench.studies.options import RunOptions, RunSettings, merged
from dlbench.studies.planning import plan
from dlbench.studies.result import StudyResult, open_study
from dlbench.studies.running import observed, run_planned, warn_of_failures


def run_until_separated(
    study: StudySpec,
    max_seeds: int | None = None,
    options: RunOptions | None = None,
    **settings: Unpack[RunSettings],
) -> StudyResult:
    """Train a comparison with more and more seeds until its models are separated or ``max_seeds`` is reached.

    After an interruption, the same call continues where it stopped, with the same looks and the same result. The name
    of the folder is that of the study with ``max_seeds`` seeds.

    Args:
        study: a comparison with at least two seeds to start with, as :func:`dlbench.compare` makes it; or a study that
            already has its looks, as :func:`dlbench.open_study` returns it.
        max_seeds: largest number of seeds per model.
        options: where and how to run; the fields of :class:`~dlbench.RunOptions` are also accepted as keyword
            arguments. ``on_event`` is called with the plan of each look, its events, and a notice of its result.

    Returns:
        The trials of all looks that were taken.

    Raises:
        InputError: a value breaks a rule. Other errors are those of :func:`dlbench.run`.
    """
    start = time.perf_counter()
    given = merged(options, **settings)
    study = grown(study, max_seeds)
    with observed(given) as how, Crew() as crew:
        result = _grow(study, how, crew)
    warn_of_failures(result, stacklevel=3)
    return replace(result, wall_time_s=time.perf_counter() - start)


def _grow(study: StudySpec, how: RunOptions, crew: Crew) -> StudyResult:
    """Train a study look by look; the result of the last look that was taken."""
    planned = plan(study, how)
    notify = how.on_event or (lambda event: None)
    seeds = [spec.seed for spec in study.trials]
    notify(messages.Notice(text=schedule_in_words(study)))
    for look in (Look(number, study.looks) for number in range(1, len(study.looks) + 1)):
        result = run_planned(planned.part(seeds_at(look, seeds)), how, crew)
        found = compare_models(result)
        notify(messages.Notice(text=_finding(look, found)))
        if found.is_separated:
            break
    return result


def plan_until_separated(
    study: StudySpec, options: RunOptions | None = None, **settings: Unpack[RunSettings]
) -> Plan:
    """The plan of a comparison that has its looks; once its models are separated, that of the looks that were taken.

    Nothing is trained or written. Arguments and errors are those of :func:`dlbench.plan`.
    """
    planned = plan(study, options, **settings)
    if any(planned.stored.status(trial.id).is_finished for trial in planned.trials):
        found = compare_models(open_study(planned.folder, history=False))
        if found.look and found.is_separated:
            taken = planned.part(seeds_at(found.look, (spec.seed for spec in study.trials)))
            return planned if taken.missing else taken
    return planned


def grown(study: StudySpec, max_seeds: int | None = None) -> StudySpec:
    """The study with all the seeds that its looks may need.

    Raises:
        SpecError: ``max_seeds`` is missing, or differs from the one that the study was planned with.
    """
    if max_seeds is None and not study.looks:
        raise SpecError(
            Field("max_seeds"), " is missing", remedy="give the largest number of seeds per model"
        )
    if not study.looks:
        assert max_seeds is not None
        return with_looks(study, max_seeds)
    if max_seeds not in (None, study.looks[-1]):
        raise SpecError(
            *(f"the study is planned for at most {study.looks[-1]} seeds; got ", Field("max_seeds")),
            f" {max_seeds}",
            value=max_seeds,
        )
    first = sorted({spec.seed for spec in study.trials})[: study.looks[0]]
    begun = study.model_copy(update={"trials": tuple(s for s in study.trials if s.seed in first)})
    return with_looks(begun.as_asked(), study.looks[-1])


def _finding(look: Look, found: ModelComparison) -> str:
    words = (
        f"{found.winner} is better than every other model" if found.winner else "the models are not separated"
    )
    if not found.winner and found.winners:
        words = f"better than every other model on the same data set: {listed([*found.winners])}"
    return f"Look {look.number} of {len(look.schedule)}, {look.num_seeds} seeds: {words}"
