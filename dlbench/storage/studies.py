"""Open studies and list them. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from dlbench.errors import ANOTHER_OUT, StoreError
from dlbench.records import TrialStatus
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import NUMERICS_RELEASES, NUMERICS_VERSION
from dlbench.storage.audit import broken
from dlbench.storage.database import check_is_file, connected, decoded, explained, is_empty
from dlbench.storage.results import StudyRecord
from dlbench.storage.sources import study_folders
from dlbench.storage.store import FILE_NAME, Store

RUNS = Path("runs")
#: Characters of a kind that a list shows; dlbench's own are shorter.
_LONGEST_KIND = 100


@dataclass(frozen=True)
class StudySummary:
    """An entry in the list of studies; if the study cannot be read, only its folder and the ``problem`` are set."""

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
    """Whether a folder holds a study that has begun; a process that is killed early leaves an empty database.

    Raises:
        StoreError: the database cannot be read.
    """
    path = folder / FILE_NAME
    with explained(folder):
        check_is_file(path)
        if not path.exists():
            return False
        db = connected(path, write=False)
        try:
            return not is_empty(db)
        finally:
            db.close()


def read_study(folder: Path, history: bool = True) -> StudyRecord:
    """Read the study in a folder; arguments and errors as in :func:`dlbench.open_study`."""
    with Store(folder) as store:
        trials = tuple(store.results(history=history))
        known = {
            "kind": store.meta("kind"),
            "looks": store.looks(),
            "search": store.search(),
            "trials": [t.trial.spec for t in trials],
        }
        spec = decoded(folder, StudySpec.model_validate, known)
        described, superseded = store.described_environments(), tuple(store.superseded())
        return StudyRecord(
            spec,
            trials,
            folder,
            times=store.times(),
            energy=store.energy(),
            environments=described,
            superseded=superseded,
            published=store.published(),
            linear=store.linear(),
            load=store.load(),
        )


@dataclass(frozen=True)
class StoredTrials:
    """What a folder holds of the trials of a study.

    Attributes:
        statuses: the status of each trial, by id.
        environments: the digest of the environment in which each trial with a result was trained, by id; ``None`` if
            it was not recorded.
        described: descriptions of the environments in which the study was trained, by digest.
        broken: what is wrong with the files of trials that have completed, by id, where that was checked; these trials
            count as failed.
    """

    statuses: Mapping[str, TrialStatus] = field(default_factory=dict)
    environments: Mapping[str, str | None] = field(default_factory=dict)
    described: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, verify: bool = False) -> StoredTrials:
        """What a store holds; ``verify`` as in :func:`read_trials`."""
        wrong = broken(store) if verify else {}
        return cls(
            store.statuses() | dict.fromkeys(wrong, TrialStatus.FAILED),
            {trial_id: each for trial_id, each in store.environments().items() if trial_id not in wrong},
            store.described_environments(),
            wrong,
        )

    def status(self, trial_id: str) -> TrialStatus:
        """The status of a trial; waiting if the folder does not hold it."""
        return self.statuses.get(trial_id, TrialStatus.WAITING)

    def is_of_another(self, trial_id: str, environment: str | None) -> bool:
        """Whether a trial has a result that was trained in another environment than the one with this digest.

        Args:
            trial_id: the trial.
            environment: the digest; ``None`` if it is not known, so that nothing is of another.
        """
        return environment is not None and self.environments.get(trial_id, environment) != environment


def read_trials(
    folder: Path, looks: tuple[int, ...], search: SearchSpec | None = None, verify: bool = False
) -> StoredTrials:
    """What a folder holds of the trials of a study; nothing if no study has begun.

    Args:
        folder: the study's folder, which need not exist.
        looks: the schedule of looks that the study must have.
        search: the search that the study must be; ``None`` if it is none.
        verify: whether trials whose files are missing or damaged count as failed, for which all files are read.

    Raises:
        StoreError: the folder holds other files, or a study with another schedule of looks or another search.
    """
    if holds_study(folder):
        with Store(folder) as store:
            if (begun := store.looks()) != looks:
                raise StoreError(
                    f"{folder} holds a study planned with {_schedule(begun)}, not {_schedule(looks)}; looks are fixed "
                    "before the data are seen",
                    remedy=ANOTHER_OUT,
                )
            if (searched := store.search()) != search:
                raise StoreError(
                    f"{folder} holds {_search(searched)}, not {_search(search)}", remedy=ANOTHER_OUT
                )
            numerics = store.numerics()
            if numerics not in (None, NUMERICS_VERSION):
                release = NUMERICS_RELEASES.get(numerics)
                install = f", or install the release that made it: dlbench=={release}" if release else ""
                raise StoreError(
                    f"the study in {folder} was made with version {numerics} of the numerics, and this dlbench "
                    f"computes with version {NUMERICS_VERSION}: its results would not be comparable",
                    remedy=(*ANOTHER_OUT, install),
                )
            return StoredTrials.of(store, verify)
    with explained(folder):
        left = [".lock", *(FILE_NAME + end for end in ("", "-wal", "-shm", "-journal"))]
        foreign = folder.is_dir() and any(path.name not in left for path in folder.iterdir())
    if foreign:
        raise StoreError(f"{folder} exists and holds no study", remedy=(*ANOTHER_OUT, ", or an empty folder"))
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file", remedy=ANOTHER_OUT)
    return StoredTrials()


def _schedule(looks: tuple[int, ...]) -> str:
    return f"looks after {', '.join(map(str, looks))} seeds" if looks else "a fixed number of seeds"


def _search(search: SearchSpec | None) -> str:
    if search is None:
        return "a study that is no search"
    space = ", ".join(f"{path}={text}" for path, text in search.space)
    return f"a search of {search.num_configurations} configurations ({search.sampler}, {space}, Optuna {search.optuna})"


def list_studies(root: Path | str = RUNS) -> list[StudySummary]:
    """The studies in a folder: first those that cannot be read, then the others, oldest first."""
    return sorted(
        map(_summary, study_folders(Path(root))),
        key=lambda summary: _seconds(summary.created_at) if summary.created_at else 0,
    )


def _seconds(created: datetime) -> float:
    """When a study was made, as a number; ValueError if no clock can show it."""
    try:
        return created.timestamp()
    except OverflowError as error:
        raise ValueError(str(error)) from error


def _summary(folder: Path) -> StudySummary:
    try:
        with Store(folder) as store:
            created = decoded(folder, datetime.fromisoformat, store.meta("created_at"))
            decoded(folder, _seconds, created)
            return StudySummary(folder, store.meta("kind")[:_LONGEST_KIND], created, store.counts())
    except StoreError as error:
        return StudySummary(folder, "unreadable", None, {}, str(error))
