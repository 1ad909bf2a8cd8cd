"""Where the time goes: every second of a worker is accounted for, and what is shared is divided."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL

import dlbench
from dlbench import files
from dlbench.execution import messages
from dlbench.records import TIME_KINDS
from dlbench.report import study_report


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[dlbench.StudyResult, list[messages.Idle]]:
    """Four trials in two programs that differ in the batch size, by one worker."""
    idle: list[messages.Idle] = []

    def hear(event: object) -> None:
        if isinstance(event, messages.Idle):
            idle.append(event)

    grid = dlbench.grid(**SMALL | {"batch_size": [16, 24]}, seed=[0, 1])
    return dlbench.run(grid, workers=1, out=tmp_path_factory.mktemp("time") / "s", on_event=hear), idle


def total(times: Any) -> float:
    return sum(times[kind] for kind in TIME_KINDS)


def test_the_study_adds_up_to_the_wall_clock(study: tuple[dlbench.StudyResult, list[messages.Idle]]) -> None:
    result, _ = study
    assert total(result.times) == pytest.approx(result.wall_time_s, rel=0.02)
    assert all(seconds > 0 for seconds in result.times.values())
    assert dlbench.open_study(result.folder).times == result.times
    record = result.to_dict()["study"]
    assert [record[f"{kind}_time_s"] for kind in TIME_KINDS] == [result.times[kind] for kind in TIME_KINDS]
    (line,) = study_report(result).times
    assert "% training" in str(line)


def test_trials_add_up_to_what_their_worker_measured(
    study: tuple[dlbench.StudyResult, list[messages.Idle]],
) -> None:
    result, idle = study
    trials = sum(trial.outcome[f"{kind}_time_s"] for trial in result for kind in TIME_KINDS)
    assert trials == pytest.approx(total(idle[-1].spent), rel=0.02)
    for kind in ("train", "eval", "compile"):
        by_trial = sum(trial.outcome[f"{kind}_time_s"] for trial in result)
        assert by_trial == pytest.approx(result.times[kind], rel=1e-6)


def test_a_workers_life_adds_up_from_its_start(tmp_path: Path) -> None:
    """By one clock that the parent reads before it starts the worker and after it has heard from it."""
    seen: list[float] = []
    spent: list[float] = []

    def hear(event: object) -> None:
        if isinstance(event, messages.Started):
            seen.append(time.monotonic())
        if isinstance(event, messages.Idle):
            seen.append(time.monotonic())
            spent.append(total(event.spent))

    begun = time.monotonic()
    dlbench.run(dlbench.grid(model="linear", **SMALL), workers=1, out=tmp_path / "s", on_event=hear)
    assert seen[-1] - seen[0] < spent[0] < seen[-1] - begun


def test_the_time_to_compile_is_shared(study: tuple[dlbench.StudyResult, list[messages.Idle]]) -> None:
    result, _ = study
    first, second, other, another = result
    assert {trial.batch_size for trial in (first, second)} == {16} == {first.batch_size}
    assert first.compile_time_s == second.compile_time_s > 0
    assert other.compile_time_s == another.compile_time_s
    assert first.compile_time_alone_s == second.compile_time_alone_s
    assert first.compile_time_alone_s > 0
    whole = sum(trial.compile_time_s for trial in result)
    assert first.compile_time_alone_s + other.compile_time_alone_s > whole, (
        "no function was shared by programs"
    )


@pytest.mark.slow
def test_programs_share_what_does_not_depend_on_what_they_differ_in(tmp_path: Path) -> None:
    from dlbench.execution.worker import Worker

    events_seen: list[object] = []
    trials = dlbench.plan(dlbench.grid(**SMALL | {"batch_size": [16, 24]}, optimizer=["adam", "sgd"])).trials
    worker = Worker(0, None, None, events_seen.append)
    for trial in trials:
        worker.run([trial])
    assert [type(event).__name__ for event in events_seen].count("Finished") == 4
    names = [key[0].__name__ for key in worker._executables]  # type: ignore[index]
    assert {name: names.count(name) for name in names} == {
        "init": 2,
        "train_epoch": 4,
        "validate": 1,
        "predict": 1,
    }


def test_a_cache_that_is_too_large_loses_what_was_used_longest_ago(tmp_path: Path) -> None:
    for age in range(4):
        file = tmp_path / f"{age}-cache"
        file.write_bytes(bytes(10))
        os.utime(file, (1e9 - age, 1e9 - age))
    files.trim(tmp_path, 25)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-cache", "1-cache"]
    files.trim(tmp_path / "nowhere", 25)


def test_checkpoints_after_the_first_are_what_orbax_reads(
    study: tuple[dlbench.StudyResult, list[messages.Idle]],
) -> None:
    """The second to fourth are filled into the layout of the first, which orbax wrote itself."""
    from dlbench.storage.checkpoints import tree_digest

    for trial in study[0]:
        loaded = trial.load()
        assert loaded.trial == trial.trial
        assert tree_digest((loaded.params, loaded.batch_stats)) == trial.best_params_sha256
        assert loaded.test_accuracy() == trial.test_accuracy
        committed = (trial.folder / "best" / "commit_success.txt").read_text()
        assert committed == "Checkpoint commit was successful to best"


@pytest.mark.parametrize("classes", [2, 10])
def test_the_figures_are_scikit_learns(classes: int) -> None:
    """To the last bit, where a class is never predicted or has no image, too."""
    from scipy.stats import binomtest
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    from dlbench.spec.trial import TrialSpec
    from dlbench.training.metrics import measure

    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes - (classes > 2), 300).astype(np.int32)
    logits = (draw.normal(size=(300, classes)) + np.eye(classes)[labels]).astype(np.float32)
    logits[:, 0] -= 9
    found, every, said = measure(TrialSpec(), logits, labels), range(classes), logits.argmax(1)
    macro = precision_recall_fscore_support(labels, said, labels=every, average="macro", zero_division=0.0)
    assert (found["macro_precision"], found["macro_recall"], found["macro_f1"]) == macro[:3]
    assert found["confusion_matrix"] == confusion_matrix(labels, said, labels=every).tolist()
    interval = binomtest(int((said == labels).sum()), 300).proportion_ci(method="wilson")
    assert (found["test_accuracy_low"], found["test_accuracy_high"]) == tuple(interval)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_area_under_the_curve_is_scikit_learns(classes: int) -> None:
    from sklearn.metrics import roc_auc_score

    from dlbench.training.metrics import roc_auc, scores

    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, 300)
    logits = np.round(draw.normal(size=(300, classes)) + np.eye(classes)[labels], 1)  # with ties
    expected = np.mean([roc_auc_score(labels == c, scores(logits)[:, c]) for c in range(classes)])
    assert roc_auc(logits, labels) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(roc_auc(logits, np.zeros(300, int)))
