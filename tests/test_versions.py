"""Versions of the numerics: a trial's id is computed with the version that it records, so old records verify."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

import dlbench
from dlbench.errors import InputError, StoreError
from dlbench.records import digest
from dlbench.spec.trial import NUMERICS_VERSION, Trial, TrialSpec
from dlbench.storage.audit import audit
from dlbench.storage.store import FILE_NAME
from dlbench.studies import replay

TRIAL = Trial(spec=TrialSpec(train_size=80, val_size=20, split_seed=0), data_digest="0" * 64)


def test_the_id_holds_the_version() -> None:
    assert len({TRIAL.with_numerics(version).id for version in (1, 2, NUMERICS_VERSION)}) == 3
    assert TRIAL.with_numerics(NUMERICS_VERSION).id == TRIAL.id


@pytest.mark.parametrize("version", range(1, NUMERICS_VERSION + 1))
def test_an_early_record_is_known_by_its_id(version: int) -> None:
    assert TRIAL.recorded_as(TRIAL.with_numerics(version).id).numerics == version


def test_an_id_of_no_version_leaves_the_trial_as_it_is() -> None:
    assert TRIAL.recorded_as("0" * 16) == TRIAL


def made_earlier(folder: Path, version: int) -> None:
    """Rewrite a study as if an earlier release had made it, whose records did not state the version."""
    with sqlite3.connect(folder / FILE_NAME) as db:
        columns = "id, trial, status, outcome, error, attempts, started_at, finished_at, position"
        for trial_id, text in db.execute("SELECT id, trial FROM trials").fetchall():
            record = json.loads(text)
            trial = Trial(**record | {"numerics": version})
            del record["numerics"]
            db.execute(
                "UPDATE trials SET id = ?, trial = ? WHERE id = ?", (trial.id, json.dumps(record), trial_id)
            )
            db.execute("UPDATE epochs SET trial_id = ? WHERE trial_id = ?", (trial.id, trial_id))
            (folder / "trials" / trial_id).rename(folder / "trials" / trial.id)
            row = db.execute(f"SELECT {columns} FROM trials WHERE id = ?", (trial.id,)).fetchone()
            db.execute("UPDATE trials SET checksum = ? WHERE id = ?", (digest(list(row)), trial.id))


def test_a_study_of_an_earlier_version_is_read_and_not_continued(
    small_result: dlbench.StudyResult, small_study: dlbench.StudySpec, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(small_result.folder, tmp_path / "s"))
    made_earlier(folder, 2)
    opened = dlbench.open_study(folder)
    assert {trial.trial.numerics for trial in opened} == {2}
    assert [trial.test_accuracy for trial in opened] == [trial.test_accuracy for trial in small_result]
    assert audit(folder) == []
    with pytest.raises(StoreError, match="made with version 2 of the numerics"):
        dlbench.plan(small_study, out=folder)
    with pytest.raises(InputError, match="trained with version 2 of the numerics"):
        replay.replay(folder, opened.trials[0].id)
