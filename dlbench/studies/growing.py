"""Add seeds to a comparison until the data separate its models, or the budget ends.

Models are separated when the first of them by test accuracy is told from each of the others: with two models,
when their difference is supported. The others need not be told from one another. The looks are planned
beforehand and share one error rate of 5 % (:mod:`dlbench.spec.looks`), so stopping early costs no honesty.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Unpack

from dlbench.errors import Field, SpecError
from dlbench.execution import messages
from dlbench.report import schedule_in_words, winner
from dlbench.spec.looks import Look, seeds_at, with_looks
from dlbench.spec.study import StudySpec
from dlbench.studies.options import RunOptions, RunSettings, merged
from dlbench.studies.planning import plan
from dlbench.studies.result import StudyResult
from dlbench.studies.running import run_planned, warn_of_failures


def run_until_separated(
    study: StudySpec,
    max_seeds: int | None = None,
    options: RunOptions | None = None,
    **settings: Unpack[RunSettings],
) -> StudyResult:
    """Train a comparison with more and more seeds until it is settled or the budget ends.

    An interrupted call goes on where it was when it is called again, to the same looks and the same end; the
    folder's name is that of the study at ``max_seeds``. Workers start anew after each look.

    Args:
        study: a comparison, as :func:`dlbench.compare` makes it, with the seeds to start with, two or more; or one
            that has its looks already, as :func:`dlbench.open_study` returns it.
        max_seeds: seeds of a model at most.
        options: where and how; the fields of :class:`~dlbench.RunOptions` are accepted as keyword arguments too.
            ``on_event`` is called with the plan of each look, its events, and a notice of what it found.

    Returns:
        The trials of the looks that were taken.

    Raises:
        InputError: a value breaks a rule; otherwise as :func:`dlbench.run`.
    """
    start = time.perf_counter()
    how = merged(options, **settings)
    study = grown(study, max_seeds)
    planned = plan(study, how)
    tell = how.on_event or (lambda event: None)
    seeds = [spec.seed for spec in study.trials]
    tell(messages.Notice(text=schedule_in_words(study.looks)))
    for look in (Look(number, study.looks) for number in range(1, len(study.looks) + 1)):
        result = run_planned(planned.part(seeds_at(look, seeds)), how)
        separated = winner(result)
        tell(messages.Notice(text=_finding(look, separated)))
        if separated:
            break
    warn_of_failures(result, stacklevel=3)
    return replace(result, wall_time_s=time.perf_counter() - start)


def grown(study: StudySpec, max_seeds: int | None = None) -> StudySpec:
    """The study with all the seeds that its looks may come to need.

    Raises:
        SpecError: neither the study nor the caller says how many those are.
    """
    if max_seeds is None and not study.looks:
        raise SpecError(
            Field("max_seeds"), " is not given", remedy="say how many seeds each model may get at most"
        )
    if not study.looks:
        assert max_seeds is not None
        return with_looks(study, max_seeds)
    if max_seeds not in (None, study.looks[-1]):
        raise SpecError(
            *(f"the study is planned for {study.looks[-1]} seeds at most; got ", Field("max_seeds")),
            f" {max_seeds}",
            value=max_seeds,
        )
    first = sorted({spec.seed for spec in study.trials})[: study.looks[0]]
    begun = study.model_copy(update={"trials": tuple(s for s in study.trials if s.seed in first)})
    return with_looks(begun.as_asked(), study.looks[-1])


def _finding(look: Look, separated: str | None) -> str:
    found = f"{separated} is told from each of the others" if separated else "the models are not separated"
    return f"Look {look.number} of {len(look.schedule)}, {look.num_seeds} seeds: {found}"
