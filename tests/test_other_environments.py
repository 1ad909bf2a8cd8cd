"""A result of another environment is said and trained again when its study is continued, and never lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import SMALL

import dlbench
from dlbench.execution import environment, messages
from dlbench.execution.environment_probe import worker_environment
from dlbench.records import TrialStatus, canonical_json
from dlbench.report import exports, study_report
from dlbench.storage import artifacts
from dlbench.storage.audit import audit
from dlbench.storage.store import FILE_NAME, SCHEMA_VERSION, Store

OTHER = "0" * 16


def moved(result: dlbench.StudyResult, folder: Path, count: int, other: str | None = OTHER) -> list[str]:
    """Copy a study whose first trials were trained in another environment; returns their ids."""
    shutil.copytree(result.folder, folder)
    ids = [trial.id for trial in result.trials[:count]]
    with Store(folder, write=True) as store, sqlite3.connect(folder / FILE_NAME, isolation_level=None) as db:
        for trial_id in ids:
            (text,) = db.execute("SELECT outcome FROM trials WHERE id = ?", (trial_id,)).fetchone()
            outcome = json.loads(text) | {"environment": other}
            if other is None:
                del outcome["environment"]
            db.execute("UPDATE trials SET outcome = ? WHERE id = ?", (canonical_json(outcome), trial_id))
            store._update_checksum(trial_id)
    return ids


def digests(trials: Any) -> dict[str, str | None]:
    return {trial.id: trial.params_sha256 for trial in trials}


def cli(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(*arguments, cwd=folder)


def test_the_environment_of_workers_is_known_before_they_start(small_result: dlbench.StudyResult) -> None:
    first = worker_environment("cpu")
    assert first["digest"] == small_result.trials[0].environment
    assert worker_environment("cpu") == first  # from the cache


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
        ("DLBENCH_KERNELS", ""),
        ("DNNL_MAX_CPU_ISA", "SSE41"),
    ],
)
def test_the_environment_is_asked_again_where_it_may_be_another(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = worker_environment("cpu")["digest"]
    monkeypatch.setenv(variable, value)
    assert worker_environment("cpu")["digest"] != before
    assert worker_environment("cpu")["digest"] != before


def test_a_damaged_answer_in_the_cache_is_not_used(cache: Path) -> None:
    known = worker_environment("cpu")
    for path in (cache / "environments").iterdir():
        path.write_text(path.read_text().replace("cpu", "gpu"))
    assert worker_environment("cpu") == known


def test_it_is_planned_said_trained_again_and_kept(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    folder = tmp_path / "runs" / "s"
    ids = moved(small_result, folder, 2)
    before = {path: path.read_bytes() for path in (folder / "trials").rglob("*") if path.is_file()}
    opened = dlbench.open_study(folder)
    assert any("come from 2 environments" in str(part) for part in study_report(opened).parts)

    planned = dlbench.plan(small_study, out=folder, workers=1)
    assert planned.superseded == set(ids)
    assert [trial.id for trial in planned.missing] == ids
    (said,) = planned.trained_again
    assert said.startswith(f"2 trials were trained in another environment ({OTHER}, now ")
    assert {path: path.read_bytes() for path in before} == before  # planning changes nothing

    seen: list[object] = []
    result = dlbench.run(small_study, out=folder, workers=1, on_event=seen.append)
    started = [i for event in seen if isinstance(event, messages.Started) for i in event.trial_ids]
    assert sorted(started) == sorted(ids)
    assert not [event for event in seen if isinstance(event, messages.Notice)]  # the plan has said it
    assert digests(result) == digests(small_result)
    assert len({trial.environment for trial in result}) == 1
    assert not any("environments, between" in str(part) for part in study_report(result).parts)
    assert any(
        "2 earlier results of other environments are kept" in str(p) for p in study_report(result).parts
    )

    reread = dlbench.open_study(folder)
    for found in (result, reread):
        assert digests(found.superseded) == {i: digests(small_result)[i] for i in ids}
        for trial, original in zip(found.superseded, opened.trials[:2], strict=True):
            assert (trial.history, trial.status, trial.metrics, trial.files_sha256, trial.environment) == (
                original.history,
                original.status,
                original.metrics,
                original.files_sha256,
                OTHER,
            )
    kept = artifacts.superseded_folder(folder, OTHER)
    assert sorted(path.name for path in (kept / "trials").iterdir()) == sorted(ids)
    assert len(list((kept / "tensorboard").iterdir())) == 2
    for trial in reread.superseded:
        for path in trial.folder.rglob("*"):
            if path.is_file():
                assert (
                    path.read_bytes() == before[folder / "trials" / trial.id / path.relative_to(trial.folder)]
                )
    reread.superseded[0].load()  # compares the digest of the parameters
    assert audit(folder) == []
    assert dlbench.plan(small_study, out=folder).missing == []


def test_unknown_environments_and_repetition(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    folder = tmp_path / "s"
    (one,) = moved(small_result, folder, 1, other=None)
    planned = dlbench.plan(small_study, out=folder)
    assert planned.superseded == {one}
    assert (
        "1 trial was trained in another environment (which was not recorded) and is trained again"
        in planned.trained_again[0]
    )
    dlbench.run(small_study, out=folder, workers=1)
    assert audit(folder) == []
    again = tmp_path / "again"
    moved(dlbench.open_study(folder), again, 1)
    result = dlbench.run(small_study, out=again, workers=1)
    assert [trial.study_dir.name for trial in result.superseded if trial.study_dir] == [OTHER, "unknown"]
    assert audit(again) == []


@pytest.mark.slow
def test_the_commands_say_it_before_anything_is_trained(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    moved(small_result, tmp_path / "s", 3)
    with sqlite3.connect(tmp_path / "s" / FILE_NAME) as db:
        before = db.execute("SELECT id, outcome FROM trials").fetchall()
    said = f"3 trials were trained in another environment ({OTHER}, now "
    flags = ["--model", "baseline", "--lr", "1e-3", "1e-2", "--seed", "0", "1", "--train-size", "72"]
    flags += ["--val-size", "32", "--batch-size", "16", "--epochs", "2", "--out", "s"]
    for arguments in (["plan", "s"], ["grid", *flags, "--dry-run"]):
        done = cli(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert "1 done, 3 to train" in done.stdout
    record = json.loads(cli(tmp_path, "plan", "s", "--json").stdout)
    assert record["study"]["num_superseded"] == 3
    assert [trial["superseded"] for trial in record["trials"]] == [True] * 3 + [False]
    for arguments in (["results", "s"], ["report", "s", "--out", "r"]):
        assert cli(tmp_path, *arguments).returncode == 0
    assert "environments" in json.loads((tmp_path / "r" / "s" / "manifest.json").read_text())
    assert "come from 2 environments" in (tmp_path / "r" / "report.md").read_text()
    assert cli(tmp_path, "report", "r/s", "--out", "r2").returncode == 0
    assert "come from 2 environments" in (tmp_path / "r2" / "report.md").read_text()
    with sqlite3.connect(tmp_path / "s" / FILE_NAME) as db:  # showing and reporting train nothing
        assert db.execute("SELECT id, outcome FROM trials").fetchall() == before
    done = cli(tmp_path, "run", "s", "--quiet", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert said in done.stderr
    assert "3 earlier results of other environments are kept" in done.stdout
    assert "undamaged" in cli(tmp_path, "results", "s", "--check").stdout


def test_damage_of_a_superseded_result_is_found(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    folder = tmp_path / "s"
    (one,) = moved(small_result, folder, 1)
    dlbench.run(small_study, out=folder, workers=1)
    kept = artifacts.superseded_folder(folder, OTHER) / "trials"
    logits = kept / one / "test_logits.npy"
    whole = logits.read_bytes()
    logits.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert [problem for problem in audit(folder) if "test_logits.npy" in problem or str(kept) in problem]
    logits.write_bytes(whole)
    assert audit(folder) == []
    (kept / ("f" * 16)).mkdir()
    assert audit(folder) == [f"{kept / ('f' * 16)} does not belong to a trial of the study"]
    (kept / ("f" * 16)).rmdir()
    for change in (
        "outcome = replace(outcome, '\"test_accuracy\":0', '\"test_accuracy\":1')",
        "epochs = replace(epochs, '0.', '1.')",
        "environment = '../../../etc'",
    ):
        damaged = shutil.copytree(folder, tmp_path / "damaged", dirs_exist_ok=True)
        with sqlite3.connect(damaged / FILE_NAME) as db:
            db.execute(f"UPDATE superseded SET {change}")
        assert [problem for problem in audit(damaged) if f"damaged at trial {one}" in problem], change
        with pytest.raises(dlbench.StoreError, match="superseded"):
            dlbench.open_study(damaged)


def test_a_study_killed_between_moving_and_recording_is_continued(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    folder = tmp_path / "s"
    (one,) = moved(small_result, folder, 1)
    artifacts.supersede(folder, one, OTHER)
    result = dlbench.run(small_study, out=folder, workers=1)
    assert digests(result) == digests(small_result)
    assert digests(result.superseded) == {one: digests(small_result)[one]}
    assert audit(folder) == []


@pytest.mark.slow
def test_an_interrupted_repetition_is_continued_with_the_earlier_result_kept(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    folder = tmp_path / "s"
    (one,) = moved(small_result, folder, 1)

    def stop(event: object) -> None:
        if isinstance(event, messages.EpochEnded):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        dlbench.run(small_study, out=folder, workers=1, on_event=stop)
    halfway = dlbench.open_study(folder)
    assert halfway.trials[0].status is TrialStatus.INTERRUPTED
    assert digests(halfway.superseded) == {one: digests(small_result)[one]}
    assert audit(folder) == []
    assert digests(dlbench.run(small_study, out=folder, workers=1)) == digests(small_result)


@pytest.mark.slow
def test_looks_train_again_only_what_is_of_another_environment(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    study = dlbench.compare(model=["baseline", "simplecnn"], seeds=2, **SMALL)
    folder = tmp_path / "s"
    first = dlbench.run_until_separated(study, max_seeds=3, out=folder, workers=1)
    ids = moved(first, tmp_path / "moved", 1)
    seen: list[object] = []
    again = dlbench.run_until_separated(
        study, max_seeds=3, out=tmp_path / "moved", workers=1, on_event=seen.append
    )
    assert [i for event in seen if isinstance(event, messages.Started) for i in event.trial_ids] == ids
    assert digests(again) == digests(first)


def test_a_store_of_the_second_version_is_upgraded(
    tmp_path: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    folder = tmp_path / "s"
    shutil.copytree(small_result.folder, folder)
    with sqlite3.connect(folder / FILE_NAME) as db:
        db.execute("DROP TABLE superseded")
        db.execute("ALTER TABLE epochs DROP COLUMN val_metric")
        db.execute("UPDATE meta SET value = '2' WHERE key = 'schema_version'")
    before = dlbench.open_study(folder)
    assert before.superseded == ()
    more = dlbench.grid(model="baseline", learning_rate=[1e-3, 1e-2], seed=[0, 1, 2], **SMALL)
    assert len(dlbench.run(more, out=folder, workers=1)) == 6
    with Store(folder) as store:
        assert store.meta("schema_version") == str(SCHEMA_VERSION)
    after = dlbench.open_study(folder).trials[:4]
    assert [(t.id, t.history, t.files_sha256) for t in after] == [
        (t.id, t.history, t.files_sha256) for t in before
    ]


def test_several_devices_of_one_kind_are_one_environment() -> None:
    """A worker may see one of several accelerators."""
    one = {"backend": "gpu", "devices": ["NVIDIA H100"], "variables": {}}
    digest = environment.environment_digest(one)
    assert environment.environment_digest(one | {"devices": ["NVIDIA H100"] * 8}) == digest
    assert environment.environment_digest(one | {"devices": ["NVIDIA A100"]}) != digest


def test_studies_of_different_processors_are_said_to_be_so_when_they_are_compared(
    tmp_path: Path, small_result: dlbench.StudyResult
) -> None:
    exports.export(small_result.folder, tmp_path / "one")
    for name in ("two", "old"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    processor = manifest["device"]["processor"]
    other = manifest | {"device": manifest["device"] | {"processor": "x86_64/Another/1/2"}}
    (tmp_path / "two" / "manifest.json").write_text(json.dumps(other))
    del manifest["device"]["processor"]  # as 0.1.0 recorded it
    (tmp_path / "old" / "manifest.json").write_text(json.dumps(manifest))

    def reported(*names: str) -> tuple[str, str]:
        assert cli(tmp_path, "report", *names, "--out", "r").returncode == 0
        return (tmp_path / "r" / "report.md").read_text(), (tmp_path / "r" / "report.html").read_text()

    for text in reported("one", "two"):
        assert "These studies were trained in different environments" in text
        assert f"One: processor {processor}" in text
        assert "Two: processor x86_64/Another/1/2" in text
    for text in reported("one", "old"):
        assert "different environments" not in text
