"""Reports that are written anew while a study is trained."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dlbench
from dlbench.report import watching
from dlbench.storage.store import Store


def test_a_study_that_is_done_is_reported_once(small_result: dlbench.StudyResult) -> None:
    assert list(watching.moments([small_result.folder], pause_s=0)) == [False]


def test_nothing_is_watched_without_studies() -> None:
    assert list(watching.moments([])) == [False]


def test_each_trial_that_ends_is_a_moment(small_result: dlbench.StudyResult, tmp_path: Path) -> None:
    study = Path(shutil.copytree(small_result.folder, tmp_path / "small"))
    with Store(study, write=True) as store:
        store._db.execute("UPDATE trials SET status = 'WAITING'")
    lock = open(study / ".lock", "w")  # noqa: SIM115 (it is held while the study is watched)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found = watching.moments([study], pause_s=0.01)
    assert next(found) is True
    with contextlib.closing(sqlite3.connect(study / "study.sqlite")) as db:  # as another process would
        db.execute("UPDATE trials SET status = 'COMPLETE' WHERE id = ?", (small_result.trials[0].id,))
        db.commit()
        assert next(found) is True
    lock.close()
    assert list(found) == [False]


@pytest.mark.slow
def test_the_page_follows_a_study_and_stops_with_it(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "dlbench"]
    study = "grid --model baseline --lr 1e-4 3e-4 1e-3 --seeds 4 --train-size 500 --val-size 50 --epochs 4"
    training = subprocess.Popen(
        [*program, *study.split(), "--name", "watched", "--workers", "1", "--quiet"], cwd=tmp_path
    )
    page = tmp_path / "report" / "report.html"
    while not (tmp_path / "runs" / "watched" / "study.sqlite").exists():
        assert training.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    watcher = subprocess.Popen(
        [*program, "report", "watched", "--watch"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, messages = watcher.communicate(timeout=300)
    assert training.wait() == 0
    assert watcher.returncode == 0, messages
    assert output.split() == ["report/watched", "report/report.md", "report/report.html"]
    assert messages.count("is written again when trials end") >= 1
    assert 'http-equiv="refresh"' not in page.read_text()  # the last one stays as it is
    assert "WAITING" not in (tmp_path / "report" / "watched" / "trials.csv").read_text()
