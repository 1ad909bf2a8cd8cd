"""Add seeds to a comparison until the data separate its models, or the budget ends.

Models are separated when the first of them by test accuracy is told from each of the others: with two models,
when their difference is supported. The others need not be told from one another. The looks are planned
beforehand and share one error rate of 5 % (:mod:`dlbench.spec.looks`), so stopping early costs no honesty.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dlbench.errors import SpecError
from dlbench.execution import messages
from dlbench.execution.plan import Plan
from dlbench.report import schedule_in_words, winner
from dlbench.spec.looks import Look, seeds_at, with_looks
from dlbench.spec.study import StudySpec
from dlbench.studies import planning as studies
from dlbench.studies.result import StudyResult
from dlbench.studies.running import Observer, run_planned


def run_until_separated(
    study: StudySpec,
    max_seeds: int | None = None,
    *,
    out: Path | str | None = None,
    workers: int | None = None,
    lanes: int | Literal["auto"] = "auto",
    device: str = "auto",
    data_dir: str | None = None,
    command: Sequence[str] = (),
    config: str = "",
    on_event: Observer | None = None,
    retry_failed: bool = False,
    checkpoint_every: int | None = None,
) -> StudyResult:
    """Train a comparison with more and more seeds until it is settled or the budget ends.

    An interrupted call goes on where it was when it is called again, to the same looks and the same end; the
    folder's name is that of the study at ``max_seeds``. Workers start anew after each look.

    Args:
        study: a comparison (of kind "compare-archs") with the seeds to start with, two or more; or one that
            has its looks already, as :func:`~dlbench.studies.result.open_study` returns it.
        max_seeds: seeds of a model at most.
        out: the study's folder; see :func:`~dlbench.studies.running.run` for this and the others.
        workers: processes to train in.
        lanes: vmapped lanes; "auto": by the number of trials at the first look.
        device: where to train.
        data_dir: where data sets lie.
        command: the command line to record.
        config: the text of the file that the study comes from, to record.
        on_event: called with the plan of each look, its events, and a notice of what it found.
        retry_failed: whether trials that failed before are tried again.
        checkpoint_every: epochs between saved states of a trial.

    Returns:
        The trials of the looks that were taken.

    Raises:
        InputError: a value breaks a rule; otherwise as :func:`~dlbench.studies.running.run`.
    """
    start = time.perf_counter()
    study = grown(study, max_seeds)
    planned = plan(study, out=out, workers=workers, lanes=lanes, device=device, data_dir=data_dir)
    tell = on_event or (lambda event: None)
    seeds = [spec.seed for spec in study.trials]
    tell(messages.Notice(text=schedule_in_words(study.looks)))
    for look in (Look(number, study.looks) for number in range(1, len(study.looks) + 1)):
        result = run_planned(
            planned.part(seeds_at(look, seeds)),
            command=command,
            config=config,
            on_event=on_event,
            retry_failed=retry_failed,
            checkpoint_every=checkpoint_every,
        )
        separated = winner(result)
        tell(messages.Notice(text=_finding(look, separated)))
        if separated:
            break
    return replace(result, wall_time_s=time.perf_counter() - start)


def grown(study: StudySpec, max_seeds: int | None = None) -> StudySpec:
    """The study with all the seeds that its looks may come to need.

    Raises:
        SpecError: neither the study nor the caller says how many those are.
    """
    if max_seeds is None and not study.looks:
        raise SpecError("until when? max_seeds (--max-seeds) says how many seeds a model may get")
    if not study.looks:
        assert max_seeds is not None
        return with_looks(study, max_seeds)
    if max_seeds not in (None, study.looks[-1]):
        raise SpecError(f"the study is planned for {study.looks[-1]} seeds at most, not {max_seeds}")
    first = sorted({spec.seed for spec in study.trials})[: study.looks[0]]
    begun = study.model_copy(update={"trials": tuple(s for s in study.trials if s.seed in first)})
    return with_looks(begun.as_asked(), study.looks[-1])


def plan(
    study: StudySpec,
    *,
    out: Path | str | None = None,
    workers: int | None = None,
    lanes: int | Literal["auto"] = "auto",
    device: str = "auto",
    data_dir: str | None = None,
) -> Plan:
    """The plan of all the looks of a study; arguments as of :func:`dlbench.studies.planning.plan`.

    The number of lanes is part of a trial's id, so it must not depend on how many seeds there will be.
    """
    if lanes == "auto":
        first = seeds_at(Look(1, study.looks), (spec.seed for spec in study.trials))
        begun = study.model_copy(update={"trials": tuple(s for s in study.trials if s.seed in first)})
        trials = studies.plan(begun, out=out, device=device, data_dir=data_dir).trials
        lanes = max(trial.lanes for trial in trials)
    return studies.plan(study, out=out, workers=workers, lanes=lanes, device=device, data_dir=data_dir)


def _finding(look: Look, separated: str | None) -> str:
    found = f"{separated} is told from each of the others" if separated else "the models are not separated"
    return f"Look {look.number} of {len(look.schedule)}, {look.num_seeds} seeds: {found}"
