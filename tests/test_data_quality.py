"""Checks of a data set: what is planted is found, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score
from test_cli import Cli, cli  # noqa: F401

import dlbench
from dlbench.data.cleaned import cleaned
from dlbench.data.quality import Group, check_quality, delong, num_shared, small
from dlbench.errors import DataError
from dlbench.execution import messages
from dlbench.report import to_markdown
from dlbench.report.data_quality import quality_report, quality_words

SHAPE = (12, 12, 3)


def dataset(shift: float = 0.0) -> dlbench.Dataset:
    """300 + 200 images, among them two constant ones, three equal ones, a label conflict and a near-duplicate."""
    generator = np.random.default_rng(0)
    train = generator.integers(0, 200, (300, *SHAPE), dtype=np.uint8)
    test = (generator.integers(0, 200, (200, *SHAPE)) + shift).astype(np.uint8)
    train_labels, test_labels = np.arange(300) % 2, np.arange(200) % 2
    train[7], test[9] = 0, 255
    test[3] = test[5] = train[1]
    train[20], train_labels[20], train_labels[11] = train[11], 0, 1
    test[50] = train[60] + generator.integers(0, 2, SHAPE, dtype=np.uint8)
    return dlbench.from_arrays("planted", train, train_labels, test, test_labels, class_names=("cat", "dog"))


def test_what_is_planted_is_found() -> None:
    found = check_quality(dataset())
    assert found.constant == (("train", 7), ("test", 9))
    shared = Group((("train", 1), ("test", 3), ("test", 5)), (1, 1, 1))
    conflict = Group((("train", 11), ("train", 20)), (1, 0))
    assert found.duplicates == (shared, conflict)
    assert (found.shared, found.conflicts) == ((shared,), (conflict,))
    assert [group.places for group in found.near_duplicates] == [(("train", 60), ("test", 50))]
    assert (found.train_counts, found.test_counts) == ((150, 150), (100, 100))
    assert (found.imbalance, found.value_range, found.compared) == (1.0, (0, 255), 500)
    low, high = found.shift_interval
    assert low < 0.5 < high
    (said, near) = quality_words(found)
    assert said.startswith("2 test images of 200 are identical to training images")
    assert near.startswith("Near-duplicates are pairs")


def test_a_shift_between_the_halves_is_seen() -> None:
    found = check_quality(dataset(shift=20))
    assert found.shift_auc > 0.9
    assert any("A classifier distinguishes" in words for words in quality_words(found))


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    positive, negative = generator.integers(0, 9, 80) + 1.0, generator.integers(0, 9, 60) + 0.0
    area, (low, high) = delong(positive, negative)
    truth = [1] * 80 + [0] * 60
    assert area == pytest.approx(roc_auc_score(truth, np.concatenate([positive, negative])))
    draws = [
        roc_auc_score(truth, np.concatenate([generator.choice(positive, 80), generator.choice(negative, 60)]))
        for _ in range(150)
    ]
    assert (high - low) / 2 == pytest.approx(1.96 * np.std(draws), rel=0.2)


def test_small_pictures_are_means_of_blocks() -> None:
    images = np.arange(16 * 16, dtype=np.uint8).reshape(1, 16, 16, 1)
    expected = images[0, :, :, 0].astype(float).reshape(8, 2, 8, 2).mean((1, 3))
    assert small(images).reshape(8, 8).tolist() == expected.tolist()
    assert small(images[:, :3, :5]).shape == (1, 15)


def test_the_command_shows_and_prints_json(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    reference = dlbench.data.register(dataset())
    shown = cli("data", "check", reference).out
    assert "Duplicates across the halves:\n  train 1 (label 1), test 3 (label 1), test 5 (label 1)" in shown
    record = json.loads(cli("data", "check", reference, "--json").out)
    assert (record["num_shared"], record["num_conflicts"]) == (1, 1)
    assert record["near_duplicates"][0]["places"] == [["train", 60], ["test", 50]]
    assert cli("data", "check", reference, "--html", str(tmp_path / "check.html")).code == 0
    page = (tmp_path / "check.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    for words in ("Duplicates in both halves", "Duplicates with different labels", "train 60: cat"):
        assert words in page
    Path("mine.csv").write_text("mine")
    refused = cli("data", "check", reference, "--study", "s", "--out", "mine.csv")
    assert (refused.code, "--out mine.csv already exists; choose another name" in refused.err) == (2, True)
    refused = cli("data", "check", reference, "--out", "labels.csv")
    assert (refused.code, "--out needs --study" in refused.err) == (2, True)


def test_files_that_cannot_be_read_are_listed_and_the_others_checked(cli: Cli) -> None:  # noqa: F811
    rows = ["file_name,camera"]
    for place, number in ((place, number) for place in "ab" for number in range(8)):
        path = Path("pictures", place, f"{number}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 16 * number + ord(place), np.uint8)).save(path)
        rows.append(f"{place}/{number}.png,{number % 2}")
    Path("pictures/a/2.png").write_bytes(b"")
    Path("pictures/a/link.png").symlink_to("nowhere")
    os.mkfifo("pictures/b/pipe.png")
    rows += ["a/link.png,0", "b/pipe.png,0", "b/lost.png,0"]
    Path("pictures/metadata.csv").write_text("\n".join(rows))
    shown = cli("data", "check", "folder:pictures")
    assert shown.code == 1
    for words in (
        "pictures/a/2.png cannot be decoded (it is in no format that Pillow reads)",
        "pictures/a/link.png cannot be decoded",
        "pictures/b/pipe.png cannot be decoded (pictures/b/pipe.png is not a regular file)",
        "pictures/b/lost.png is missing; pictures/metadata.csv names it",
    ):
        assert words in shown.out
    record = json.loads(cli("data", "check", "folder:pictures", "--json").out)
    assert len(record["unreadable"]) == 4
    assert record["num_train"] + record["num_test"] == 15
    assert len(record["constant"]) == 15
    refused = cli("train", "--dataset", "folder:pictures")
    assert (refused.code, "cannot be decoded" in refused.err, "remove it" in refused.err) == (2, True, True)
    for name in ("a/2.png", "a/link.png", "b/pipe.png"):
        Path("pictures", name).unlink()
    once_more = json.loads(cli("data", "check", "folder:pictures", "--json").out)
    assert list(once_more["unreadable"]) == [
        "pictures/a/2.png",
        "pictures/a/link.png",
        "pictures/b/pipe.png",
        "pictures/b/lost.png",
    ]


def test_training_says_that_test_images_are_trained_on(tmp_path: Path, cache: Path) -> None:
    made = dataset()
    dlbench.data.register(made)
    assert num_shared(made) == 2
    (kept,) = [path for path in (cache / "checks").glob("*.json") if path.stem == made.digest[:32]]
    assert json.loads(kept.read_text()) == {"num_shared": 2}
    said: list[str] = []

    class Enough(Exception):  # noqa: N818
        pass

    def on_event(event: object) -> None:
        if isinstance(event, messages.Notice):
            said.append(event.text)
            raise Enough

    study = dlbench.grid(model="linear", dataset=made.reference, num_epochs=1, val_size=20)
    with pytest.raises(Enough):
        dlbench.run(study, workers=1, out=tmp_path / "s", on_event=on_event)
    assert said == [
        "2 of the 200 test images of 'planted' are training images as well, so test accuracies are biased upwards "
        "(its argument drop_duplicates leaves them out)"
    ]


def test_numbers_as_targets_have_no_classes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, *SHAPE), dtype=np.uint8)
    images[3] = images[30]
    targets = np.linspace(-1, 1, 40)
    found = check_quality(dlbench.from_arrays("angles", images[:20], targets[:20], images[20:], targets[20:]))
    assert found.class_names == found.train_counts == ()
    assert found.shared[0].labels == pytest.approx((targets[3], targets[30]))
    said = to_markdown(quality_report(found))
    assert "imbalance" not in said
    assert "train 3 (label -0.846154), test 10 (label 0.538462)" in said


def test_duplicates_are_dropped_from_the_training_half() -> None:
    made = dataset()
    after = cleaned(made, {"drop_duplicates": True})
    left_out = [1, 11, 20]  # one that the test half has, and two whose labels differ
    assert (after.train_images == np.delete(made.train_images, left_out, 0)).all()
    assert (after.train_labels == np.delete(made.train_labels, left_out)).all()
    assert (after.test_images == made.test_images).all()
    assert (after.name, num_shared(after)) == ("planted-cleaned", 0)
    assert after.source == "arrays; 3 duplicates dropped"
    assert cleaned(after, {"drop_duplicates": True}) is after


def test_corrections_of_a_file_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("half,index,label,why\ntrain,0,dog,a dog\ntest,7,0,\ntrain,299,,blurred\n")
    made = dataset()
    after = cleaned(made, {"corrections": str(path)})
    assert after.train_labels.tolist() == [1, *made.train_labels[1:299].tolist()]
    assert after.test_labels[7] == 0 != made.test_labels[7]
    assert after.source == "arrays; 2 labels changed and 1 images left out by labels.csv"
    dropped = cleaned(made, {"corrections": str(path), "drop_duplicates": True})
    assert len(dropped.train_labels) == 296
    path.write_text("half,index,label\ntest,7,\n")
    sliced = dataclasses.replace(made, slices={"number": np.arange(200).astype(str)})
    left = cleaned(sliced, {"corrections": str(path)}).slices["number"].tolist()
    assert left == [str(number) for number in range(200) if number != 7]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("half,index\n", "lacks the column label"),
        ("half,index,label\nval,0,cat\n", "line 2: the half must be train or test; got 'val'"),
        ("half,index,label\ntest,200,cat\n", "a number from 0 to 199"),
        ("half,index,label\ntest,0,cow\n", "a class of planted, by name or number"),
        ("half,index,label\ntest,0,1.5\n", "a class of planted, by name or number"),
    ],
)
def test_wrong_corrections_name_file_and_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=problem):
        cleaned(dataset(), {"corrections": str(path)})


def test_the_id_of_a_trial_tells_what_was_cleaned(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    reference = dlbench.data.register(dataset())
    flags = ("train", "--model", "linear", "--epochs", "1", "--val-size", "20", "--dry-run", "--json")

    def planned(*more: str) -> tuple[str, str]:
        (trial,) = json.loads(cli(*flags, "--dataset", *more).out)["trials"]
        return trial["id"], trial["dataset"]

    plain, _ = planned(reference)
    dropped, name = planned(reference, "--drop-duplicates")
    assert name.startswith("planted-cleaned@")
    assert planned(f"{reference}(drop_duplicates=True)") == (dropped, name)
    path = tmp_path / "labels.csv"
    path.write_text("half,index,label\ntrain,0,dog\n")
    corrected, _ = planned(reference, "--dataset.corrections", str(path))
    assert len({plain, dropped, corrected}) == 3
    path.write_text("half,index,label\ntrain,0,cat\n")  # what it is already
    assert planned(reference, "--dataset.corrections", str(path)) == (plain, reference)
