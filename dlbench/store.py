"""A study's results in SQLite. Only the parent process writes; every event is one transaction. No jax.

Tables: ``meta`` (schema version, kind), ``trials`` (one row each, figures as JSON), ``epochs`` (the history)
and ``manifests`` (the recorded environment of every session that worked on the study).
"""

from __future__ import annotations

import fcntl
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from dlbench.errors import StoreError
from dlbench.results import Epoch, TrialResult, TrialStatus
from dlbench.spec import Trial, canonical_json, json_number

FILE_NAME = "study.sqlite"
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE trials (
    id TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    trial TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL DEFAULT '{}',
    error TEXT,
    started_at TEXT,
    finished_at TEXT
);
CREATE TABLE epochs (
    trial_id TEXT NOT NULL REFERENCES trials (id),
    epoch INTEGER NOT NULL,
    train_loss REAL, train_accuracy REAL, val_loss REAL, val_accuracy REAL,
    PRIMARY KEY (trial_id, epoch)
) WITHOUT ROWID;
CREATE TABLE manifests (started_at TEXT NOT NULL, manifest TEXT NOT NULL);
"""


class Store:
    """One study's database, open for reading or, by one process at a time, for writing.

    Args:
        folder: the study's folder; it must exist.
        write: whether to write. A second writer is refused, a reader never is.
        kind: the study's kind, recorded when the store is new.

    Raises:
        StoreError: there is none, it is damaged, of a newer version, not writable, or in use.
    """

    def __init__(self, folder: Path, write: bool = False, kind: str = "grid") -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        self._lock: IO[str] | None = None
        if not write and not self.path.is_file():
            raise StoreError(f"{folder} holds no study ({FILE_NAME} is not there)")
        with self._explained():
            if write:
                self._lock = _locked(folder)
            mode = "rwc" if write else "ro"
            self._db = sqlite3.connect(
                f"file:{_quoted(self.path)}?mode={mode}", uri=True, timeout=10, isolation_level=None
            )
            if write:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._create(kind)
            self._check_version()

    def _create(self, kind: str) -> None:
        with self._transaction():
            tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables == 0:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [("schema_version", str(SCHEMA_VERSION)), ("kind", kind), ("created_at", _now())],
                )

    def _check_version(self) -> None:
        version = int(self.meta("schema_version"))
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}; this dlbench knows up to {SCHEMA_VERSION}: "
                "upgrade dlbench, or use another folder"
            )

    def meta(self, key: str) -> str:
        """A fact about the study: "kind", "created_at", "schema_version"."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise StoreError(f"{self.path} is damaged: it does not say its {key}")
        return str(row[0])

    def add(self, trials: Sequence[Trial]) -> None:
        """Make sure that these trials are there; those that were left running are waiting again."""
        with self._transaction():
            start = self._db.execute("SELECT coalesce(max(position) + 1, 0) FROM trials").fetchone()[0]
            self._db.executemany(
                "INSERT OR IGNORE INTO trials (id, position, trial, status) VALUES (?, ?, ?, ?)",
                [
                    (trial.id, start + i, canonical_json(trial.model_dump()), TrialStatus.WAITING)
                    for i, trial in enumerate(trials)
                ],
            )
            self._db.execute(
                "UPDATE trials SET status = ? WHERE status = ?", (TrialStatus.WAITING, TrialStatus.RUNNING)
            )

    def add_manifest(self, manifest: dict[str, Any]) -> None:
        """Record the environment of a session."""
        with self._transaction():
            self._db.execute("INSERT INTO manifests VALUES (?, ?)", (_now(), canonical_json(manifest)))

    def manifests(self) -> list[dict[str, Any]]:
        """The recorded environments, oldest first."""
        return [json.loads(row[0]) for row in self._db.execute("SELECT manifest FROM manifests")]

    def start(self, trial_ids: Iterable[str]) -> None:
        """These trials are being trained, from their first epoch."""
        with self._transaction():
            for trial_id in trial_ids:
                self._db.execute("DELETE FROM epochs WHERE trial_id = ?", (trial_id,))
                self._db.execute(
                    "UPDATE trials SET status = ?, attempts = attempts + 1, started_at = ?, error = NULL "
                    "WHERE id = ?",
                    (TrialStatus.RUNNING, _now(), trial_id),
                )

    def epoch(self, trial_id: str, number: int, epoch: Epoch) -> None:
        """One more epoch of a running trial."""
        with self._transaction():
            self._put_epoch(trial_id, number, epoch)

    def finish(
        self,
        trial_id: str,
        status: TrialStatus,
        outcome: dict[str, Any] | None = None,
        history: Sequence[Epoch] = (),
        error: str | None = None,
    ) -> None:
        """A trial has ended, in whichever way; this is the last word on it."""
        with self._transaction():
            self._db.execute("DELETE FROM epochs WHERE trial_id = ?", (trial_id,))
            for number, epoch in enumerate(history, start=1):
                self._put_epoch(trial_id, number, epoch)
            self._db.execute(
                "UPDATE trials SET status = ?, outcome = ?, error = ?, finished_at = ? WHERE id = ?",
                (status, canonical_json(outcome or {}), error, _now(), trial_id),
            )

    def _put_epoch(self, trial_id: str, number: int, epoch: Epoch) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?, ?)",
            (trial_id, number, *map(json_number, epoch)),
        )

    def results(self, ids: Sequence[str] | None = None, history: bool = True) -> list[TrialResult]:
        """The trials, in the order given, or all in the order they were added.

        Args:
            ids: which ones; all unless given.
            history: whether to read the epochs too.
        """
        with self._explained():
            epochs = self._histories() if history else {}
            rows = self._db.execute("SELECT id, trial, status, outcome, error FROM trials ORDER BY position")
            found = {
                row[0]: TrialResult(
                    trial=Trial.model_validate_json(row[1]),
                    status=TrialStatus(row[2]),
                    outcome=json.loads(row[3]),
                    history=tuple(epochs.get(row[0], ())),
                    error=row[4],
                    study_dir=self.folder,
                )
                for row in rows
            }
        return list(found.values()) if ids is None else [found[trial_id] for trial_id in ids]

    def _histories(self) -> dict[str, list[Epoch]]:
        histories: dict[str, list[Epoch]] = {}
        rows = self._db.execute(
            "SELECT trial_id, train_loss, train_accuracy, val_loss, val_accuracy FROM epochs "
            "ORDER BY trial_id, epoch"
        )
        for trial_id, *values in rows:
            epoch = Epoch(*(math.nan if value is None else value for value in values))
            histories.setdefault(trial_id, []).append(epoch)
        return histories

    def integrity(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        with self._explained():
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def statuses(self) -> dict[str, TrialStatus]:
        """Where each trial stands, by id."""
        with self._explained():
            rows = self._db.execute("SELECT id, status FROM trials ORDER BY position")
            return {trial_id: TrialStatus(status) for trial_id, status in rows}

    def counts(self) -> dict[TrialStatus, int]:
        """How many trials have each status."""
        return dict(Counter(self.statuses().values()))

    def close(self) -> None:
        """Close the file and let another writer in."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StoreError(f"the study in {self.folder} cannot be used: {error}") from error


def _locked(folder: Path) -> IO[str]:
    """Hold the study's lock; the system lets go of it when this process ends, however it ends."""
    lock = open(folder / ".lock", "a")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StoreError(
            f"another process is working on the study in {folder}; wait for it, or choose another --out"
        ) from None
    return lock


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path.absolute()))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
