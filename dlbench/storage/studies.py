"""The studies that are there: open one, list them. No jax, and nothing that training takes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dlbench.errors import StoreError
from dlbench.records import TrialStatus
from dlbench.spec.study import StudySpec
from dlbench.storage.database import connected, explained, is_empty
from dlbench.storage.results import StudyRecord
from dlbench.storage.store import FILE_NAME, Store

RUNS = Path("runs")


@dataclass(frozen=True)
class StudySummary:
    """A line in the list of studies; of one that cannot be read, only its folder and the ``problem`` are known."""

    folder: Path
    kind: str
    created_at: datetime | None
    counts: dict[TrialStatus, int]
    problem: str | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name


def holds_study(folder: Path) -> bool:
    """Whether a folder holds a study that has begun: a process killed at once leaves an empty database.

    Raises:
        StoreError: what is there cannot be read.
    """
    path = folder / FILE_NAME
    with explained(folder):
        if not path.is_file():
            return False
        db = connected(path, write=False)
        try:
            return not is_empty(db)
        finally:
            db.close()


def read_study(folder: Path, history: bool = True) -> StudyRecord:
    """Read the study that a folder holds; arguments and errors as of :func:`dlbench.open_study`."""
    with Store(folder) as store, explained(folder):
        trials = tuple(store.results(history=history))
        kind: Any = store.meta("kind")
        spec = StudySpec(kind=kind, trials=tuple(t.trial.spec for t in trials), looks=store.looks())
        return StudyRecord(spec, trials, folder, times=store.times())


def list_studies(root: Path = RUNS) -> list[StudySummary]:
    """The studies in a folder, oldest first, after those that cannot be read."""
    return sorted(
        map(_summary, sorted(path.parent for path in root.glob(f"*/{FILE_NAME}"))),
        key=lambda summary: summary.created_at.timestamp() if summary.created_at else 0,
    )


def _summary(folder: Path) -> StudySummary:
    try:
        with Store(folder) as store, explained(folder):
            created = datetime.fromisoformat(store.meta("created_at"))
            return StudySummary(folder, store.meta("kind"), created, store.counts())
    except StoreError as error:
        return StudySummary(folder, "unreadable", None, {}, str(error))
