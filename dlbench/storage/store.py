"""The SQLite database that holds a study's results. Only the parent process writes; each event is one transaction.

Tables: ``meta`` (schema version, kind, looks, search), ``trials`` (one row per trial, with its outcome as JSON),
``epochs`` (the history), ``superseded`` (results of other environments, whose trials were trained again, with their
histories as JSON) and ``manifests`` (the environment of every command that trained the study). Each row of a trial has
a checksum, and the outcome holds the digest of the trial's history, so that damage is detected. No jax.

Schema versions: 1 has no checksums, 2 has no superseded results, 3 has no metrics of trials' own in epochs. A store of
an older version can be read, and is upgraded when it is next opened for writing.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json

from dlbench.errors import DamagedStudyError, StoreError
from dlbench.records import Epoch, Outcome, TrialStatus, canonical_json, digest, json_number
from dlbench.spec.config import read_published
from dlbench.spec.programs import program_of
from dlbench.spec.published import Published
from dlbench.spec.spaces import SearchSpec
from dlbench.spec.trial import Trial
from dlbench.storage.artifacts import environment_name, superseded_folder
from dlbench.storage.database import (
    LONGEST_IN_ALL,
    check_tables,
    connected,
    decoded,
    explained,
    is_empty,
    is_worked_on,
    locked,
    use_wal,
)
from dlbench.storage.results import LinearModel, TrialResult

FILE_NAME = "study.sqlite"
SCHEMA_VERSION = 4

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
    finished_at TEXT,
    checksum TEXT
);
CREATE TABLE epochs (
    trial_id TEXT NOT NULL REFERENCES trials (id),
    epoch INTEGER NOT NULL,
    train_loss REAL, train_accuracy REAL, val_loss REAL, val_accuracy REAL, val_metric REAL,
    PRIMARY KEY (trial_id, epoch)
) WITHOUT ROWID;
CREATE TABLE manifests (started_at TEXT NOT NULL, manifest TEXT NOT NULL);
CREATE TABLE superseded (
    id TEXT NOT NULL,
    environment TEXT NOT NULL,
    position INTEGER NOT NULL,
    trial TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    error TEXT,
    started_at TEXT,
    finished_at TEXT,
    epochs TEXT NOT NULL,
    checksum TEXT NOT NULL,
    PRIMARY KEY (id, environment)
);
"""
_STATEMENTS = tuple(statement.strip() for statement in _SCHEMA.split(";") if statement.strip())
#: How each table may have been defined, by name: now, or by an older version.
_DEFINITIONS = {
    statement.split()[2]: (
        statement,
        statement.replace(",\n    checksum TEXT", ""),
        statement.replace(" val_metric REAL,", ""),
    )
    for statement in _STATEMENTS
}


class Store:
    """One study's database, open for reading or, by one process at a time, for writing.

    Args:
        folder: the study's folder; it must exist.
        write: whether to write. A second writer is refused, a reader never is.
        kind: the study's kind, recorded when the store is created.
        looks: the study's schedule of looks, likewise.
        search: how the study's trials are proposed, likewise; ``None`` if they are not.

    Raises:
        StoreError: the store is missing, damaged, of a newer version, not writable, or in use.
    """

    _version: int

    def __init__(
        self,
        folder: Path,
        write: bool = False,
        kind: str = "grid",
        looks: Sequence[int] = (),
        search: SearchSpec | None = None,
    ) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        with explained(folder), contextlib.ExitStack() as opened:
            if not write and not self.path.exists() and not self.path.is_symlink():
                raise StoreError(f"{folder} holds no study ({FILE_NAME} is not there)")
            self._lock = opened.enter_context(locked(folder)) if write else None
            self._db = opened.enter_context(contextlib.closing(connected(self.path, write)))
            if write:
                use_wal(self._db)
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._create(kind, looks, search)
            elif is_empty(self._db):
                raise StoreError(f"{folder} holds no study yet; it was interrupted before the first trial")
            check_tables(self._db, self.path, _DEFINITIONS, only="meta")
            self._version = self._known_version()
            check_tables(self._db, self.path, _DEFINITIONS)
            self._file = _identity(self.path)
            if write and self._version < SCHEMA_VERSION:
                self._migrate()
            opened.pop_all()  # both stay open until this store is closed

    def check_place(self) -> None:
        """Make sure that the study still lies where it was opened, before anything is written there.

        Raises:
            StoreError: its folder was moved, deleted or replaced.
        """
        if _identity(self.path) != self._file:
            raise StoreError(
                f"the study's folder {self.folder} was moved, deleted or replaced while its trials were trained; "
                "nothing more was written",
                remedy="put it back, or give the same command again to train elsewhere",
            )

    def _create(self, kind: str, looks: Sequence[int], search: SearchSpec | None) -> None:
        with self._transaction():
            if is_empty(self._db):
                for statement in _STATEMENTS:
                    self._db.execute(statement)
                self._db.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [
                        ("schema_version", str(SCHEMA_VERSION)),
                        ("kind", kind),
                        ("created_at", _now()),
                        ("looks", canonical_json(list(looks))),
                        *([("search", search.model_dump_json())] if search else []),
                    ],
                )

    def _known_version(self) -> int:
        version = decoded(self.folder, int, self.meta("schema_version"))
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has schema version {version}; this dlbench supports up to {SCHEMA_VERSION}",
                remedy="upgrade dlbench, or use another folder",
            )
        if version < 1:
            raise StoreError(f"{self.path} is damaged: there is no schema version {version}")
        return version

    def _migrate(self) -> None:
        """Upgrade a store of an older version."""
        with self._transaction():
            if self._version < 2:
                self._db.execute("ALTER TABLE trials ADD COLUMN checksum TEXT")
                for (trial_id,) in self._db.execute("SELECT id FROM trials").fetchall():
                    self._update_checksum(trial_id)
            if self._version < 3:
                superseded = next(each for each in _STATEMENTS if each.split()[2] == "superseded")
                self._db.execute(superseded)
            self._db.execute("ALTER TABLE epochs ADD COLUMN val_metric REAL")
            self._version = SCHEMA_VERSION
            self._db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(SCHEMA_VERSION),))

    def meta(self, key: str) -> str:
        """A fact about the study: "kind", "created_at", "schema_version"."""
        with explained(self.folder):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise StoreError(f"{self.path} is damaged: it has no {key}")
        return str(row[0])

    def looks(self) -> tuple[int, ...]:
        """The study's schedule of looks; empty if none is recorded."""
        with explained(self.folder):
            row = self._db.execute("SELECT value FROM meta WHERE key = 'looks'").fetchone()
            return decoded(self.folder, _LOOKS, row[0]) if row else ()

    def search(self) -> SearchSpec | None:
        """How the study's trials are proposed; ``None`` if they are not."""
        with explained(self.folder):
            row = self._db.execute("SELECT value FROM meta WHERE key = 'search'").fetchone()
            return decoded(self.folder, SearchSpec.model_validate_json, row[0]) if row else None

    def add(self, trials: Sequence[Trial]) -> None:
        """Add the trials that are missing, and set trials that were left running to waiting.

        Raises:
            StoreError: a row differs from what was recorded.
        """
        if damaged := self.damaged():
            raise self._damage(damaged[0], "its row differs from what was recorded")
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
            for (trial_id,) in self._db.execute(
                "SELECT id FROM trials WHERE status = ?", (TrialStatus.WAITING,)
            ).fetchall():
                self._update_checksum(trial_id)

    def set_spent(self, times: Mapping[str, float], energy: Mapping[str, float]) -> None:
        """Record what the workers have spent so far, replacing earlier values.

        Args:
            times: seconds by kind.
            energy: joules by kind of counter, and the seconds that they are about; empty where none can be read.
        """
        rows = [
            (key, canonical_json(dict(each))) for key, each in (("times", times), ("energy", energy)) if each
        ]
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def times(self) -> dict[str, float]:
        """The seconds that the workers have spent, by kind; empty if not recorded."""
        return self._spent("times")

    def energy(self) -> dict[str, float]:
        """The joules that were counted, by kind of counter, and the "seconds" of all workers that they are about."""
        return self._spent("energy")

    def _spent(self, key: str) -> dict[str, float]:
        with explained(self.folder):
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
            return decoded(self.folder, _NUMBERS, row[0]) if row else {}

    def add_manifest(self, manifest: dict[str, Any]) -> None:
        """Record the environment of a command that trains the study."""
        with self._transaction():
            self._db.execute("INSERT INTO manifests VALUES (?, ?)", (_now(), canonical_json(manifest)))

    def manifests(self) -> list[dict[str, Any]]:
        """All recorded environments, oldest first."""
        with explained(self.folder):
            rows = self._db.execute("SELECT manifest FROM manifests").fetchall()
        return [decoded(self.folder, _RECORD, row[0]) for row in rows]

    def published(self) -> tuple[Published, ...]:
        """The published results that the file of the study names, as it was when trials were last trained."""
        texts = [str(manifest.get("config") or "") for manifest in self.manifests()]
        text = next(filter(None, reversed(texts)), "")
        return decoded(self.folder, lambda text: read_published(text, self.path), text)

    def add_linear(self, found: Mapping[str, LinearModel]) -> None:
        """Record linear models of splits, by :func:`~dlbench.storage.results.split_key`."""
        every = {key: vars(each) for key, each in {**self.linear(), **found}.items()}
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('linear', ?)", (canonical_json(every),))

    def linear(self) -> dict[str, LinearModel]:
        """The linear models of splits; empty if none is recorded."""
        with explained(self.folder):
            row = self._db.execute("SELECT value FROM meta WHERE key = 'linear'").fetchone()
            return decoded(self.folder, _LINEAR, row[0]) if row else {}

    def load(self) -> float | None:
        """The highest load of the machine, in processes that wanted to run, when commands began to train the study."""
        loads = [manifest.get("load") for manifest in self.manifests()]
        return max((load for load in loads if isinstance(load, int | float)), default=None)

    def described_environments(self) -> dict[str, Mapping[str, Any]]:
        """Descriptions of the environments in which the study was trained, by digest."""
        devices = (manifest.get("device") for manifest in self.manifests())
        return {str(each["digest"]): each for each in devices if isinstance(each, dict) and "digest" in each}

    def start(self, trial_ids: Iterable[str]) -> None:
        """Record that the training of these trials has started, from the first epoch.

        Results that they have already, of another environment, are kept: see :meth:`superseded`.
        """
        with self._transaction():
            for trial_id in trial_ids:
                self._supersede(trial_id)
                self._db.execute("DELETE FROM epochs WHERE trial_id = ?", (trial_id,))
                self._db.execute(
                    "UPDATE trials SET status = ?, attempts = attempts + 1, started_at = ?, error = NULL, "
                    "outcome = '{}', finished_at = NULL WHERE id = ?",
                    (TrialStatus.RUNNING, _now(), trial_id),
                )
                self._update_checksum(trial_id)

    def _supersede(self, trial_id: str) -> None:
        """Copy the row and the history of a trial that has a result to the superseded ones."""
        row = self._db.execute(f"SELECT {_CHECKED} FROM trials WHERE id = ?", (trial_id,)).fetchone()
        _, trial, status, outcome, error, attempts, started, finished, position = row
        if not decoded(self.folder, TrialStatus, status).is_finished:
            return
        record = decoded(self.folder, _outcome, outcome)
        environment = environment_name(record.get("environment"))
        known = decoded(self.folder, _read_trial, (trial_id, trial))
        history = self._history(known, trial_id, record, verify=True)
        epochs = canonical_json([[*epoch.to_record().values()] for epoch in history])
        values = (trial_id, environment, position, trial, status, attempts, outcome, error, started, finished)
        self._db.execute(
            "INSERT OR REPLACE INTO superseded VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, epochs, _checksum((*row, environment, epochs))),
        )

    def superseded(self, verify: bool = True) -> list[TrialResult]:
        """The results that were replaced, because the trials were trained again in another environment.

        The folder of each is below that of :func:`dlbench.storage.artifacts.superseded_folder`.

        Args:
            verify: whether to verify checksums and histories.

        Raises:
            StoreError: one is unreadable, or differs from what was recorded.
        """
        if self._version < 3:
            return []
        found = []
        with explained(self.folder):
            rows = self._db.execute(
                f"SELECT environment, epochs, checksum, {_CHECKED} FROM superseded ORDER BY position, environment"
            )
            for environment, epochs, checksum, *row in self._bounded(rows):
                trial_id, text, status, outcome, error, *_ = row
                if verify and checksum != _checksum((*row, environment, epochs)):
                    raise self._damage(trial_id, "its superseded row differs from what was recorded")
                trial = decoded(self.folder, _read_trial, (trial_id, text))
                record = decoded(self.folder, _outcome, outcome)
                history = decoded(self.folder, _EPOCHS, epochs)
                if trial.id != trial_id:
                    raise self._damage(trial_id, "its superseded row is that of another trial")
                if environment != environment_name(record.get("environment")):
                    raise self._damage(trial_id, "its superseded row names another environment")
                if verify and record.get("history_sha256") not in (None, digest(history)):
                    raise self._damage(trial_id, "its superseded history differs from what was recorded")
                found.append(
                    TrialResult(
                        trial,
                        decoded(self.folder, TrialStatus, status),
                        Outcome.from_record(record),
                        tuple(map(Epoch.of, history)),
                        error,
                        superseded_folder(self.folder, environment),
                    )
                )
        return found

    def forget_superseded(self) -> None:
        """Remove the superseded results."""
        with self._transaction():
            self._db.execute("DELETE FROM superseded")

    def epoch(self, trial_id: str, number: int, epoch: Epoch) -> None:
        """Record an epoch of a running trial."""
        with self._transaction():
            self._put_epoch(trial_id, number, epoch)

    def finish(
        self,
        trial_id: str,
        status: TrialStatus,
        outcome: Outcome | None = None,
        history: Sequence[Epoch] = (),
        error: str | None = None,
    ) -> None:
        """Record the final status of a trial, with its outcome and history or its error."""
        record = outcome.to_record() if outcome else {}
        known = {name: value for name, value in record.items() if value is not None}
        with self._transaction():
            self._db.execute("DELETE FROM epochs WHERE trial_id = ?", (trial_id,))
            for number, epoch in enumerate(history, start=1):
                self._put_epoch(trial_id, number, epoch)
            self._db.execute(
                "UPDATE trials SET status = ?, outcome = ?, error = ?, finished_at = ? WHERE id = ?",
                (status, canonical_json(known), error, _now(), trial_id),
            )
            self._update_checksum(trial_id)

    def _update_checksum(self, trial_id: str) -> None:
        row = self._db.execute(f"SELECT {_CHECKED} FROM trials WHERE id = ?", (trial_id,)).fetchone()
        self._db.execute("UPDATE trials SET checksum = ? WHERE id = ?", (_checksum(row), trial_id))

    def damaged(self) -> list[str]:
        """The ids of the trials whose rows differ from what was recorded."""
        with explained(self.folder):
            return [str(row[0]) for row, intact in self._rows() if not intact]

    def _rows(self, ids: Collection[str] | None = None) -> Iterator[tuple[Sequence[Any], bool]]:
        """The rows of trials, and whether their checksums are right; in version 1, which has none, they are.

        Args:
            ids: the trials; by default all.
        """
        checksum = "NULL" if self._version == 1 else "checksum"
        asked, wanted = ("", ()) if ids is None else (_AMONG, (canonical_json([*ids]),))
        statement = f"SELECT {checksum}, {_CHECKED} FROM trials WHERE TRUE{asked} ORDER BY position"
        for found, *row in self._bounded(self._db.execute(statement, wanted)):
            yield row, self._version == 1 or found == _checksum(row)

    def _bounded(self, rows: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
        """The rows, as long as all their texts together fit into memory."""
        size = 0
        for row in rows:
            size += sum(len(value) for value in row if isinstance(value, str | bytes))
            if size > LONGEST_IN_ALL:
                raise StoreError(f"{self.path} holds rows of more than {LONGEST_IN_ALL:,} characters")
            yield row

    def _put_epoch(self, trial_id: str, number: int, epoch: Epoch) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO epochs VALUES (?, ?, ?, ?, ?, ?, ?)",
            (trial_id, number, *map(json_number, epoch)),
        )

    def results(
        self, ids: Sequence[str] | None = None, history: bool = True, verify: bool = True
    ) -> list[TrialResult]:
        """The results of trials, in the order of ``ids``, or of all trials in the order in which they were added.

        Args:
            ids: the ids of the trials; by default all.
            history: whether to read the epochs as well. If not, a best loss that is missing from a row is read from
                its epoch without verification.
            verify: whether to verify checksums.

        Raises:
            StoreError: a trial is missing, unreadable, or differs from what was recorded.
        """
        found: dict[str, tuple[Trial, TrialStatus, dict[str, Any], str | None]] = {}
        with explained(self.folder):
            for (trial_id, trial, status, outcome, error, *_), intact in self._rows():
                if verify and not intact:
                    raise self._damage(trial_id, "its row differs from what was recorded")
                found[trial_id] = (
                    decoded(self.folder, _read_trial, (trial_id, trial)),
                    self._status(status),
                    decoded(self.folder, _outcome, outcome),
                    error,
                )
            _share_compilation((trial, outcome) for trial, _, outcome, _ in found.values())
            if missing := [trial_id for trial_id in ids or () if trial_id not in found]:
                raise self._damage(missing[0], "it is missing")
            if not history:
                self._add_best_losses({trial_id: known[2] for trial_id, known in found.items()})
            results = []
            for trial_id in found if ids is None else ids:
                trial, status, outcome, error = found[trial_id]
                epochs = self._history(trial, trial_id, outcome, verify) if history else ()
                results.append(
                    TrialResult(trial, status, Outcome.from_record(outcome), epochs, error, self.folder)
                )
            return results

    def recorded(self, trial_id: str) -> TrialResult:
        """The result of one trial as its row has it: the first trial of a program has the time of compiling it.

        Raises:
            StoreError: the trial is missing, unreadable, or differs from what was recorded.
        """
        with explained(self.folder):
            for (_, text, status, record, error, *_), intact in self._rows((trial_id,)):
                if not intact:
                    raise self._damage(trial_id, "its row differs from what was recorded")
                trial = decoded(self.folder, _read_trial, (trial_id, text))
                outcome = decoded(self.folder, _outcome, record)
                epochs = self._history(trial, trial_id, outcome, verify=True)
                known = Outcome.from_record(outcome)
                return TrialResult(trial, self._status(status), known, epochs, error, self.folder)
        raise self._damage(trial_id, "it is missing")

    def _history(
        self, trial: Trial, trial_id: str, outcome: dict[str, Any], verify: bool
    ) -> tuple[Epoch, ...]:
        """All epochs of a trial, verified by the digest in its row; one more if there are too many."""
        names = Epoch._fields if self._version > 3 else Epoch._fields[:4]
        read = f"SELECT {', '.join(names)} FROM epochs WHERE trial_id = ? ORDER BY epoch LIMIT ?"
        rows = self._db.execute(read, (trial_id, trial.spec.num_epochs + 1)).fetchall()
        epochs = [row if row[-1] is not None else row[:4] for row in rows]
        recorded = outcome.get("history_sha256") if verify else None
        if recorded and not _has_digest(epochs, recorded):
            raise self._damage(trial_id, "its history differs from what was recorded")
        return tuple(map(Epoch.of, epochs))

    def _add_best_losses(self, outcomes: Mapping[str, dict[str, Any]]) -> None:
        """Add the loss of the best epoch to rows without it; rows of early versions have none."""
        best = {i: o.get("best_epoch") for i, o in outcomes.items() if "best_val_loss" not in o}
        losses = self._db.execute(
            "SELECT trial_id, val_loss FROM json_each(?) AS best "
            "JOIN epochs ON trial_id = best.key AND epoch = best.value",
            (canonical_json(best),),
        )
        for trial_id, loss in losses:
            outcomes[trial_id]["best_val_loss"] = loss

    def _damage(self, trial_id: str, what: str) -> StoreError:
        return DamagedStudyError(
            f"the study in {self.folder} is damaged at trial {trial_id}: {what}",
            value=self.folder,
            remedy=f"restore {FILE_NAME} from a copy, or train in another folder",
        )

    def integrity(self) -> list[str]:
        """The problems that SQLite's integrity check finds; empty if there are none."""
        with explained(self.folder):
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def statuses(self) -> dict[str, TrialStatus]:
        """The status of each trial, by id."""
        with explained(self.folder):
            rows = self._db.execute("SELECT id, status FROM trials ORDER BY position")
            return {trial_id: self._status(status) for trial_id, status in rows}

    def environments(self, ids: Collection[str] | None = None) -> dict[str, str | None]:
        """The digest of the environment in which each trial that has a result was trained, by id.

        Args:
            ids: the trials to look up, by the table's index; by default all.
        """
        asked, wanted = ("", ()) if ids is None else (_AMONG, (canonical_json([*ids]),))
        with explained(self.folder):
            statement = (
                f"SELECT id, json_extract(outcome, '$.environment') FROM trials WHERE status IN (?, ?){asked}"
            )
            rows = self._db.execute(statement, (TrialStatus.COMPLETE, TrialStatus.DIVERGED, *wanted))
            return {trial_id: value if isinstance(value, str) else None for trial_id, value in rows}

    def _status(self, text: object) -> TrialStatus:
        """Where a trial stands, by what its row says and by whether anybody works on the study."""
        status = decoded(self.folder, TrialStatus, text)
        if status is TrialStatus.RUNNING and not self._is_worked_on:
            return TrialStatus.INTERRUPTED
        return status

    @functools.cached_property
    def _is_worked_on(self) -> bool:
        return self._lock is not None or is_worked_on(self.folder)

    def numerics(self) -> int | None:
        """The version of the numerics with which the trials were planned; ``None`` if there are no trials."""
        with explained(self.folder):
            row = self._db.execute("SELECT id, trial FROM trials ORDER BY position LIMIT 1").fetchone()
        return decoded(self.folder, _read_trial, row).numerics if row else None

    def counts(self) -> dict[TrialStatus, int]:
        """The number of trials by status."""
        return dict(Counter(self.statuses().values()))

    def close(self) -> None:
        """Close the database and release the lock.

        After writing, write-ahead logging is switched off, so that the database is a single file and reading it
        creates no others.
        """
        if self._lock is not None:
            with contextlib.suppress(sqlite3.Error):  # it has readers, or the disk is full: WAL mode stays on
                self._db.execute("PRAGMA busy_timeout=0")
                self._db.execute("PRAGMA journal_mode=DELETE")
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
        with explained(self.folder):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk ends it by itself
                    self._db.execute("ROLLBACK")
                raise


def _read_trial(row: tuple[str, str]) -> Trial:
    trial_id, text = row
    trial = Trial.model_validate_json(text)
    return trial if "numerics" in trial.model_fields_set else trial.recorded_as(trial_id)


def _share_compilation(trials: Iterable[tuple[Trial, dict[str, Any]]]) -> None:
    """Divide the time of compiling a program evenly among its trials; it is recorded for the trial that came first."""
    programs: dict[object, list[dict[str, Any]]] = {}
    for trial, outcome in trials:
        if outcome:
            programs.setdefault(program_of(trial), []).append(outcome)
    for members in programs.values():
        spent = [float(outcome.get("compile_time_s") or 0.0) for outcome in members]
        share, longest = sum(spent) / len(spent), max(spent)
        for outcome in members:
            outcome["compile_time_s"] = share
            outcome.setdefault("compile_time_alone_s", longest)


_LOOKS = TypeAdapter(tuple[int, ...]).validate_json
_NUMBERS = TypeAdapter(dict[str, float]).validate_json
_LINEAR = TypeAdapter(dict[str, LinearModel]).validate_json
_RECORD = TypeAdapter(dict[str, Any]).validate_json
_EPOCHS = TypeAdapter(
    list[Annotated[list[float | None], Field(min_length=4, max_length=len(Epoch._fields))]]
).validate_json


def _outcome(text: Any) -> dict[str, Any]:
    """The outcome of a trial as a flat record; raises ValueError if it is invalid."""
    outcome = _RECORD(text)
    if not isinstance(outcome.get("compile_time_s"), int | float | None):
        raise ValueError("compile_time_s is not a number")
    return outcome


#: Restricts a query to the trials of a JSON list of ids.
_AMONG = " AND id IN (SELECT value FROM json_each(?))"
#: The columns that the checksum of a row covers.
_CHECKED = "id, trial, status, outcome, error, attempts, started_at, finished_at, position"


def _checksum(row: Sequence[Any]) -> str:
    return digest([str(value) if isinstance(value, bytes | float) else value for value in row])


def _has_digest(history: list[Any], recorded: str) -> bool:
    """Whether a history has the recorded digest.

    Two encodings are tried. The first takes a sixth of the time of the second, and gives the same text unless the
    history has very small values.
    """
    try:
        text: bytes = to_json(history, inf_nan_mode="constants")
    except PydanticSerializationError:  # there are bytes in place of numbers
        return False
    if hashlib.sha256(text).hexdigest() == recorded:
        return True
    values = (value for epoch in history for value in epoch if value is not None)
    are_numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in values)
    return are_numbers and digest(history) == recorded


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a file from every other; ``None`` where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
