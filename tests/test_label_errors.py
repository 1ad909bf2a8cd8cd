"""Likely label errors by cross-validation, and corrections made of them; against cleanlab."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import dlbench
from dlbench.analysis import label_errors as module
from dlbench.analysis.calibration import probabilities
from dlbench.analysis.configurations import configurations
from dlbench.analysis.label_errors import LabelErrors, label_errors
from dlbench.analysis.predictions import Predictions, validation_of
from dlbench.data.cleaned import cleaned
from dlbench.data.splits import make_folds
from dlbench.errors import InputError
from dlbench.records import Outcome
from dlbench.report.data_quality import corrections, label_errors_record, label_errors_report
from dlbench.report.tables import to_markdown

NAMES = ("cat", "dog", "eel")
#: Training images and test images whose labels are wrong, by their true class.
WRONG = {"train": {4: 2, 7: 2, 50: 0, 53: 0}, "test": {7: 2}}


@pytest.fixture(scope="module")
def data() -> dlbench.Dataset:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (180, 2, 2, 1), dtype=np.uint8)
    labels = {"train": np.arange(120) % 3, "test": np.arange(60) % 3}
    for half, wrong in WRONG.items():
        for index, true in wrong.items():
            assert labels[half][index] != true
    return dlbench.from_arrays(
        "pets", images[:120], labels["train"], images[120:], labels["test"], class_names=NAMES
    )


def truth(dataset: dlbench.Dataset, half: str) -> np.ndarray:
    true = np.array(getattr(dataset, f"{half}_labels"))
    true[[*WRONG[half]]] = [*WRONG[half].values()]
    return true


def predictions(dataset: dlbench.Dataset, folder: Path, folds: int | None = 3) -> Predictions:
    """What six networks, three folds with two seeds, say of images: the true class, by a margin that varies."""
    generator = np.random.default_rng(1)

    def logits(half: str, indices: np.ndarray) -> np.ndarray:
        sure = (
            np.where(np.isin(indices, [*WRONG[half]]), 8, 6)[:, None]
            * np.eye(3)[truth(dataset, half)[indices]]
        )
        return (generator.normal(0, 0.3, sure.shape) + sure).astype(np.float32)

    trials = []
    for seed in (0, 1):
        splits = make_folds(dataset.train_labels, 3, 120, seed)
        for fold in range(3):
            spec = dlbench.TrialSpec(
                dataset=dataset.reference, train_size=80, val_size=40, seed=seed, split_seed=seed, folds=folds
            ).model_copy(update={"fold": fold if folds else 0})
            trial = dlbench.TrialResult(
                dlbench.Trial(spec=spec, data_digest=dataset.digest),
                dlbench.TrialStatus.COMPLETE,
                Outcome(metrics={"val/accuracy": 1.0}),
                study_dir=folder,
            )
            trial.folder.mkdir(parents=True, exist_ok=True)
            np.save(trial.folder / "val_logits.npy", logits("train", splits[fold].val_indices))
            trials.append(trial)
    tested = np.stack([logits("test", np.arange(60)) for _ in trials])
    (group, *_) = configurations(trials)
    return Predictions(group, tuple(trials), tested, np.asarray(dataset.test_labels), NAMES, dataset)


@pytest.fixture(scope="module")
def found(data: dlbench.Dataset, tmp_path_factory: pytest.TempPathFactory) -> LabelErrors:
    pytest.importorskip("cleanlab")
    return label_errors(predictions(data, tmp_path_factory.mktemp("pets")), "lr 0.001", data)


def test_validation_logits_of_a_fold_are_those_of_its_images(data: dlbench.Dataset, tmp_path: Path) -> None:
    for trial in predictions(data, tmp_path).trials:
        logits, labels = validation_of(trial, data)
        indices = make_folds(data.train_labels, 3, 120, trial.seed)[trial.fold].val_indices
        assert labels.tolist() == data.train_labels[indices].tolist()
        assert (logits.argmax(1) == truth(data, "train")[indices]).all()


def test_planted_errors_are_found_in_both_halves(found: LabelErrors) -> None:
    assert found.num_checked == {"train": 120, "test": 60}
    for half, wrong in WRONG.items():
        assert {each.index: each.suggested for each in found.found[half]} == wrong
        chances = [each.probability for each in found.found[half]]
        assert chances == sorted(chances)
        assert max(chances) < 0.2


def test_they_are_those_of_cleanlab(data: dlbench.Dataset, found: LabelErrors, tmp_path: Path) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    made = predictions(data, tmp_path)
    mean = np.zeros((120, 3))
    for trial in made.trials:
        indices = make_folds(data.train_labels, 3, 120, trial.seed)[trial.fold].val_indices
        mean[indices] += probabilities(np.load(trial.folder / "val_logits.npy")) / 2
    expected = cleanlab.find_label_issues(data.train_labels, mean, return_indices_ranked_by="self_confidence")
    assert [each.index for each in found.found["train"]] == expected.tolist()
    assert [each.probability for each in found.found["train"]] == pytest.approx(
        [mean[n, data.train_labels[n]] for n in expected]
    )


def test_a_file_of_corrections_is_made_edited_and_applied(
    data: dlbench.Dataset, found: LabelErrors, tmp_path: Path
) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(corrections(found, NAMES))
    left_out = cleaned(data, {"corrections": str(path)})
    assert (len(left_out.train_labels), len(left_out.test_labels)) == (116, 59)
    rows = [*csv.DictReader(path.open())]
    with path.open("w") as file:
        writer = csv.DictWriter(file, [*rows[0]])
        writer.writeheader()
        writer.writerows({**row, "label": row["suggested"]} for row in rows)
    mended = cleaned(data, {"corrections": str(path)})
    assert (mended.train_labels == truth(data, "train")).all()
    assert (mended.test_labels == truth(data, "test")).all()


def test_the_report_and_the_record_name_classes(found: LabelErrors) -> None:
    text = to_markdown(label_errors_report(found, NAMES))
    assert "4 of 120 training images (3.33 %), by 6 networks of lr 0.001" in text
    record = json.loads(json.dumps(label_errors_record(found, NAMES)))
    assert {each["index"]: (each["label"], each["suggested"]) for each in record["found"]["train"]} == {
        4: ("dog", "eel"),
        7: ("dog", "eel"),
        50: ("eel", "cat"),
        53: ("eel", "cat"),
    }


def test_what_is_needed_is_said(
    data: dlbench.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = predictions(data, tmp_path)
    whole = dataclasses.replace(
        made.trials[0],
        trial=dlbench.Trial(
            spec=made.trials[0].trial.spec.model_copy(update={"folds": None}), data_digest=data.digest
        ),
    )
    with pytest.raises(InputError, match="this study has one split"):
        label_errors(dataclasses.replace(made, trials=(whole,)), "", data)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs cleanlab.*pip install 'dlbench\[quality\]'"):
        label_errors(made, "", data)
