"""Cross-validation: folds of data, their trials, the corrected test, and what reports say of them."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
from conftest import SMALL, made_up
from hypothesis import given
from hypothesis import strategies as st

import dlbench
from dlbench import report, stats
from dlbench.analysis.claims import Verdict, judge
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import configurations
from dlbench.data import make_folds
from dlbench.errors import InputError, SpecError
from dlbench.spec.claims import Claim, Selection
from dlbench.spec.designs import expand
from dlbench.spec.trial import TrialSpec
from dlbench.studies import planning

FOLDED: dict[str, Any] = {"train_size": 108, "folds": 3, "batch_size": 16, "num_epochs": 1}
# What `CorrelatedTTest.compute_statistics` of baycomp 1.0 finds of ten folds: the mean, its variance, the p-value.
FOLDS_A = [0.941, 0.849, 0.908, 0.889, 0.891, 0.896, 0.86, 0.895, 0.883, 0.966]
FOLDS_B = [0.928, 0.843, 0.901, 0.887, 0.894, 0.891, 0.844, 0.888, 0.862, 0.958]
BAYCOMP = (0.0082, 1.007703703703703e-05, 0.029544203851494033)


@given(
    st.lists(st.integers(0, 6), min_size=4, max_size=120), st.integers(2, 9), st.integers(0, 99), st.data()
)
def test_folds_divide_the_images_and_every_class(labels: list[int], folds: int, seed: int, data: Any) -> None:
    folds = min(folds, len(labels))
    size = folds * data.draw(st.integers(1, len(labels) // folds))
    array = np.array(labels, np.int32)
    found = make_folds(array, folds, size, seed)
    held_out = np.concatenate([split.val_indices for split in found])
    assert len(found) == folds
    assert len(np.unique(held_out)) == len(held_out) == size
    counts = [np.bincount(array[split.val_indices], minlength=7) for split in found]
    assert np.ptp(counts, axis=0).max() <= 1
    for split in found:
        assert len(split.val_indices) == size // folds
        assert np.array_equal(np.union1d(split.train_indices, split.val_indices), np.sort(held_out))
        assert len(split.train_indices) == size - size // folds
        assert (np.diff(split.train_indices) > 0).all()
    assert make_folds(array, folds, size, seed) == found


def test_another_seed_makes_other_folds() -> None:
    labels = np.arange(200, dtype=np.int32) % 10
    one, other = (make_folds(labels, 5, 200, seed) for seed in (0, 1))
    assert len({split.digest for split in (*one, *other)}) == 10


@pytest.mark.parametrize(
    ("folds", "size", "seed"), [(1, 10, 0), (3, 10, 0), (5, 20, 0), (2, 0, 0), (2, 10, -1)]
)
def test_folds_that_do_not_exist(folds: int, size: int, seed: int) -> None:
    with pytest.raises(SpecError):
        make_folds(np.zeros(12, np.int32), folds, size, seed)


def test_all_folds_and_seeds_share_one_program() -> None:
    study = dlbench.grid(seeds=2, **FOLDED)
    planned = planning.plan(study)
    specs = [trial.spec for trial in planned.trials]
    assert len(planned.programs) == 1
    assert {(spec.train_size, spec.val_size) for spec in specs} == {(72, 36)}
    assert sorted((spec.seed, spec.split_seed, spec.fold) for spec in specs) == [
        (seed, seed, fold) for seed in range(2) for fold in range(3)
    ]
    again = planning.plan(study.model_copy(update={"trials": tuple(specs)}))
    assert again.trials == planned.trials, "what is resolved stays so"


def test_some_folds_and_the_whole_training_half() -> None:
    (trial,) = planning.plan(dlbench.grid(folds=7, fold=6)).trials
    assert (trial.spec.fold, trial.spec.train_size, trial.spec.val_size) == (6, 3426, 571)  # of 4,000 images


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"folds": 3, "val_size": 10}, "leave out val_size"),
        ({"folds": [3, 4]}, "folds is one number"),
        ({"folds": 1}, "folds must be"),
        ({"folds": 3, "fold": 3, "train_size": 90}, "fold must be 0 to 2"),
        ({"fold": 1}, "has no effect without folds"),
        ({"folds": 3, "train_size": 100}, "no multiple of folds 3.*take 99"),
        ({"folds": 3, "train_size": 6000}, "6,000 images are to be folded.*4,000"),
    ],
)
def test_what_cannot_be_folded(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        planning.plan(dlbench.grid(**fields))
    with pytest.raises(SpecError, match="design single has one trial"):
        expand({"folds": 3}, "single")
    with pytest.raises(SpecError, match="val_size 10 contradicts folds 3"):
        planning.plan(dlbench.StudySpec(trials=(TrialSpec(folds=3, train_size=90, val_size=10),)))


def test_the_corrected_test_against_baycomp_and_the_formula() -> None:
    found = stats.corrected_comparison(FOLDS_A, FOLDS_B, 1 / 9)
    mean, variance, p_value = BAYCOMP
    assert found.difference.estimate == pytest.approx(mean)
    assert found.p_value == pytest.approx(p_value)
    bounds = scipy.stats.t.interval(0.95, 9, mean, math.sqrt(variance))
    assert (found.difference.low, found.difference.high) == pytest.approx(bounds)
    assert found.test == "corrected t"
    assert found.difference.is_corrected


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=9), st.floats(0.01, 2))
def test_without_overlap_it_is_the_paired_test_and_with_it_wider(
    pairs: list[tuple[float, float]], overlap: float
) -> None:
    a, b = zip(*pairs, strict=True)
    plain = stats.paired_comparison(a, b)
    assert stats.corrected_comparison(a, b, 0) == plain
    wider = stats.corrected_comparison(a, b, overlap)
    assert wider.p_value >= plain.p_value or plain.test == "wilcoxon"
    assert wider.difference.high - wider.difference.low >= plain.difference.high - plain.difference.low
    assert stats.corrected_interval(a, 0) == stats.mean_interval(a)


def test_equal_differences_show_nothing_with_overlap() -> None:
    assert math.isnan(stats.corrected_comparison([0.5, 0.75], [0.25, 0.5], 0.25).p_value)
    assert stats.corrected_comparison([0.5, 0.75], [0.5, 0.75], 0.25).p_value == 1
    assert math.isnan(stats.corrected_interval([0.5], 0.25).low)
    for overlap in (-0.1, math.inf, math.nan):
        with pytest.raises(InputError, match="overlap"):
            stats.corrected_interval([0.5, 0.6], overlap)


@pytest.mark.slow
def test_error_rate_of_two_equal_classifiers_over_repeated_folds() -> None:
    """Nearest-mean classifiers on two equally good features, five folds repeated four times."""

    def accuracies(rng: np.random.Generator) -> np.ndarray[Any, Any]:
        labels = np.arange(100) % 2
        features, values = rng.normal(size=(100, 2)) + 0.5 * labels[:, None], []
        for _ in range(4):
            shuffled = rng.permutation(100)
            for fold in range(5):
                held_out = np.arange(100) % 5 == fold
                train, test = shuffled[~held_out], shuffled[held_out]
                low, high = (features[train[labels[train] == label]].mean(axis=0) for label in (0, 1))
                predicted = abs(features[test] - high) < abs(features[test] - low)
                values.append((predicted == labels[test][:, None]).mean(axis=0))
        return np.array(values)

    found = [accuracies(np.random.default_rng(seed)) for seed in range(2000)]
    plain = np.mean([stats.paired_comparison(*values.T).p_value <= 0.05 for values in found])
    corrected = np.mean([stats.corrected_comparison(*values.T, 1 / 4).p_value <= 0.05 for values in found])
    assert plain > 0.25, "what the correction is for"
    assert corrected < 0.06


@pytest.fixture(scope="module")
def compared() -> dlbench.StudyResult:
    """Two models over three folds and two seeds, with made-up accuracies."""

    def accuracy(spec: TrialSpec) -> float:
        high = 0.1 * (spec.model == "Stabilized")
        return 0.8 + high + 0.01 * ((7 * spec.fold + 3 * spec.seed) % 5) * (1 + high)

    return made_up(dlbench.compare(model=["baseline", "stabilized"], seeds=2, **FOLDED), accuracy)


def test_intervals_and_comparisons_of_folds_are_corrected(compared: dlbench.StudyResult) -> None:
    first, second = configurations(compared.trials)
    assert first.overlap == 1 / 2
    summary = first.summary("val/accuracy")
    assert summary
    assert len(summary.values) == 6
    assert summary.interval == stats.corrected_interval(summary.values, 1 / 2)
    found = compare_models(compared)
    assert found.metric == "val/accuracy"
    assert found.ranking
    (pair,) = found.ranking.comparisons
    a, b = (tuple(group.by_seed("val/accuracy").values()) for group in (first, second))
    assert pair.comparison == stats.corrected_comparison(a, b, 1 / 2)
    assert found.winner == "Stabilized"
    better, than = (Selection((("model", (name,)),)) for name in ("Stabilized", "Baseline"))
    (judged,) = judge([Claim("better", better, than)], compared.trials).judgements
    assert judged.comparison
    assert (judged.verdict, judged.comparison.test) == (Verdict.HOLDS, "corrected t")
    (spread,) = judge([Claim("varies more", better, than, True)], compared.trials).judgements
    assert spread.comparison
    assert math.isnan(spread.comparison.p_value), "folds are not independent"
    assert spread.verdict is Verdict.OPEN


def test_reports_say_what_varies_and_which_interval(compared: dlbench.StudyResult) -> None:
    text = report.to_markdown(report.study_report(compared).parts)
    for words in (
        "Architectures by cross-validated accuracy",
        "folds 3",
        "Means over folds and seeds ± their 95 % intervals, corrected",
        "Nadeau and Bengio, 2003",
        "paired by seed and fold, corrected resampled t tests",
    ):
        assert words in text
    grid = dataclasses.replace(compared, spec=compared.spec.model_copy(update={"design": "grid"}))
    text = report.to_markdown(report.study_report(grid).parts)
    assert "6 trials (seeds and folds)" in text
    assert "corrected resampled t tests, Holm's correction" in text
    assert "bootstrap" not in text


@pytest.mark.slow
def test_each_trial_validates_on_its_own_fold(tmp_path: Any) -> None:
    result = dlbench.run(dlbench.grid(seeds=2, **FOLDED), out=tmp_path / "folds", workers=1)
    labels = dlbench.data.load("mnist5k").train_labels
    assert {(trial.seed, trial.fold): trial.split_digest for trial in result} == {
        (seed, fold): split.digest
        for seed in range(2)
        for fold, split in enumerate(make_folds(labels, 3, 108, seed))
    }
    assert (SMALL["train_size"], result.trials[0].train_size) == (72, 72)
    assert dlbench.open_study(tmp_path / "folds").spec.as_asked().trials[0].split_seed is None
