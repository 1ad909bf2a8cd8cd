"""What the accuracy hides, read from stored predictions, against scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from test_cli import Cli, cli  # noqa: F401

import dlbench
from dlbench.analysis.by_class import ranks
from dlbench.errors import StoreError
from dlbench.stats.crossed import crossed_interval, crossed_intervals, resample_weights


@pytest.fixture(scope="module")
def found(small_result: dlbench.StudyResult) -> dlbench.StudyResult:
    return small_result


def test_scores_by_class_are_those_of_scikit_learn(found: dlbench.StudyResult) -> None:
    scored = found.by_class()
    assert {*scored} == {"lr 0.01", "lr 0.001"}
    for each in scored.values():
        logits, labels = each.predictions.logits, each.predictions.labels
        expected = [
            metrics.precision_recall_fscore_support(labels, one.argmax(1), labels=range(10), zero_division=0)
            for one in logits
        ]
        for place, name in enumerate(("precision", "recall", "f1")):
            mean = np.mean([one[place] for one in expected], axis=0)
            assert [getattr(c, name).estimate for c in each.classes] == pytest.approx(mean)
            assert each.macro[name].estimate == pytest.approx(mean.mean())
        assert [c.support for c in each.classes] == expected[0][3].tolist()
        tops = {
            k: np.mean([metrics.top_k_accuracy_score(labels, o, k=k) for o in logits]) for k in (1, 2, 3, 5)
        }
        assert {k: interval.estimate for k, interval in each.top_k.items()} == pytest.approx(tops)
        matrices = [metrics.confusion_matrix(labels, one.argmax(1), labels=range(10)) for one in logits]
        assert each.confusion.tolist() == np.sum(matrices, axis=0).tolist()
        assert each.top_k[1].estimate == pytest.approx(
            np.mean([trial.test_accuracy for trial in each.predictions.trials])
        )


def test_equal_logits_are_ranked_as_argmax_answers() -> None:
    logits = np.zeros((1, 3, 3), np.float32)
    assert ranks(logits, np.array([0, 1, 2])).tolist() == [[0, 1, 2]]


def test_the_interval_has_both_sources_and_covers_the_truth() -> None:
    generator = np.random.default_rng(1)
    covered, draws, seeds, images = 0, 300, 4, 60
    weights = resample_weights(images, 60)
    for _ in range(draws):
        values = 0.5 + generator.normal(0, 0.1, (seeds, 1)) + generator.normal(0, 0.4, images)
        interval = crossed_interval(values.mean(1), (weights @ values.T / images).mean(1), images)
        covered += interval.low <= 0.5 <= interval.high
    assert 0.92 <= covered / draws <= 0.99

    def constant(weights: np.ndarray) -> np.ndarray:
        return np.ones((len(weights), 2, 1))

    (same,) = crossed_intervals(constant, 5)
    assert (same.low, same.estimate, same.high) == (1, 1, 1)


def test_one_seed_says_that_only_images_vary() -> None:
    interval = crossed_interval([0.5], [0.4, 0.5, 0.6], 100)
    assert interval.method == "Student t over images"
    assert interval.low < 0.5 < interval.high


def test_the_command_shows_classes_and_prints_json(
    found: dlbench.StudyResult,
    cli: Cli,  # noqa: F811
) -> None:
    shown = cli("results", str(found.folder), "--by", "class").out
    assert "By class: lr 0.01" in shown
    assert "true \\ predicted" in shown
    record = json.loads(
        cli("results", str(found.folder), "--by", "class", "--json", "--filter", "lr=0.01").out
    )
    (one,) = record["by_class"]
    assert one["classes"][3]["recall"] == one["classes"][3]["accuracy"]
    assert sum(each["support"] for each in one["classes"]) == one["num_images"] == 1000
    refused = cli("results", str(found.folder), "--by", "class", "--format", "csv")
    assert refused.code == 2
    assert "--format csv holds one table" in refused.err


def test_missing_and_torn_predictions_are_named(found: dlbench.StudyResult, tmp_path: Path) -> None:
    import dataclasses

    moved = dataclasses.replace(
        found, trials=tuple(dataclasses.replace(trial, study_dir=tmp_path) for trial in found.trials)
    )
    with pytest.raises(StoreError, match=r"has no file test_logits.npy; train the study again"):
        moved.by_class()
    for trial in moved.trials:
        trial.folder.mkdir(parents=True)
        np.save(trial.folder / "test_logits.npy", np.full((1000, 10), np.nan, np.float32))
    with pytest.raises(StoreError, match="is damaged"):
        moved.by_class()
