"""Trials that are interrupted go on where they were, to the same bits; damaged states are survived."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import SMALL

import dlbench
from dlbench.execution import messages
from dlbench.records import TrialStatus
from dlbench.storage import artifacts
from dlbench.storage.audit import audit
from dlbench.training.schedules import is_prefix

LONG = SMALL | {"num_epochs": 6}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dlbench.TrialResult:
    return dlbench.run(dlbench.grid(**LONG), out=tmp_path_factory.mktemp("whole") / "s").trials[0]


def interrupted_after(epoch: int, folder: Path) -> None:
    """Train, with the state saved after every epoch, and kill the worker for good after this one."""

    def stop(event: object) -> None:
        if isinstance(event, messages.EpochEnded) and event.number == epoch + 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        dlbench.run(dlbench.grid(**LONG), out=folder, workers=1, checkpoint_every=1, on_event=stop)


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study interrupted after its third epoch, to be copied."""
    folder = tmp_path_factory.mktemp("halfway") / "s"
    interrupted_after(3, folder)
    return folder


def go_on(folder: Path) -> tuple[dlbench.TrialResult, list[object]]:
    seen: list[object] = []
    result = dlbench.run(dlbench.grid(**LONG), out=folder, workers=1, on_event=seen.append)
    return result.trials[0], seen


def steps(folder: Path) -> list[Path]:
    (trial,) = (folder / "trials").iterdir()
    return sorted((trial / artifacts.STATE).iterdir())


@pytest.mark.parametrize("epoch", [2, *(pytest.param(epoch, marks=pytest.mark.slow) for epoch in (1, 4))])
def test_an_interrupted_trial_goes_on_to_the_same_bits(
    epoch: int, uninterrupted: dlbench.TrialResult, tmp_path: Path
) -> None:
    interrupted_after(epoch, tmp_path / "s")
    assert epoch in [int(path.name) for path in steps(tmp_path / "s")]
    trial, _ = go_on(tmp_path / "s")
    assert trial.params_sha256 == uninterrupted.params_sha256
    assert trial.history == uninterrupted.history
    assert trial.best_params_sha256 == uninterrupted.best_params_sha256
    assert not (trial.folder / artifacts.STATE).exists()


@pytest.mark.parametrize(
    "damage",
    [
        *("truncated", "foreign"),
        *(pytest.param(damage, marks=pytest.mark.slow) for damage in ("torn", "missing", "half-deleted")),
    ],
)
def test_a_damaged_state_is_passed_over_and_reported(
    damage: str, halfway: Path, uninterrupted: dlbench.TrialResult, tmp_path: Path
) -> None:
    shutil.copytree(halfway, tmp_path / "s")
    newest = steps(tmp_path / "s")[-1]
    if damage == "missing":
        shutil.rmtree(newest.parent)
    elif damage == "half-deleted":
        shutil.rmtree(newest / "state")
    elif damage == "foreign":
        about = next(path for path in (newest / "about").iterdir() if path.name == "metadata")
        about.write_text(about.read_text().replace(uninterrupted.id, "0" * 16))
    else:
        for path in (newest / "state").rglob("*"):
            if path.is_file():
                path.write_bytes(
                    path.read_bytes()[: path.stat().st_size // 2] if damage == "truncated" else b""
                )
    trial, seen = go_on(tmp_path / "s")
    assert trial.params_sha256 == uninterrupted.params_sha256
    notices = [event.text for event in seen if isinstance(event, messages.Notice)]
    assert len(notices) == (damage != "missing")
    assert all("is damaged and not used" in notice for notice in notices)


def test_a_state_of_another_environment_is_not_used(
    halfway: Path, uninterrupted: dlbench.TrialResult, tmp_path: Path
) -> None:
    shutil.copytree(halfway, tmp_path / "s")
    for state in steps(tmp_path / "s"):
        about = state / "about" / "metadata"
        record = json.loads(about.read_text())
        about.write_text(json.dumps(record | {"environment": "0" * 16}))
    trial, seen = go_on(tmp_path / "s")
    assert trial.params_sha256 == uninterrupted.params_sha256
    notices = [event.text for event in seen if isinstance(event, messages.Notice)]
    assert len(notices) == 2
    assert all(
        f"saved in another environment ({'0' * 16}, now {trial.environment})" in text for text in notices
    )
    epochs = [event.number for event in seen if isinstance(event, messages.EpochEnded)]
    assert epochs[0] == 1


@pytest.mark.slow  # test_hangs.py interrupts commands
def test_ctrl_c_keeps_what_is_done_and_the_command_again_goes_on(
    uninterrupted: dlbench.TrialResult, tmp_path: Path
) -> None:
    code = textwrap.dedent(
        f"""
        import sys, dlbench
        study = dlbench.grid(seed=[0, 1, 2, 3], **{LONG!r})
        dlbench.run(study, workers=2, out={str(tmp_path / "s")!r},
                    on_event=lambda event: print(type(event).__name__, flush=True))
        """
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("EpochEnded"))
        start = time.monotonic()
        process.send_signal(number)
        _, stderr = process.communicate(timeout=20)
        assert time.monotonic() - start < 5
        assert "StudyInterrupted" in stderr
    stored = dlbench.open_study(tmp_path / "s")
    assert any(trial.status is not TrialStatus.COMPLETE for trial in stored)
    done = dlbench.run(dlbench.grid(seed=[0, 1, 2, 3], **LONG), out=tmp_path / "s", workers=2)
    assert [trial.status for trial in done] == [TrialStatus.COMPLETE] * 4
    assert done.trials[0].params_sha256 == uninterrupted.params_sha256


@pytest.mark.slow
def test_a_trial_whose_worker_always_dies_fails_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: dlbench.TrialResult
) -> None:
    (tmp_path / "deadly.py").write_text(
        textwrap.dedent(
            """
            import os, signal
            import flax.linen as nn

            class Deadly(nn.Module):
                num_classes: int = 10

                @nn.compact
                def __call__(self, x):
                    os.kill(os.getpid(), signal.SIGKILL)
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    study = dlbench.grid(model=["deadly:Deadly", "baseline"], **LONG)
    deadly, fine = dlbench.run(study, out=tmp_path / "s", workers=1)
    assert deadly.status is TrialStatus.FAILED
    assert "killed by SIGKILL, 3 times" in deadly.error
    assert fine.params_sha256 == uninterrupted.params_sha256
    started: list[object] = []
    again = dlbench.run(study, out=tmp_path / "s", on_event=started.append)
    assert len(started) == 1, "what failed is tried again only when that is asked for"
    assert again.failed == [again.trials[0]]
    once_more = dlbench.run(study, out=tmp_path / "s", retry_failed=True, on_event=started.append)
    assert deadly.id in [
        trial_id for event in started if isinstance(event, messages.Started) for trial_id in event.trial_ids
    ]
    assert once_more.trials[1] == fine


def test_no_process_is_left_when_a_run_is_abandoned(tmp_path: Path) -> None:
    before = threading.active_count()

    def stop(event: object) -> None:
        if isinstance(event, messages.Started):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        dlbench.run(dlbench.grid(**LONG), out=tmp_path / "s", workers=2, on_event=stop)
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    assert [
        child
        for child in children
        if "dlbench.execution.worker" in Path(f"/proc/{child}/cmdline").read_text()
    ] == []


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was trained for half the epochs and kept its state."""
    folder = tmp_path_factory.mktemp("half") / "half"
    study = dlbench.grid(**LONG | {"num_epochs": 3})
    dlbench.run(study, out=folder, workers=1, keep_state=True)
    dlbench.run(study, out=folder, workers=1)  # finds nothing to do, and leaves the state
    return folder


@pytest.fixture
def kept(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with that study in runs/."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(half, tmp_path / "runs" / "half")
    return tmp_path


def test_more_epochs_continue_from_a_kept_state(kept: Path, uninterrupted: dlbench.TrialResult) -> None:
    study = dlbench.grid(**LONG)
    planned = dlbench.plan(study)
    (trial,) = planned.trials
    assert planned.shorter[trial.id].epoch == 3
    assert [*planned.copied] == ["1 trial continues after epoch 3 of the same trial in runs/half"]
    seen: list[object] = []
    (longer,) = dlbench.run(study, workers=1, on_event=seen.append)
    numbers = [event.number for event in seen if isinstance(event, messages.EpochEnded)]
    assert numbers == [1, 2, 3, 4, 5, 6], "the first three are those of the shorter trial"
    assert (longer.history, longer.params_sha256) == (uninterrupted.history, uninterrupted.params_sha256)
    assert longer.best_params_sha256 == uninterrupted.best_params_sha256
    assert longer.test_accuracy == uninterrupted.test_accuracy
    trained = [event for event in seen if isinstance(event, messages.Notice)]
    assert not trained, "no state was refused"
    assert audit(kept / "runs" / "half") == []
    assert not dlbench.plan(study, out="elsewhere", reuse=False).shorter


@pytest.mark.slow
def test_a_damaged_kept_state_is_not_used(kept: Path, uninterrupted: dlbench.TrialResult) -> None:
    (state,) = (kept / "runs" / "half").glob(f"trials/*/{artifacts.KEPT}/3/state")
    for path in state.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])
    seen: list[object] = []
    (longer,) = dlbench.run(dlbench.grid(**LONG), workers=1, on_event=seen.append)
    assert any("is damaged and not used" in e.text for e in seen if isinstance(e, messages.Notice))
    assert longer.params_sha256 == uninterrupted.params_sha256


@pytest.mark.parametrize(
    ("schedule", "continues"),
    [
        ("constant", True),
        ("constant(warmup=2)", True),
        ("step(every=2)", True),
        ("exponential(warmup=1)", True),
        ("cosine", False),
        ("linear", False),
        ("one-cycle", False),
    ],
)
def test_a_schedule_that_depends_on_the_length_cannot_continue(schedule: str, continues: bool) -> None:
    spec = dlbench.grid(**LONG, schedule=schedule).trials[0]
    assert is_prefix(spec, 3) is continues


def test_a_plan_says_that_trials_cannot_continue(small_study: dlbench.StudySpec, tmp_path: Path) -> None:
    planned = dataclasses.replace(dlbench.plan(small_study, out=tmp_path / "s"), num_length_bound=2)
    (said,) = planned.copied
    assert said.startswith(
        "2 trials cannot continue a shorter one whose state was kept, because the learning rate"
    )
