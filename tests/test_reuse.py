"""Trials that another study has trained are copied, not trained again; adding seeds trains only what is missing."""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL

import dlbench
from dlbench import report
from dlbench.execution import messages
from dlbench.storage import artifacts, sources
from dlbench.storage.audit import audit
from dlbench.storage.store import FILE_NAME, Store

TWO_RATES = {"model": "baseline", "learning_rate": [1e-3, 1e-2]}


@pytest.fixture
def first(small_result: dlbench.StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small study as runs/first below the working folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(small_result.folder, tmp_path / "runs" / "first")


def measured(trial: dlbench.TrialResult) -> dlbench.TrialResult:
    """A result without the places it lies in and comes from, and without the shares of compilation."""
    outcome = dataclasses.replace(trial.outcome, origin=None, times={}, compile_time_alone_s=None)
    return dataclasses.replace(trial, outcome=outcome, study_dir=None)


def environment(result: dlbench.StudyResult) -> str:
    return str(result.trials[0].environment)


def test_adding_seeds_trains_only_what_is_missing(first: Path, small_result: dlbench.StudyResult) -> None:
    study = dlbench.grid(**TWO_RATES, seed=range(3), **SMALL)
    planned = dlbench.plan(study)
    words = "\n".join(str(part) for part in report.plan_report(planned)[1:])
    assert "6 trials in 1 program; 4 done, 2 to train" in words
    assert "4 trials are copied from runs/first, which has trained them in this environment" in words
    record = report.plan_record(planned)
    assert record["study"]["num_copied"] == 4
    assert [t["copied_from"] for t in record["trials"]].count("runs/first") == 4

    seen: list[object] = []
    result = dlbench.run(study, workers=1, on_event=seen.append)
    trained = [i for e in seen if isinstance(e, messages.Started) for i in e.trial_ids]
    assert sorted(trained) == sorted(t.id for t in result if t.seed == 2)
    assert [t.origin for t in result] == ["first" if t.seed < 2 else None for t in result]
    before = {trial.id: trial for trial in small_result}
    assert all(measured(t) == measured(before[t.id]) for t in result if t.seed < 2)
    said = [str(part) for part in report.study_report(result).parts]
    assert "4 trials were copied from the study first: their times were measured there." in said

    shutil.rmtree(first)  # a study's folder is self-contained
    assert audit(result.folder) == []
    assert result.trials[0].load().test_accuracy() == result.trials[0].test_accuracy
    curves = [*result.folder.glob("tensorboard/*/events*")]
    assert len(curves) == 6


def test_copying_is_completed_after_an_interruption(
    first: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    def stop(event: object) -> None:
        if isinstance(event, messages.Copied) and len(seen) == 2:
            raise InterruptedError
        if isinstance(event, messages.Copied):
            seen.append(event)

    seen: list[object] = []
    with pytest.raises(InterruptedError):
        dlbench.run(small_study, on_event=stop)
    (folder,) = (path for path in Path("runs").iterdir() if path.name != "first")
    waiting = [i for i, status in Store(folder).statuses().items() if status == "WAITING"]
    assert len(waiting) == 1
    partial = folder / "trials" / waiting[0] / "best" / "state"  # as a process that is killed leaves it
    partial.mkdir(parents=True)
    (partial / "_METADATA").write_text("half")

    again = dlbench.run(small_study)
    assert again.folder.resolve() == folder.resolve()
    assert [measured(t) for t in again] == [measured(t) for t in small_result]
    assert audit(folder) == []
    assert Store(folder).manifests()[-1]["device"]["digest"] == environment(small_result)


def change_history(folder: Path, trial: str) -> None:
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("UPDATE epochs SET val_loss = 0.5 WHERE trial_id = ? AND epoch = 1", (trial,))


def change_row(folder: Path, trial: str) -> None:
    with sqlite3.connect(folder / FILE_NAME) as db:
        changed = "json_set(outcome, '$.test_accuracy', 0.99)"
        db.execute(f"UPDATE trials SET outcome = {changed} WHERE id = ?", (trial,))


def change_predictions(folder: Path, trial: str) -> None:
    path = folder / "trials" / trial / "test_logits.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def remove_checkpoint(folder: Path, trial: str) -> None:
    shutil.rmtree(folder / "trials" / trial / "best")


def link_folder(folder: Path, trial: str) -> None:
    (folder / "trials" / trial).rename(folder / "elsewhere")
    (folder / "trials" / trial).symlink_to(folder / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change_history, "history differs from what was recorded"),
        (change_row, "row differs from what was recorded"),
        (change_predictions, "the files in"),
        (remove_checkpoint, "best is missing"),
        (link_folder, "is a symbolic link"),
    ],
)
def test_a_damaged_result_is_skipped_with_a_word(
    damage: Callable[[Path, str], None], said: str, first: Path, small_result: dlbench.StudyResult
) -> None:
    ids = [trial.id for trial in small_result]
    damage(first, ids[1])
    found = [*sources.read(first, ids, environment(small_result))]
    assert [each.result.id for each in found if isinstance(each, sources.Found)] == [ids[0], *ids[2:]]
    (word,) = (each for each in found if isinstance(each, str))
    assert word.startswith(f"trial {ids[1]} is not copied from {first}")
    assert said in word


def test_another_copy_serves_where_one_is_damaged(
    first: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    shutil.copytree(first, first.parent / "second")
    for trial in small_result:
        change_predictions(first, trial.id)
    seen: list[object] = []
    result = dlbench.run(small_study, on_event=seen.append)
    assert {trial.origin for trial in result} == {"second"}
    assert [t.test_accuracy for t in result] == [t.test_accuracy for t in small_result]
    notices = [event.text for event in seen if isinstance(event, messages.Notice)]
    assert len([text for text in notices if "is not copied from runs/first" in text]) == 4


def test_results_of_another_environment_are_not_copied(first: Path, small_study: dlbench.StudySpec) -> None:
    with Store(first) as store:
        ids = [*store.statuses()]
    found = sources.find(first.parent, ids, first.parent / "new")
    assert found.of("0123456789abcdef") == {}
    assert found.of(None) == {}
    assert sources.find(first.parent, ids, first).folders == {}


def test_studies_that_cannot_be_read_are_named(first: Path, small_study: dlbench.StudySpec) -> None:
    (first / FILE_NAME).write_bytes(b"damaged")
    planned = dlbench.plan(small_study)
    (word,) = planned.copied
    assert word.startswith("not searched for results: the study in runs/first")
    assert not planned.done


def test_a_part_of_a_plan_has_its_own_sources(first: Path) -> None:
    planned = dlbench.plan(dlbench.grid(**TWO_RATES, seed=range(3), **SMALL))
    part = planned.part([0, 2])
    assert part.done == {trial.id for trial in planned.trials if trial.spec.seed == 0}
    assert part.copied[0].startswith("2 trials are copied from runs/first")


def test_nothing_is_copied_where_that_is_not_wanted(first: Path, small_study: dlbench.StudySpec) -> None:
    assert len(dlbench.plan(small_study).done) == 4
    assert not dlbench.plan(small_study, reuse=False).done


@pytest.mark.slow
def test_searching_ten_thousand_trials_takes_less_than_a_second(first: Path) -> None:
    with sqlite3.connect(first / FILE_NAME) as db:
        row = list(db.execute("SELECT * FROM trials LIMIT 1").fetchone())
        for number in range(50):
            row[0], row[1] = f"{number:016x}", 100 + number
            db.execute(f"INSERT INTO trials VALUES ({','.join('?' * len(row))})", row)
    for number in range(200):
        copy = first.parent / str(number)
        copy.mkdir()
        shutil.copy(first / FILE_NAME, copy)
    ids = [f"{number:016x}" for number in range(50)]
    start = time.process_time()  # of this process: the machine may be busy
    found = sources.find(first.parent, ids, first)
    assert time.process_time() - start < 1
    assert sum(map(len, found.folders.values())) == 200 * 50


def test_results_are_copied_to_keep_a_state_only_where_one_is_kept(
    first: Path, small_study: dlbench.StudySpec
) -> None:
    assert len(dlbench.plan(small_study).sources) == 4
    assert not dlbench.plan(small_study, keep_state=True).sources
    trial = dlbench.plan(small_study).trials[0].id
    (first / "trials" / trial / artifacts.KEPT).mkdir()
    assert {*dlbench.plan(small_study, keep_state=True).sources} == {trial}
