"""Networks on the same test images: what is read from a study, and what McNemar's test says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from test_report import study

import dlbench
from dlbench import report, stats
from dlbench.analysis.answers import correct_answers, right_counts
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import configurations
from dlbench.analysis.datasets import over_datasets
from dlbench.analysis.same_images import SameImages, compare_on_same_images
from dlbench.studies.result import StudyResult


def test_the_answers_of_a_trial_make_up_its_accuracy(small_result: dlbench.StudyResult) -> None:
    answers = correct_answers(small_result)
    assert {*answers} == {trial.id for trial in small_result}
    for trial in small_result:
        assert answers[trial.id].mean() == trial.test_accuracy


def test_what_is_not_at_hand_is_left_out(small_result: dlbench.StudyResult, tmp_path: Path) -> None:
    moved, other, torn, fine = small_result.trials
    moved = dataclasses.replace(moved, study_dir=tmp_path)
    other = dataclasses.replace(other, trial=other.trial.model_copy(update={"data_digest": "0" * 64}))
    torn = dataclasses.replace(torn, study_dir=tmp_path)
    torn.folder.mkdir(parents=True)
    (torn.folder / "test_logits.npy").write_bytes(b"\x93NUMPY")
    assert {*correct_answers([moved, other, torn, fine])} == {fine.id}


def test_images_are_counted_by_the_trials_that_are_right(small_result: dlbench.StudyResult) -> None:
    group = configurations(small_result)[0]
    counts = right_counts(group)
    assert len(counts) == len(group.trials) + 1
    accuracies = [trial.test_accuracy or 0.0 for trial in group.trials]
    assert sum(number * images for number, images in enumerate(counts)) == pytest.approx(
        sum(accuracies) * sum(counts)
    )
    away = dataclasses.replace(group.trials[0], study_dir=None)
    assert right_counts(dataclasses.replace(group, trials=(away, *group.trials[1:]))) == ()


def answered(found: StudyResult, right: dict[str, list[slice]]) -> dict[str, np.ndarray]:
    """Answers to 100 images: by model and seed, which of them are right."""
    answers = {}
    for trial in found:
        answers[trial.id] = np.zeros(100, dtype=bool)
        answers[trial.id][right[trial.trial.spec.model][trial.seed]] = True
    return answers


def test_each_seed_is_a_test_on_the_same_images() -> None:
    found = study(
        lambda spec: 0.9 + 0.01 * (spec.model == "Stabilized") + spec.seed / 1000,
        "compare-archs",
        model=["baseline", "stabilized"],
        seed=[0, 1, 2],
    )
    right = {
        "Stabilized": [slice(0, 90), slice(0, 90), slice(0, 80)],
        "Baseline": [slice(0, 80), slice(0, 88), slice(0, 90)],
    }
    assert stats.mcnemar([True] * 2 + [False] * 98, [False] * 100).p_value > 0.05, "two images settle nothing"
    answers = answered(found, right)
    comparison = compare_models(found)
    assert compare_on_same_images(comparison, answers) == (SameImages("Stabilized", "Baseline", 1, 1, 3),)
    (said,) = report.study_report(found, answers).same_images
    assert isinstance(said, report.Points)
    assert said.points == ("Stabilized against Baseline: fewer errors in 1 of 3 pairs, more in 1",)
    assert "about these networks, not about the models" in said.lead
    lost = {trial.id: answers[trial.id] for trial in found if trial.seed != 2}
    assert compare_on_same_images(comparison, lost) == (SameImages("Stabilized", "Baseline", 1, 0, 2),)
    assert report.study_report(found).same_images == []


def test_a_comparison_has_the_interval_that_counts_the_images_too() -> None:
    found = study(
        lambda spec: 0.9 + spec.seed / 1000, "compare-archs", model=["baseline", "stabilized"], seed=[0, 1, 2]
    )
    right = {
        "Stabilized": [slice(0, 90), slice(0, 92), slice(0, 91)],
        "Baseline": [slice(0, 80), slice(0, 88), slice(0, 90)],
    }
    answers = answered(found, right)
    (table,) = [
        part for part in report.study_report(found, answers).findings if isinstance(part, report.Table)
    ]
    place = [column.key for column in table.columns].index("two_way")
    own = next(row[place] for row in table.rows if "Stabilized" in row)
    alone = stats.wilson_interval(91, 100)
    assert own.estimate == pytest.approx(0.91)
    assert own.high - own.low == pytest.approx(alone.high - alone.low, rel=0.25), (
        "images vary more than seeds"
    )
    over_seeds = next(row[place - 1] for row in table.rows if "Stabilized" in row).interval
    assert own.high - own.low > over_seeds.high - over_seeds.low
    assert "of new images for new seeds" in table.caption
    del answers[found.trials[0].id]
    tables = [part for part in report.study_report(found, answers).findings if isinstance(part, report.Table)]
    assert sum(row[place] is None for row in tables[0].rows) == 1, "all seeds, or none"
    tables = [part for part in report.study_report(found).findings if isinstance(part, report.Table)]
    assert "two_way" not in [column.key for column in tables[0].columns]


def test_several_data_sets_are_compared_together() -> None:
    level = {"mnist": 0.97, "fashion_mnist": 0.9, "mnist5k": 0.95}
    lead = {"Stabilized": 0.02, "Baseline": 0.0, "Modernist": 0.001}
    found = study(
        lambda spec: level[spec.dataset] + lead[spec.model] + spec.seed / 1000,
        "compare-archs",
        model=list(lead),
        dataset=list(level),
        seed=[0, 1, 2],
    )
    over = over_datasets(found.trials)
    assert over is not None
    assert [*over.ranks.ranks] == ["Stabilized", "Modernist", "Baseline"]
    assert over.ranks.ranks["Stabilized"].estimate == 1
    assert over.improvements["Baseline"].estimate == 1
    assert over.profiles["Stabilized"].shares == (1, 1, 1, 1)
    assert over.profiles["Baseline"].shares[0] == 0
    parts = report.study_report(found).findings
    table = next(
        part for part in parts if isinstance(part, report.Table) and part.title == "Over all data sets"
    )
    assert table.texts()[0][:3] == ["Stabilized", "1.00 [1.00, 1.00]", "-"]
    assert table.texts()[2][2] == "1.00 [1.00, 1.00]"
    assert any("Over data sets, Stabilized" in str(part) for part in parts)
    one = [trial for trial in found.trials if trial.dataset == "mnist"]
    assert over_datasets(one) is None
    lacking = [trial for trial in found.trials if (trial.dataset, trial.model) != ("mnist", "Baseline")]
    assert over_datasets(lacking) is None


def test_a_grid_is_not_compared() -> None:
    found = study(lambda spec: 0.9, learning_rate=[0.1, 0.2])
    answers = {trial.id: np.ones(9, dtype=bool) for trial in found}
    assert report.study_report(found, answers).same_images == []
