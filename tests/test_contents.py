"""What lies in files is compared with what was recorded: checkpoints, predictions, cached data sets."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL

import dlbench
from dlbench import data
from dlbench.data import cache
from dlbench.records import TrialStatus
from dlbench.storage import artifacts
from dlbench.storage.arrays import checkpoint_digest
from dlbench.storage.audit import audit, check_contents


@pytest.fixture
def copy(small_result: dlbench.StudyResult, tmp_path: Path) -> dlbench.StudyResult:
    return dlbench.open_study(shutil.copytree(small_result.folder, tmp_path / "copy"))


def flip_arrays(folder: Path) -> None:
    for path in (folder / "best" / "state").glob("*/0*"):
        path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))


def flip_one_bit(folder: Path) -> None:
    path = folder / "best" / "state" / "params.Dense_1.bias" / "0"
    content = path.read_bytes()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def zero_logits(folder: Path) -> None:
    logits = np.load(folder / "test_logits.npy")
    np.save(folder / "test_logits.npy", np.zeros_like(logits))


def shorten(folder: Path) -> None:
    path = folder / "best" / "state" / "params.Dense_0.kernel" / "0.0"
    path.write_bytes(path.read_bytes()[:-4])


def remove(folder: Path) -> None:
    (folder / "best" / "state" / "params.Dense_0.kernel" / ".zarray").unlink()


def huge_header(folder: Path) -> None:
    content = (folder / "test_logits.npy").read_bytes()
    changed = content.replace(b"(1000, 10)", b"(" + b"9" * 12 + b", 10)").replace(b" " * 8, b"", 1)
    (folder / "test_logits.npy").write_bytes(changed)


def pipe(folder: Path) -> None:
    (folder / "test_logits.npy").unlink()
    os.mkfifo(folder / "test_logits.npy")


def pipe_in_checkpoint(folder: Path) -> None:
    path = folder / "best" / "state" / "params.Dense_1.bias" / "0"
    path.unlink()
    os.mkfifo(path)


def change_description(folder: Path) -> None:
    path = folder / "best" / "about" / "metadata"
    path.write_text(path.read_text().replace('"num_classes": 10', '"num_classes": 11'))


def nudge_logits(folder: Path) -> None:
    """So little that every image keeps its class."""
    logits = np.load(folder / "test_logits.npy")
    logits[0] += 1
    np.save(folder / "test_logits.npy", logits)


#: Damage → what is said of it, and whether that can be told without a digest of the files.
DAMAGE: list[tuple[Callable[[Path], None], str, bool]] = [
    (flip_arrays, "the parameters in", True),
    (flip_one_bit, "the parameters in", True),
    (shorten, "the checkpoint in", True),
    (remove, "the checkpoint in", True),
    (zero_logits, "the predictions in", True),
    (huge_header, "test_logits.npy is damaged", True),
    (pipe, "is not a regular file", True),
    (pipe_in_checkpoint, "is not a regular file", True),
    (change_description, "the files in", False),
    (nudge_logits, "the files in", False),
]


def _problems(trial: dlbench.TrialResult) -> list[str]:
    try:
        return [*check_contents(trial, artifacts.read(trial.folder))]
    except dlbench.StoreError as error:
        return [str(error)]


@pytest.mark.parametrize(("damage", "said", "without"), DAMAGE, ids=[each[0].__name__ for each in DAMAGE])
def test_damage_inside_files_is_found(
    damage: Callable[[Path], None], said: str, without: bool, copy: dlbench.StudyResult
) -> None:
    trial = copy.trials[1]
    assert audit(copy.folder) == []
    damage(trial.folder)
    (problem,) = audit(copy.folder)
    assert problem.startswith(f"trial {trial.id}: ")
    assert said in problem
    old = dataclasses.replace(trial, outcome=dataclasses.replace(trial.outcome, files_sha256=None))
    assert len(_problems(old)) == without


def test_the_digests_are_those_of_what_was_written(small_result: dlbench.StudyResult) -> None:
    for trial in small_result:
        made = artifacts.read(trial.folder)
        assert trial.files_sha256 == artifacts.files_digest(made)
        assert checkpoint_digest(made) == trial.best_params_sha256


@pytest.mark.parametrize("damage", [flip_one_bit, pipe_in_checkpoint])
def test_a_damaged_checkpoint_is_not_loaded(
    damage: Callable[[Path], None], copy: dlbench.StudyResult
) -> None:
    trial = copy.trials[0]
    assert trial.load().trial == trial.trial
    damage(trial.folder)
    for asked in (trial, trial.folder):
        with pytest.raises(dlbench.StoreError, match="is damaged"):
            dlbench.load(asked)


def test_batch_statistics_are_part_of_the_digest(tmp_path: Path) -> None:
    study = dlbench.grid(model="Stabilized", optimizer="sgd", **SMALL)  # a program of test_goldens.py
    (trial,) = dlbench.run(study, out=tmp_path / "s")
    made = artifacts.read(trial.folder)
    assert any("batch_stats" in name for name in made)
    assert checkpoint_digest(made) == trial.best_params_sha256
    assert audit(tmp_path / "s") == []


def test_bytes_that_have_changed_in_the_cache_are_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_result: dlbench.StudyResult
) -> None:
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path / "cache"))
    shipped = data.load("mnist5k")
    own = data.from_arrays(
        "own",
        shipped.train_images[:600],
        shipped.train_labels[:600],
        shipped.test_images,
        shipped.test_labels,
    )
    reference = data.register(own)
    for dataset in (shipped, own):
        path = cache.entry_path(dataset.name, dataset.digest) / "train_images.npy"
        content = bytearray(path.read_bytes())
        content[-1000:] = bytes(1000)
        path.write_bytes(content)
    study = dlbench.grid(dataset=["mnist5k", reference], learning_rate=1e-3, seed=0, **SMALL)
    built_in, registered = dlbench.run(study, out=tmp_path / "s", workers=1)
    assert built_in.params_sha256 == small_result.trials[0].params_sha256, "it is prepared anew"
    assert registered.status is TrialStatus.FAILED
    assert "is missing from the cache" in (registered.error or "")
