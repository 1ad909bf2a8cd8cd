"""Any recorded trial can be trained again and compared; a damaged study is noticed."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import forked
import pytest

import dlbench
from dlbench.storage.audit import audit
from dlbench.studies.replay import manifest_of, sample


@pytest.fixture
def copy(small_result: dlbench.StudyResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_result.folder, tmp_path / "copy"))


def change(folder: Path, statement: str, *values: object) -> None:
    with sqlite3.connect(folder / "study.sqlite") as db:
        assert db.execute(statement, values).rowcount == 1


def test_a_trial_is_replayed_to_the_last_bit(small_result: dlbench.StudyResult) -> None:
    trial = small_result.trials[2]
    done = forked.run("replay", small_result.folder, trial.id[:6])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"IDENTICAL: trial {trial.id}\n")
    assert trial.params_sha256 in done.stdout
    assert "environment: unchanged" in done.stdout


def test_a_difference_is_named_with_epoch_quantity_and_size(
    copy: Path, small_result: dlbench.StudyResult
) -> None:
    trial = small_result.trials[0]
    change(copy, "UPDATE epochs SET val_loss = val_loss + 0.5 WHERE trial_id = ? AND epoch = 2", trial.id)
    change(copy, "UPDATE manifests SET manifest = replace(manifest, ?, ?)", '"jax":"', '"jax":"0.')
    done = forked.run("replay", copy, trial.id, "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert not said["identical"]
    assert said["results"][0]["where"] == "epoch 2, val_loss"
    assert said["results"][0]["recorded"] - said["results"][0]["now"] == pytest.approx(0.5)
    assert "packages.jax" in [difference["where"] for difference in said["environment"]]


def test_what_cannot_be_replayed_is_said(small_result: dlbench.StudyResult) -> None:
    for words, said in (
        ((small_result.folder, "zzz"), "no trial whose id begins with 'zzz'"),
        ((small_result.folder / "nowhere", "a"), "nowhere"),
    ):
        done = forked.run("replay", *words)
        assert done.returncode == 2
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_whole_study_passes_the_check(small_result: dlbench.StudyResult) -> None:
    done = forked.run("results", small_result.folder, "--check")
    assert (done.returncode, done.stdout) == (0, f"{small_result.folder} is undamaged\n")


def break_files(folder: Path, first: str, second: str) -> None:
    (folder / "trials" / first / "test_logits.npy").unlink()
    (folder / "trials" / second / "val_logits.npy").write_bytes(b"")


def test_trials_whose_files_are_damaged_can_be_trained_again(
    copy: Path, small_study: dlbench.StudySpec, small_result: dlbench.StudyResult
) -> None:
    first, second, *_ = (trial.id for trial in small_result.trials)
    break_files(copy, first, second)
    assert not dlbench.plan(small_study, out=copy).missing
    planned = dlbench.plan(small_study, out=copy, retry_failed=True, reuse=False)
    assert [trial.id for trial in planned.missing] == [first, second]
    (said,) = planned.trained_again
    assert said.startswith("2 trials are trained again, because files are missing or damaged: ")


@pytest.mark.slow
def test_a_damaged_study_is_repaired_in_its_folder(copy: Path, small_result: dlbench.StudyResult) -> None:
    first, second, *_ = (trial.id for trial in small_result.trials)
    break_files(copy, first, second)
    (copy / "trials" / first / "stray").write_text("")
    (copy / "manifest.json").write_text("{}")
    assert "--retry-failed" in forked.run("results", copy, "--check").stderr
    done = forked.run("run", copy, "--retry-failed", "--json")
    assert "manifest.json differs from what was recorded; it is written again" in done.stderr
    assert forked.run("results", copy, "--check").returncode == 0
    again = {trial["id"]: trial["params_sha256"] for trial in json.loads(done.stdout)["trials"]}
    assert again == {trial.id: trial.params_sha256 for trial in small_result.trials}


@pytest.mark.parametrize("content", [None, "", "{}", "[" * 100_000])
def test_a_damaged_manifest_is_found(copy: Path, content: str | None) -> None:
    path = copy / "manifest.json"
    path.unlink() if content is None else path.write_text(content)
    (problem,) = audit(copy)
    assert problem.startswith(f"{path} ")


@pytest.mark.slow
def test_curves_are_read_and_checked_where_they_are_shown(
    copy: Path, small_result: dlbench.StudyResult
) -> None:
    """The table reads none; whatever shows one refuses what was not recorded. A changed row is refused by all."""
    first, second = (trial.id for trial in small_result.trials[:2])
    change(copy, "UPDATE epochs SET train_loss = 1 WHERE trial_id = ? AND epoch = 1", first)
    change(copy, "UPDATE epochs SET train_loss = 9e999 WHERE trial_id = ? AND epoch = 1", second)
    before, after = (forked.run("results", folder) for folder in (small_result.folder, copy))
    assert after.returncode == 0
    assert after.stdout.replace(str(copy), "") == before.stdout.replace(str(small_result.folder), "")
    for words in (["--json"], ["--plot"], ["--filter", f"id={first}"], ["--filter", f"id={second}"]):
        done = forked.run("results", copy, *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "its history differs from what was recorded" in done.stderr
    change(copy, "UPDATE trials SET outcome = replace(outcome, '0.', '1.') WHERE id = ?", second)
    done = forked.run("results", copy)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"trial {second}: its row differs from what was recorded" in done.stderr


def test_damage_is_found(copy: Path, small_result: dlbench.StudyResult) -> None:
    first, second, third, fourth = (trial.id for trial in small_result)
    change(copy, "UPDATE epochs SET train_loss = 1 WHERE trial_id = ? AND epoch = 1", first)
    shutil.rmtree(copy / "trials" / second / "best")
    change(copy, "UPDATE trials SET trial = replace(trial, '0.01', '0.02') WHERE id = ?", third)
    (copy / "trials" / "stray").mkdir()
    problems = "\n".join(audit(copy))
    assert f"trial {first}: its history differs from what was recorded" in problems
    assert f"trial {second}: {copy / 'trials' / second / 'best'} is missing" in problems
    assert f"trial {third}: its specification has the id" in problems
    assert "stray does not belong to a trial" in problems
    assert fourth not in problems
    assert forked.run("results", copy, "--check").returncode == 1


@pytest.mark.slow
def test_a_sample_drawn_with_a_seed_is_replayed(small_result: dlbench.StudyResult, copy: Path) -> None:
    drawn = [{trial.id for trial in sample(small_result, 2, seed)} for seed in range(20)]
    assert all(len(ids) == 2 for ids in drawn)
    assert drawn == [{trial.id for trial in sample(small_result, 2, seed)} for seed in range(20)]
    assert set.union(*drawn) == {trial.id for trial in small_result}

    done = forked.run("replay", small_result.folder, "--sample", 2, "--seed", 3, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["sample"], said["of"], said["seed"], said["identical"]) == (2, 4, 3, True)
    assert {trial["trial"] for trial in said["trials"]} == drawn[3]

    change(copy, "UPDATE epochs SET val_loss = 1 WHERE trial_id = ? AND epoch = 2", min(drawn[3]))
    done = forked.run("replay", copy, "--sample", 9)
    assert done.returncode == 1
    assert "3 of 4 trials identical, drawn from 4 with seed " in done.stdout
    assert f"DIFFERENT: trial {min(drawn[3])}\nfirst difference: epoch 2, val_loss" in done.stdout


def test_what_to_replay_is_said_once(small_result: dlbench.StudyResult) -> None:
    for words, said in (
        ([], "replay takes one TRIAL by its id, or --sample N"),
        (["abc", "--sample", 1], "give one of them"),
        (["--sample", 0], "must be a positive number of trials"),
        (["--sample", "some"], "must be a positive number of trials"),
        (["--sample", 1, "--seed", "x"], "must be a whole number, or 'random'"),
    ):
        done = forked.run("replay", small_result.folder, *words)
        assert done.returncode == 2
        assert said in done.stderr, done.stderr


def test_random_seeds_are_drawn_once_and_recorded(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("kind: grid\ntrain_size: 72\nval_size: 32\nseed: [random, random]\n")

    def seeds(*words: object) -> list[int]:
        done = forked.run(*words, "--json", "--quiet")
        assert done.returncode == 0, done.stderr
        return [trial["seed"] for trial in json.loads(done.stdout)["trials"]]

    flags = ["--train-size", 72, "--val-size", 32, "--seed", "random", "7", "random", "--dry-run"]
    first, second, third = seeds("grid", *flags), seeds("grid", *flags), seeds("plan", file)
    assert first[1] == second[1] == 7
    assert len({*first, *second, *third}) == 7, "every one is drawn anew"
    study = dlbench.grid(seed=["random"] * 3, split_seed="random")
    assert len({spec.seed for spec in study.trials}) == 3
    assert all(0 <= spec.seed < 2**32 for spec in study.trials)
    assert isinstance(study.trials[0].split_seed, int)


def test_a_trial_is_compared_with_the_environment_that_it_was_trained_in(
    small_result: dlbench.StudyResult,
) -> None:
    first, second = (
        replace(trial, outcome=replace(trial.outcome, environment=digest))
        for trial, digest in zip(small_result.trials[:2], "ab", strict=True)
    )
    manifests = [{"n": n, "device": {"digest": digest}} for n, digest in enumerate("aabc")]
    assert manifest_of([first], manifests)["n"] == 1
    assert manifest_of([second], manifests)["n"] == 2
    assert manifest_of([first, second], manifests)["n"] == 3
    assert manifest_of([first], []) == {}
