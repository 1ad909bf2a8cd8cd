"""Networks on the same test images: what is read from a study, and what McNemar's test says of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from test_report import study

import dlbench
from dlbench import report, stats
from dlbench.analysis.answers import correct_answers
from dlbench.analysis.comparison import compare_models
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
    assert said.points == ("Stabilized against Baseline: fewer errors in 1 of 3 seeds, more in 1",)
    assert "about these networks, not about the models" in said.lead
    lost = {trial.id: answers[trial.id] for trial in found if trial.seed != 2}
    assert compare_on_same_images(comparison, lost) == (SameImages("Stabilized", "Baseline", 1, 0, 2),)
    assert report.study_report(found).same_images == []


def test_a_grid_is_not_compared() -> None:
    found = study(lambda spec: 0.9, learning_rate=[0.1, 0.2])
    answers = {trial.id: np.ones(9, dtype=bool) for trial in found}
    assert report.study_report(found, answers).same_images == []
