"""Studies side by side: listed with what they found, searched together, removed, renamed and tidied up."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import dlbench
from dlbench.cli.app import _main
from dlbench.report import studies_table, terminal, trials_of_studies
from dlbench.storage import upkeep
from dlbench.storage.artifacts import STATE
from dlbench.storage.audit import audit
from dlbench.storage.database import locked
from dlbench.storage.store import Store
from dlbench.studies.listing import all_trials, overviews

LONG = "compare-archs-0123456789"


@pytest.fixture
def runs(small_result: dlbench.StudyResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two copies of the small study below the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("first", LONG):
        shutil.copytree(small_result.folder, tmp_path / "runs" / name)
    return Path("runs")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def command(*args: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["dlbench", *args])
        assert _main([*args]) == code
        captured = capsys.readouterr()
        return captured.err if code else captured.out

    return command


def test_the_list_says_what_each_study_found(
    runs: Path, call: Callable[..., str], small_result: dlbench.StudyResult
) -> None:
    record = next(
        each for each in json.loads(call("results", "--json"))["studies"] if each["name"] == "first"
    )
    best = max(
        (1e-3, 1e-2), key=lambda lr: sum(t.best_val_accuracy for t in small_result if t.learning_rate == lr)
    )
    tested = [trial.test_accuracy for trial in small_result if trial.learning_rate == best]
    assert record["datasets"] == ["mnist5k"]
    assert record["axes"] == {"learning_rate": 2, "seed": 2}
    assert record["best"] == f"lr {best:g}"
    assert record["test_accuracy"] == pytest.approx(sum(tested) / 2)
    assert (record["num_seeds"], record["test_accuracy_low"], record["complete"]) == (2, None, 4)
    shown = call("results")
    assert "mnist5k   lr (2), seed (2)  " in shown
    assert f"lr {best:g}" in shown


@pytest.mark.parametrize("length", [24, 44, 64, 84])
def test_names_and_ids_can_be_copied_at_80_columns(
    runs: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "_console", lambda stream: Console(file=out, width=80))
    name = LONG.ljust(length, "9")
    (runs / LONG).rename(runs / name)
    trials = all_trials(runs)[0]
    terminal.show([studies_table(list(overviews(runs))), trials_of_studies(trials, keep_order=False)])
    shown = out.getvalue()
    for word in (name, "first", trials[0].id):
        assert word in shown.split()
    row = next(line for line in shown.splitlines() if line.startswith("first"))
    assert ("lr 0.0" in row, "mnist5k" in row) == (length < 70, length < 60)
    left_out = "trials" if length == 24 else "varied, created, trials"
    assert length > 44 or f"Left out, for want of width: {left_out}" in " ".join(shown.split())


def test_trials_of_all_studies_are_filtered_and_sorted(
    runs: Path, call: Callable[..., str], small_result: dlbench.StudyResult
) -> None:
    found = call("results", "--filter", "lr=0.01", "--sort", "-test_accuracy", "--json")
    trials = json.loads(found)["trials"]
    assert sorted(each["study"] for each in trials) == [f"runs/{LONG}"] * 2 + ["runs/first"] * 2
    accuracies = [each["test_accuracy"] for each in trials]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {each["learning_rate"] for each in trials} == {0.01}
    assert "Trials of all studies" in call("results", "--sort", "seed")
    assert "No trials." in call("results", "--filter", "lr=7")


def test_a_study_is_renamed_and_removed(runs: Path, call: Callable[..., str]) -> None:
    assert call("results", "mv", "first", "second") == "runs/first is now runs/second\n"
    assert audit(runs / "second") == []
    assert f"runs/{LONG} exists already; choose another name" in call("results", "mv", "second", LONG, code=2)
    assert "add --yes to confirm" in call("results", "rm", "second", code=2)
    assert call("results", "rm", "second", LONG, "--yes") == f"removed runs/second\nremoved runs/{LONG}\n"
    assert [*runs.iterdir()] == []


def test_a_study_that_is_trained_is_left_alone(runs: Path) -> None:
    lock = locked(runs / "first")
    for change in (upkeep.remove, lambda folder: upkeep.rename(folder, runs / "other")):
        with pytest.raises(dlbench.StoreError, match="another process is training the study"):
            change(runs / "first")
    (runs / LONG / ".manifest.json.new").touch()
    found, skipped = upkeep.all_garbage(runs)
    assert [(each.folder.name, each.what) for each in found] == [(LONG, "temporary files")]
    assert len(skipped) == 1
    lock.close()


def test_a_link_is_removed_and_its_study_is_not(runs: Path) -> None:
    (runs / "link").symlink_to(runs.absolute() / "first", target_is_directory=True)
    upkeep.remove(runs / "link")
    assert not (runs / "link").is_symlink()
    assert audit(runs / "first") == []


def test_what_no_result_needs_is_collected(runs: Path, call: Callable[..., str]) -> None:
    assert call("results", "gc") == "There is nothing to remove.\n"
    folder = runs / "first"
    ids = [trial.id for trial in dlbench.open_study(folder)]
    with Store(folder, write=True) as store:  # trained again in another environment, and interrupted
        store.start(ids[:1])
    for place in (
        f"superseded/0123456789abcdef/trials/{ids[0]}/test_logits.npy",
        f"trials/{ids[0]}/{STATE}/1/about",
        f"trials/{ids[1]}/{STATE}/1/about",
        f"trials/{ids[1]}/.best.new/half",
        "../.gone.removed/study.sqlite",
    ):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text("12345")
    refused = call("results", "gc", code=2)
    assert refused == "Error: this frees 0.0 MB; add --yes to confirm\n"
    found, _ = upkeep.all_garbage(runs)
    assert [(each.what, each.num_bytes) for each in found] == [
        ("a removed study", 5),
        ("superseded results", 5),
        ("saved states", 5),
        ("temporary files", 5),
    ]
    assert "freed" in call("results", "gc", "--yes")
    assert call("results", "gc") == "There is nothing to remove.\n"
    assert (folder / "trials" / ids[0] / STATE).exists(), "this trial is not finished"
    with Store(folder) as store:
        assert store.superseded() == []
    assert not (runs / ".gone.removed").exists()
