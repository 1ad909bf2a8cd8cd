"""Studies as runs of MLflow and Weights & Biases, sent to the real things: a database, a server, offline files."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest

import dlbench
from dlbench.cli.app import _main
from dlbench.errors import InputError
from dlbench.report import trackers
from dlbench.report.trackers import runs

HAS_MLFLOW = all(map(importlib.util.find_spec, ("mlflow", "sqlalchemy", "alembic")))
HAS_WANDB = importlib.util.find_spec("wandb") is not None


def test_what_a_run_shows(small_result: dlbench.StudyResult) -> None:
    study = runs.StudyRuns(small_result)
    run, trial = study.runs[0], small_result.trials[0]
    assert run.tags["dlbench.trial"] == trial.id
    assert run.settings["learning_rate"] == trial.learning_rate
    assert [set(point) for point in run.curves] == [
        {"train/loss", "train/accuracy", "val/loss", "val/accuracy"}
    ] * 2
    assert run.curves[-1]["val/accuracy"] == trial.history[-1].val_accuracy
    assert run.final["test/accuracy"] == trial.test_accuracy
    assert run.final["best/val_accuracy"] == trial.best_val_accuracy
    assert run.final["time/train_s"] == trial.train_time_s
    assert run.files is not None
    assert len({each.digest for each in study.runs}) == 4
    other = runs.Run(replace(trial, error="another"), run.study)
    assert other.digest != run.digest
    assert "Baseline" in study.report


def test_trials_without_a_result_are_not_sent(small_result: dlbench.StudyResult) -> None:
    first, *rest = small_result.trials
    waiting = replace(first, status=dlbench.TrialStatus.WAITING)
    failed = replace(rest[0], status=dlbench.TrialStatus.FAILED)
    study = runs.StudyRuns(replace(small_result, trials=(waiting, failed, *rest[1:])))
    assert [run.trial.id for run in study.runs] == [trial.id for trial in rest]
    assert [run.failed for run in study.runs] == [True, False, False]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("mlfow:sqlite:///a.db", "unknown tracker 'mlfow'. Did you mean 'mlflow'"),
        ("mlflow:", "to must be mlflow:URI; got 'mlflow:'"),
        ("wandb", "to must be wandb:DIR; got 'wandb'"),
    ],
)
def test_a_target_of_another_form_is_refused(target: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        trackers.send(tmp_path, target)


def test_a_tracker_that_is_not_installed_is_named(
    small_result: dlbench.StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "dlbench.report.trackers.wandb", raising=False)
    with pytest.raises(InputError, match=r"not installed; run pip install 'dlbench\[wandb\]'"):
        trackers.send(small_result.folder, "wandb:somewhere")


@pytest.mark.parametrize("words", [["--watch"], ["--markdown", "a.md"], ["--html", "a.html"]])
def test_a_flag_that_would_have_no_effect_is_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(["report", "study", "--to", "wandb:runs", *words]) == 2
    assert f"writes no files; leave out {words[0]}" in capsys.readouterr().err


def command(study: Path, target: str, cwd: Path) -> str:
    """The message of ``report STUDY --to TARGET``."""
    done = forked.run("report", study, "--to", target, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert not done.stderr.strip(), done.stderr
    assert [path.name for path in cwd.iterdir() if path.name == "report"] == []
    return done.stdout


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of an MLflow server on the loopback interface."""
    port = free_port()
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    words += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--workers", "1"]
    words += ["--artifacts-destination", str(tmp_path / "artifacts")]
    settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with open(tmp_path / "server.log", "w") as log:
        process = subprocess.Popen(
            words, env=os.environ | settings, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True
        )
        try:
            for _ in range(240):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "server.log").read_text()
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 15)
                process.wait(30)


@pytest.fixture(params=["sqlite", "server"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database, or of a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    if importlib.util.find_spec("flask") is None:
        pytest.skip("MLflow's server needs flask")
    return str(request.getfixturevalue("server"))


@pytest.mark.slow
@pytest.mark.skipif(not HAS_MLFLOW, reason="needs mlflow")
def test_mlflow_has_a_run_per_trial_and_twice_adds_nothing(
    small_result: dlbench.StudyResult, address: str, tmp_path: Path
) -> None:
    from mlflow.tracking import MlflowClient

    cwd = tmp_path / "cwd"
    cwd.mkdir()
    assert command(small_result.folder, f"mlflow:{address}", cwd).startswith("small: 4 runs added")
    client = MlflowClient(address, registry_uri=address)
    experiment = client.get_experiment_by_name("dlbench")

    def found() -> dict[str, Any]:
        return {
            run.data.tags.get("dlbench.trial", ""): run
            for run in client.search_runs([experiment.experiment_id])
        }

    first = found()
    assert {*first} == {"", *(trial.id for trial in small_result.trials)}
    parent, trial = first[""], small_result.trials[0]
    run = first[trial.id]
    assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "Baseline"
    assert run.data.metrics["test/accuracy"] == trial.test_accuracy
    curve = client.get_metric_history(run.info.run_id, "val/accuracy")
    assert [(point.step, point.value) for point in curve] == [
        (number, epoch.val_accuracy) for number, epoch in enumerate(trial.history, 1)
    ]
    kept = client.download_artifacts(run.info.run_id, "trial", str(tmp_path))
    names = {str(path.relative_to(trial.folder)) for path in trial.folder.rglob("*") if path.is_file()}
    assert {str(p.relative_to(kept)) for p in Path(kept).rglob("*") if p.is_file()} == names
    assert [each.path for each in client.list_artifacts(parent.info.run_id)] == ["report.md"]

    again = command(small_result.folder, f"mlflow:{address}", cwd)
    assert again.startswith("small: 0 runs added")
    assert again.rstrip().endswith("; 4 trials there already")
    assert {name: run.info.run_id for name, run in found().items()} == {
        name: run.info.run_id for name, run in first.items()
    }
    client.delete_tag(run.info.run_id, "dlbench.digest")  # as an interruption leaves it
    assert command(small_result.folder, f"mlflow:{address}", cwd).startswith("small: 1 run added")
    replaced = found()
    assert len(replaced) == 5
    assert replaced[trial.id].info.run_id != run.info.run_id


@pytest.mark.slow
@pytest.mark.skipif(not HAS_MLFLOW, reason="needs mlflow")
def test_a_server_that_does_not_answer_is_said_in_one_line(
    small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    target = f"mlflow:http://127.0.0.1:{free_port()}"
    done = forked.run("report", small_result.folder, "--to", target, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: --to: MLflow cannot be used at http://127.0.0.1:")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(not HAS_WANDB, reason="needs wandb")
def test_wandb_has_a_run_per_trial_and_twice_adds_nothing(
    small_result: dlbench.StudyResult, tmp_path: Path
) -> None:
    place, cwd = tmp_path / "offline", tmp_path / "cwd"
    cwd.mkdir()
    assert command(small_result.folder, f"wandb:{place}", cwd).startswith("small: 4 runs added")
    trial = small_result.trials[0]

    def found() -> list[str]:
        return sorted(path.name for path in place.glob("wandb/offline-run-*"))

    first = found()
    assert len(first) == 5
    (folder,) = place.glob(f"wandb/offline-run-*-{trial.id}")
    items = records(next(folder.glob("*.wandb")))
    history = [
        {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        for record in items
        if record.WhichOneof("record_type") == "history"
    ]
    assert [float(each["val/accuracy"]) for each in history] == pytest.approx(
        [epoch.val_accuracy for epoch in trial.history]
    )
    (run,) = (each.run for each in items if each.WhichOneof("record_type") == "run")
    assert (run.run_id, run.run_group, run.job_type) == (trial.id, "small", "trial")
    config = {item.key: item.value_json for item in run.config.update}
    assert config["dlbench.trial"] == f'"{trial.id}"'
    names = {str(path.relative_to(trial.folder)) for path in trial.folder.rglob("*") if path.is_file()}
    kept = folder / "files" / trial.id
    assert {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()} == names

    assert command(small_result.folder, f"wandb:{place}", cwd).startswith("small: 0 runs added")
    assert found() == first
    (folder / "dlbench.json").unlink()  # as an interruption leaves it
    assert command(small_result.folder, f"wandb:{place}", cwd).startswith("small: 1 run added")
    assert len(found()) == 5


def records(path: Path) -> list[Any]:
    """The records of an offline file of Weights & Biases: a log of LevelDB behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, block, parts, found = path.read_bytes(), 7, 2**15, b"", []
    assert data.startswith(b":W&B")
    while place < len(data):
        if block - place % block < 7:  # the end of a block holds no header
            place += block - place % block
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found
