"""All studies in a folder, each in one line. No jax."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dlbench.analysis.overview import Overview, overview
from dlbench.errors import StoreError
from dlbench.storage.results import TrialResult
from dlbench.storage.studies import RUNS, StudySummary, list_studies
from dlbench.studies.result import open_study


def overviews(root: Path = RUNS) -> Iterator[tuple[StudySummary, Overview | None]]:
    """The studies in a folder, with what they found; ``None`` for those that cannot be read."""
    for summary in list_studies(root):
        if summary.problem:
            yield summary, None
            continue
        try:
            yield summary, overview(open_study(summary.folder, history=False))
        except StoreError as error:
            yield replace(summary, problem=str(error)), None


def all_trials(root: Path = RUNS) -> tuple[list[TrialResult], list[str]]:
    """The trials of all studies in a folder, and a sentence about each study that cannot be read."""
    trials: list[TrialResult] = []
    problems = []
    for summary in list_studies(root):
        try:
            trials += open_study(summary.folder, history=False)
        except StoreError as error:
            problems.append(str(error))
    return trials, problems
