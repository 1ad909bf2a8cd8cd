"""What shells complete: names of parts, data sets, studies, trials and fields, as values of flags and arguments."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import typer

from dlbench.errors import DlbenchError

if TYPE_CHECKING:
    from dlbench.studies.result import StudyResult

#: A value and what it means; the meaning may be empty.
Candidate = tuple[str, str]
#: The candidates for the values of a flag, given the values of the others.
Source = Callable[[dict[str, Any]], Iterable[Candidate]]


def completer(field: str, choices: Iterable[str]) -> Callable[[typer.Context, str], list[Candidate]] | None:
    """What completes the values of a flag, as Typer expects it; ``None`` if its values cannot be listed.

    Args:
        field: the name of its field.
        choices: the values that it may have, if they are few.
    """
    known = tuple(choices)
    source = (lambda _: ((each, "") for each in known)) if known else SOURCES.get(field)
    if source is None:
        return None
    found: Source = source

    def complete(ctx: typer.Context, incomplete: str) -> list[Candidate]:
        start, length = incomplete.lower(), len(incomplete)
        try:
            candidates = found(ctx.params)
        except DlbenchError:  # there is no such study
            return []
        return [  # names are found in any case, and shells want what they have begun
            (incomplete + name[length:], meaning)
            for name, meaning in candidates
            if name.lower().startswith(start)
        ]

    return complete


def _listed(kind: str) -> Source:
    """Everything of a kind, as ``dlbench list`` shows it."""

    def source(_: dict[str, Any]) -> Iterable[Candidate]:
        from dlbench.report import catalog

        return [(row["name"], row["description"]) for row in catalog.listing(kind)]

    return source


def _metrics(_: dict[str, Any]) -> Iterable[Candidate]:
    """The metrics of validation images."""
    return [found for found in _listed("metrics")(_) if found[0].startswith("val/")]


def _allowed(field: str) -> Source:
    """The values that a field of a trial may have."""

    def source(_: dict[str, Any]) -> Iterable[Candidate]:
        from dlbench.spec.trial import TrialSpec

        values = get_args(TrialSpec.model_fields[field].annotation)
        return [(value, "") for value in values if isinstance(value, str)]

    return source


def _studies(_: dict[str, Any]) -> Iterable[Candidate]:
    """The studies in runs/, the latest first."""
    from dlbench.storage.store import FILE_NAME
    from dlbench.storage.studies import RUNS

    found = sorted(RUNS.glob(f"*/{FILE_NAME}"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [(path.parent.name, "") for path in found]


def _targets(params: dict[str, Any]) -> Iterable[Candidate]:
    """The studies in runs/, and the YAML files near here."""
    files = sorted(path for pattern in ("*.yaml", "configs/*.yaml") for path in Path().glob(pattern))
    return [*((str(path), "") for path in files), *_studies(params)]


def _study(params: dict[str, Any]) -> StudyResult:
    """The study that is named before."""
    from dlbench.cli.studies import study_folder
    from dlbench.studies.result import open_study

    return open_study(study_folder(str(params.get("study"))), history=False)


def _trials(params: dict[str, Any]) -> Iterable[Candidate]:
    """The trials of the study that is named before."""
    return [(trial.id, f"{trial.model} seed {trial.seed}, {trial.status}") for trial in _study(params).trials]


def _fields(after: str) -> Source:
    """The fields of results and the names of metrics, with what stands after them."""

    def source(_: dict[str, Any]) -> Iterable[Candidate]:
        from dlbench.records import METRICS
        from dlbench.storage.results import TRIAL_FIELDS

        return [(f"{name}{after}", "") for name in (*TRIAL_FIELDS, *METRICS)]

    return source


def _trackers(_: dict[str, Any]) -> Iterable[Candidate]:
    from dlbench.report.trackers import TRACKERS

    return [(f"{name}:", place) for name, place in TRACKERS.items()]


def _slices(params: dict[str, Any]) -> Iterable[Candidate]:
    """What makes slices: rules, and what the data of the study that is named before carry."""
    from dlbench.analysis.by_slice import RULES

    names = ["class", *RULES]
    with contextlib.suppress(DlbenchError):  # there is no such study
        names += _study(params).slice_names()
    return [(name, "") for name in names]


#: What completes the values of each field of the commands' options.
SOURCES: dict[str, Source] = {
    "by": _slices,
    "model": _listed("models"),
    "base": _listed("models"),
    "optimizer": _listed("optimizers"),
    "schedule": _listed("schedules"),
    "criterion": _listed("criteria"),
    "transform": _listed("transforms"),
    "val_transform": _listed("transforms"),
    "test_transform": _listed("transforms"),
    "dataset": _listed("datasets"),
    **{
        name: _allowed(name)
        for name in ("decay_mode", "decay_on", "normalize", "sampling", "val_from", "vary")
    },
    "selection_metric": _metrics,
    "study": _studies,
    "studies": _studies,
    "target": _targets,
    "trial": _trials,
    "sort": _fields(""),
    "filter": _fields("="),
    "to": _trackers,
    "device": lambda _: [(name, "") for name in ("auto", "cpu", "gpu", "tpu", "metal")],
}
