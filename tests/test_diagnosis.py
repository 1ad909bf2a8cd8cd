"""Diagnoses, computed from stored predictions, against scikit-learn."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve
from test_cli import Cli, cli  # noqa: F401
from test_completion import offered

import dlbench
from dlbench import data, stats
from dlbench.analysis.by_class import by_class, ranks
from dlbench.analysis.by_slice import by_slice, named_slices
from dlbench.analysis.calibration import (
    MEASURES,
    NUM_BINS,
    bins_of,
    measure,
    probabilities,
    reliability,
    temperature,
)
from dlbench.analysis.cost import accuracy_difference, costs_of
from dlbench.analysis.generalization import lowered_by
from dlbench.analysis.mistakes import Mistake, most_frequent
from dlbench.analysis.predictions import dataset_of, validation_of
from dlbench.analysis.robustness import robustness
from dlbench.data import splits
from dlbench.data.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from dlbench.data.occlusion import corners, occluded, occlusion_map
from dlbench.deploy.card import model_card
from dlbench.errors import InputError, StoreError, UnknownNameError
from dlbench.models.counts import Counts
from dlbench.report import Table, exports
from dlbench.report.diagnosis import by_slice_record, by_slice_report, fit_report, fit_words
from dlbench.report.figures.robustness import robustness_curves
from dlbench.report.folded import FOLDED_FILE
from dlbench.report.page import to_html
from dlbench.stats import mean_interval, wilson_interval
from dlbench.stats.crossed import (
    crossed_interval,
    crossed_intervals,
    crossed_mean,
    crossed_share,
    resample_weights,
)
from dlbench.studies.diagnosis import diagnose


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


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_has_both_sources_and_covers_the_truth(seeds: int) -> None:
    generator = np.random.default_rng(1)
    covered, draws, images = 0, 300, 60
    weights = resample_weights(images, 60)
    for _ in range(draws):
        values = 0.5 + generator.normal(0, 0.1, (seeds, 1)) + generator.normal(0, 0.4, images)
        over_seeds = stats.mean_interval(values.mean(1))
        interval = crossed_interval(over_seeds, (weights @ values.T / images).mean(1), images)
        covered += interval.low <= 0.5 <= interval.high
        assert interval.low <= over_seeds.low <= over_seeds.high <= interval.high
    assert 0.94 <= covered / draws <= 0.99

    def constant(weights: np.ndarray) -> np.ndarray:
        return np.ones((len(weights), 2, 1))

    (same,) = crossed_intervals(constant, 5)
    assert (same.low, same.estimate, same.high) == (1, 1, 1)


def test_intervals_of_shares_stay_within_0_and_1_and_have_a_width_there() -> None:
    right = np.ones((3, 20), np.float32)
    for share, ends in ((crossed_share(right), (0.839, 1.0)), (crossed_share(1 - right), (0.0, 0.161))):
        alone = wilson_interval(round(20 * share.estimate), 20)
        assert (share.low, share.high) == pytest.approx((alone.low, alone.high))
        assert (share.low, share.high) == pytest.approx(ends, abs=1e-3)
    generator = np.random.default_rng(0)
    covered = dict.fromkeys((0.6, 0.97), 0)
    for chance in covered:
        for _ in range(200):
            skill = np.clip(chance + generator.normal(0, 0.02, (4, 1)), 0, 1)
            share = crossed_share((generator.random((4, 50)) < skill).astype(np.float32))
            assert 0 <= share.low < share.estimate + 1e-9
            assert share.estimate - 1e-9 < share.high <= 1
            covered[chance] += share.low <= chance <= share.high
        assert covered[chance] >= 186
    many = (generator.random((5, 4000)) < 0.7).astype(np.float32)
    share, plain = crossed_share(many), crossed_mean(many)
    assert share.low <= plain.low < plain.high <= share.high
    assert (share.low, share.high) == pytest.approx((plain.low, plain.high), abs=2e-4)


def test_slices_without_errors_have_intervals(found: dlbench.StudyResult) -> None:
    first = next(iter(found.predictions().values()))
    logits = np.eye(10, dtype=np.float32)[np.stack([first.labels] * 2)]
    perfect = dataclasses.replace(first, logits=logits, trials=first.trials[:2])
    sliced = by_slice(perfect, first.labels % 2)
    for each in sliced.slices:
        assert (each.accuracy.estimate, each.accuracy.high) == (1, 1)
        assert each.accuracy.low == pytest.approx(wilson_interval(each.support, each.support).low)
    assert (sliced.gap.low, sliced.gap.estimate) == (0, 0)
    assert 0 < sliced.gap.high < 0.02
    for scores in by_class(perfect).classes:
        assert all(each.low < each.high == 1 for each in (scores.precision, scores.recall, scores.f1))


def test_one_seed_says_that_only_images_vary() -> None:
    interval = crossed_interval(stats.mean_interval([0.5]), [0.4, 0.5, 0.6], 100)
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
    moved = dataclasses.replace(
        found, trials=tuple(dataclasses.replace(trial, study_dir=tmp_path) for trial in found.trials)
    )
    with pytest.raises(StoreError, match=r"test_logits.npy; train the trial again with retry_failed"):
        moved.by_class()
    for trial in moved.trials:
        trial.folder.mkdir(parents=True)
        np.save(trial.folder / "test_logits.npy", np.full((1000, 10), np.nan, np.float32))
    with pytest.raises(StoreError, match="is damaged"):
        moved.by_class()


def test_validation_logits_are_those_of_the_best_epoch(found: dlbench.StudyResult) -> None:
    for trial in found:
        logits, labels = validation_of(trial, dataset_of(trial))
        assert logits.shape == (32, 10)
        assert (logits.argmax(1) == labels).mean() == pytest.approx(trial.best_val_accuracy)
        assert metrics.log_loss(labels, probabilities(logits), labels=range(10)) == pytest.approx(
            trial.best_val_loss, rel=1e-4
        )


def test_measures_are_those_of_scikit_learn(found: dlbench.StudyResult) -> None:
    for each in found.predictions().values():
        chances = probabilities(each.logits)
        ones = np.ones((1, len(each.labels)), np.float32)
        for seed, values in enumerate(measure(chances, each.labels, ones)[0]):
            got = dict(zip(MEASURES, values, strict=True))
            own = chances[seed]
            assert got["nll"] == pytest.approx(metrics.log_loss(each.labels, own, labels=range(10)))
            brier = metrics.brier_score_loss(each.labels, own, labels=range(10))
            assert got["brier"] == pytest.approx(brier)
            right = own.argmax(1) == each.labels
            errors = [by_curve(right, own.max(1))]
            errors += [np.mean([by_curve(each.labels == c, own[:, c]) for c in range(10)])]
            assert [got["ece"], got["classwise_ece"]] == pytest.approx(errors, abs=1e-6)


def by_curve(right: np.ndarray, sure: np.ndarray) -> float:
    """A calibration error from scikit-learn's curve, whose bins have no counts."""
    true, meant = calibration_curve(right, sure, n_bins=NUM_BINS)
    counts = np.bincount(np.digitize(sure, np.linspace(0, 1, NUM_BINS + 1)[1:-1]), minlength=NUM_BINS)
    return float((np.abs(true - meant) * counts[counts > 0]).sum() / len(sure))


def test_a_calibration_error_by_hand() -> None:
    chances = np.array([[[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]])
    labels = np.array([0, 1, 1, 1])
    values = measure(chances, labels, np.array([[1, 1, 1, 1], [0, 2, 1, 1]], np.float32))
    ece = [one[0][MEASURES.index("ece")] for one in values]
    assert ece == pytest.approx([(2 * abs(0.5 - 0.9) + 2 * abs(1 - 0.6)) / 4, (2 * 0.9 + 2 * 0.4) / 4])
    mass = [one[0][MEASURES.index("ece_equal_mass")] for one in values]
    assert mass == pytest.approx(ece)
    bins = [each for each in reliability(chances, labels) if each.count]
    assert [(each.count, each.accuracy) for each in bins] == [(2, 1.0), (2, 0.5)]


def test_bins_of_equal_mass_hold_equally_many() -> None:
    sure = np.random.default_rng(0).beta(5, 1, 1500)
    assert np.bincount(bins_of(sure, "mass")).tolist() == [100] * NUM_BINS


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again(true: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (4000, 10))
    labels = np.array([generator.choice(10, p=p) for p in probabilities(logits)])
    assert temperature((logits * true).astype(np.float32), labels) == pytest.approx(true, rel=0.06)


def test_calibration_before_and_after(found: dlbench.StudyResult) -> None:
    for each in found.calibration().values():
        assert each.problem == ""
        assert each.after is not None
        assert each.change is not None
        assert len(each.temperatures) == 2
        for name in MEASURES:
            difference = each.after[name].estimate - each.before[name].estimate
            assert each.change[name].estimate == pytest.approx(difference, abs=1e-9)


def test_older_studies_have_no_temperature(found: dlbench.StudyResult, tmp_path: Path, cli: Cli) -> None:  # noqa: F811
    folder = shutil.copytree(found.folder, tmp_path / "older")
    for path in folder.glob("trials/*/val_logits.npy"):
        path.unlink()
    shown = cli("diagnose", str(folder), "--show", "calibration").out
    assert "No temperature is fitted" in shown
    assert "earlier releases of dlbench did not keep;" in shown
    assert "with temperature" not in shown


def test_fit_and_cost_side_by_side(found: dlbench.StudyResult, cli: Cli) -> None:  # noqa: F811
    record = json.loads(cli("diagnose", str(found.folder), "--json").out)
    assert {*record} == {"study", "calibration", "fit", "cost", "slices"}
    assert record["slices"] == []
    for each in record["fit"]:
        trials = [trial for trial in found if trial.id in each["trials"]]
        best = [
            dlbench.open_study(found.folder).trials[found.trials.index(t)].history[t.best_epoch - 1]
            for t in trials
        ]
        train = np.mean([epoch.train_accuracy for epoch in best])
        assert each["train"]["estimate"] == pytest.approx(train)
        assert each["gap"]["estimate"] == pytest.approx(train - np.mean([t.test_accuracy for t in trials]))
        assert each["underfits"]
        assert any("(underfitting)" in words for words in each["words"])
    assert not any(each["lowered_by"] for each in record["fit"])
    costs = record["cost"]["configurations"]
    assert [each["parameters"] for each in costs] == [206922, 206922]
    assert all(each["flops"] > 1e6 for each in costs)
    images = 4000 * 28 * 28  # bytes of the training half, which stay on the device
    assert all(images < each["memory_bytes"] < 10 * images for each in costs)
    shown = cli("diagnose", str(found.folder)).out
    assert "Over- and underfitting" in shown
    refused = cli("diagnose", str(found.folder), "--show", "calibraton")
    assert (refused.code, "Did you mean 'calibration'?" in refused.err) == (2, True)


def test_a_low_running_accuracy_shows_underfitting_only_where_nothing_lowers_it(
    found: dlbench.StudyResult,
) -> None:
    fit = next(iter(found.fit().values()))

    def said(train: float, val: float, **settings: object) -> str:
        spec = dlbench.TrialSpec(**settings)
        group = dataclasses.replace(fit.predictions.configuration, spec=spec)
        made = dataclasses.replace(
            fit,
            predictions=dataclasses.replace(fit.predictions, configuration=group),
            train=mean_interval([train]),
            val=mean_interval([val]),
            gap=mean_interval([0.05] * 2),
            lowered_by=lowered_by(spec),
        )
        return "; ".join(fit_words(made))

    assert "(underfitting)" in said(0.8, 0.7)
    assert "underfit" not in said(0.8, 0.95)
    for model, settings, words in (
        ("Stabilized", {}, "dropout"),
        ("Baseline", {"dropout": 0.5, "mixup": 0.2}, "dropout and mixup"),
        ("Baseline", {"transform": "flip"}, "transforms"),
    ):
        low = said(0.8, 0.7, model=model, **settings)
        assert f"is lowered by {words}, so it does not show whether the network underfits" in low
    assert lowered_by(dlbench.TrialSpec(model="Stabilized(dropout_rate=0)")) == ()
    assert lowered_by(dlbench.TrialSpec(model="my:net")) == ("what your model does in training alone",)
    assert "(overfitting)" in said(0.99, 0.9)
    assert "(overfitting)" not in said(0.99, 0.9, ema_decay=0.99)


def test_who_costs_more_without_being_shown_better(found: dlbench.StudyResult) -> None:
    first, other = found.predictions().values()
    difference = accuracy_difference(first, other)
    assert difference is not None
    means = [np.mean([t.test_accuracy for t in each.trials]) for each in (first, other)]
    assert difference.estimate == pytest.approx(means[0] - means[1], abs=1e-6)
    dear = {"a": Counts(1, 100, 300), "b": Counts(1, 1000, 3000)}
    costs = costs_of({"a": first, "b": first}, dear)
    assert costs.fronts["flops"] == ("a",)
    (said,) = costs.not_better
    assert (said.costlier, said.cheaper, said.ratio, said.difference.estimate) == ("b", "a", 10, 0)
    assert costs_of({"a": first, "b": first}, {}).measure == "parameters"


def test_slices_of_test_images(found: dlbench.StudyResult, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    for label, each in found.by_slice("brightness").items():
        predictions = each.predictions
        light = predictions.dataset.test_images.reshape(1000, -1).mean(axis=1)
        order = np.argsort(light, kind="stable")
        right = (predictions.logits.argmax(2) == predictions.labels).mean(axis=0)
        expected = [right[part].mean() for part in np.split(order, 4)]
        assert [s.accuracy.estimate for s in each.slices] == pytest.approx(expected), label
        assert [s.support for s in each.slices] == [250] * 4
        assert each.worst.accuracy.estimate == pytest.approx(min(expected))
    record = json.loads(cli("results", str(found.folder), "--by", "contrast", "--json").out)
    assert {each["by"] for each in record["by_slice"]} == {"contrast"}
    assert "By brightness: lr 0.01" in cli("results", str(found.folder), "--by", "brightness").out
    path = tmp_path / "writers.csv"
    path.write_text("writer\n" + "".join(f"{'ab'[n % 2]}\n" for n in range(1000)))
    shown = cli("results", str(found.folder), "--by", f"{path}:writer").out
    assert "By writer: lr 0.01" in shown
    assert f"Worst slice: {found.by_slice(['a', 'b'] * 500)['lr 0.01'].worst.name}," in shown
    refused = cli("results", str(found.folder), "--by", f"{path}:author")
    assert (refused.code, "unknown column of" in refused.err, "Known: writer" in refused.err) == (
        2,
        True,
        True,
    )
    with pytest.raises(UnknownNameError, match="unknown slice 'brightnes'"):
        found.by_slice("brightnes")
    with pytest.raises(InputError, match="one id per test image, 1,000; got 3"):
        found.by_slice([1, 2, 3])
    with pytest.raises(InputError, match="at least two different ids"):
        found.by_slice(["all"] * 1000)


def test_the_equalised_odds_difference_by_hand(found: dlbench.StudyResult) -> None:
    """Class 0: 9 of 10 right in slice a and 5 of 10 in b; class 1 by mirror. Slice c has too few images to count."""
    first = next(iter(found.predictions().values()))
    labels = np.array([0] * 10 + [1] * 10 + [0] * 10 + [1] * 10 + [0])
    answers = np.array([0] * 9 + [1] + [1] * 10 + [0] * 5 + [1] * 5 + [0] * 2 + [1] * 8 + [1])
    logits = np.eye(2, dtype=np.float32)[answers][None]
    two = dataclasses.replace(
        first, trials=first.trials[:1], logits=logits, labels=labels, class_names=("0", "1")
    )
    sliced = by_slice(two, ["a"] * 20 + ["b"] * 20 + ["c"])
    assert [each.accuracy.estimate for each in sliced.slices] == pytest.approx([0.95, 0.65, 0.0])
    assert sliced.gap.estimate == pytest.approx(0.95)
    assert sliced.equalized_odds.estimate == pytest.approx(0.4)


def test_slices_are_those_of_fairlearn(found: dlbench.StudyResult) -> None:
    fairlearn = pytest.importorskip("fairlearn.metrics")
    first = next(iter(found.predictions().values()))
    one = dataclasses.replace(first, trials=first.trials[:1], logits=first.logits[:1])
    ids = np.random.default_rng(0).integers(0, 3, len(one.labels))
    answers = one.logits[0].argmax(1)
    sliced = by_slice(one, ids)
    frame = fairlearn.MetricFrame(
        metrics=metrics.accuracy_score, y_true=one.labels, y_pred=answers, sensitive_features=ids
    )
    assert [each.accuracy.estimate for each in sliced.slices] == pytest.approx(frame.by_group.tolist())
    assert sliced.gap.estimate == pytest.approx(frame.difference())
    assert sliced.worst.accuracy.estimate == pytest.approx(frame.group_min())
    odds = [
        fairlearn.equalized_odds_difference(one.labels == c, answers == c, sensitive_features=ids)
        for c in range(10)
    ]
    assert sliced.equalized_odds.estimate == pytest.approx(max(odds))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corruptions_grow_with_their_severity(name: str) -> None:
    images = (
        np.random.default_rng(3).integers(0, 256, (40, 4, 4, 3)).repeat(7, 1).repeat(7, 2).astype(np.uint8)
    )
    grades = [corrupted(images, name, severity) for severity in SEVERITIES]
    assert all(each.shape == images.shape and each.dtype == np.uint8 for each in grades)
    distances = [np.abs(each.astype(float) - images).mean() for each in grades]
    assert distances[0] > 0
    assert distances == sorted(distances)
    assert (corrupted(images, name, 3) == grades[2]).all()
    assert (
        images == np.random.default_rng(3).integers(0, 256, (40, 4, 4, 3)).repeat(7, 1).repeat(7, 2)
    ).all()


def test_robustness_is_a_mean_over_corruptions_and_severities(found: dlbench.StudyResult) -> None:
    first = next(iter(found.predictions().values()))
    answers = np.random.default_rng(0).random((2, 31, 50)) < np.linspace(0.9, 0.1, 31)[:, None]
    made = robustness(first, answers)
    assert made.clean.estimate == pytest.approx(answers[:, 0].mean())
    assert made.mean.estimate == pytest.approx(answers[:, 1:].mean())
    assert made.means["blur"].estimate == pytest.approx(answers[:, 6:11].mean())
    assert made.by_severity["occlusion"][4].estimate == pytest.approx(answers[:, 30].mean())
    drawing = robustness_curves({"lr 0.01": made})
    assert f"{100 * made.means['blur'].estimate:.2f} % under blur" in drawing.about.alt
    panels = [axes for axes in drawing.canvas.axes if axes.get_title()]
    assert [axes.get_title().lower() for axes in panels] == [*CORRUPTIONS]
    assert panels[1].lines[0].get_ydata()[3] == pytest.approx(100 * answers[:, 8].mean())


@pytest.mark.slow
def test_networks_are_run_on_corrupted_images(found: dlbench.StudyResult, cli: Cli) -> None:  # noqa: F811
    record = json.loads(cli("diagnose", str(found.folder), "--show", "robustness", "--json").out)
    for each in record["robustness"]:
        trials = [trial for trial in found if trial.id in each["trials"]]
        assert each["clean"]["estimate"] == pytest.approx(np.mean([trial.test_accuracy for trial in trials]))
        assert 0 < each["mean"]["estimate"] < each["clean"]["estimate"]
    assert "By severity: lr 0.01" in cli("diagnose", str(found.folder), "--show", "robustness").out


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> dlbench.StudyResult:
    """Two seeds of three folds, tested on a part of the test half."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 240)
    images = draw.integers(0, 90, (240, 8, 8)).astype(np.uint8)
    images[np.arange(240), 1 + 2 * labels, :] += 120
    halves = images[:180], labels[:180], images[180:], labels[180:]
    dataset = dlbench.from_arrays(
        "stripes", *halves, slices={"writer": ["bo", "al", "al"] * 20, "pen": ["ink"] * 60}
    )
    study = dlbench.grid(
        model="linear",
        dataset=dataset,
        learning_rate=[1e-2, 1e-1],
        folds=3,
        seeds=2,
        train_size=90,
        test_size=30,
        num_epochs=2,
        batch_size=10,
    )
    return dlbench.run(study, workers=0, out=tmp_path_factory.mktemp("folded") / "s")


def test_folds_and_a_part_of_the_test_half_are_diagnosed(folded: dlbench.StudyResult) -> None:
    found = folded.predictions()
    first, other = found.values()
    assert len(first.labels) == len(first.dataset.test_images) == 30
    for trial, right in zip(first.trials, first.right, strict=True):
        assert float(right.mean()) == pytest.approx(trial.test_accuracy)
        logits, labels = validation_of(trial, first.dataset)
        assert (logits.argmax(1) == labels).mean() == pytest.approx(trial.best_val_accuracy)
    assert {*folded.calibration()} == {*folded.by_class()} == {*folded.by_slice("contrast")} == {*found}
    difference = accuracy_difference(first, other)
    assert difference is not None
    assert difference.n == 6, "every fold of every seed is a pair"
    (fit, _) = folded.fit().values()
    assert fit.val.is_corrected
    assert fit_report({"x": fit})[0].caption.startswith(  # type: ignore[union-attr]
        "Means of 6 trials on 30 test images, with 95 % intervals over trials and images, corrected because"
    )


def test_slices_of_the_data_set(
    folded: dlbench.StudyResult,
    cli: Cli,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of the test images that count, in a part of the test half."""
    whole = data.load(folded.trials[0].dataset)
    writers = np.array(["bo", "al", "al"] * 20)[splits.test_indices(whole.test_labels, 30)]
    assert folded.slice_names() == ("writer", "pen")
    for each in folded.by_slice("writer").values():
        right = each.predictions.right.mean(axis=0)
        assert [(s.name, s.support) for s in each.slices] == [(n, (writers == n).sum()) for n in ("al", "bo")]
        assert [s.accuracy.estimate for s in each.slices] == pytest.approx(
            [right[writers == name].mean() for name in ("al", "bo")]
        )
    card = model_card(folded.folder, folded.trials[0].id)
    shown = card.partition("### Slices")[2].partition("## Training")[0]
    assert "| al |" in shown
    assert "pen" not in shown
    classes = folded.by_class()
    for label, sliced in folded.by_slice("class").items():
        assert [each.support for each in sliced.slices] == [each.support for each in classes[label].classes]
        assert [each.accuracy.estimate for each in sliced.slices] == pytest.approx(
            [each.recall.estimate for each in classes[label].classes]
        )
    folder = str(folded.folder)
    assert "By writer: lr 0.01" in cli("results", folder, "--by", "writer").out
    shown = cli("diagnose", folder, "--show", "slices").out
    assert "By writer: lr 0.01" in shown
    assert "No accuracies by pen: slices need at least two different ids" in shown
    (record, _) = json.loads(cli("diagnose", folder, "--show", "slices", "--json").out)["slices"]
    assert [each["slice"] for each in record["slices"]] == ["al", "bo"]
    refused = cli("results", folder, "--by", "author")
    assert (refused.code, "Known: class, brightness, contrast, writer, pen" in refused.err) == (2, True)
    assert offered(f"dlbench results {folder} --by w", Path(), monkeypatch, capsys) == ["writer"]
    assert offered("dlbench results nothing --by b", Path(), monkeypatch, capsys) == ["brightness"]
    assert "By slice: writer" in diagnose(folded.folder).folded
    lit = dataclasses.replace(whole, slices={"brightness": np.array(["lit", "unlit"] * 30)})
    assert named_slices("brightness", lit) == ["lit", "unlit"] * 30


def test_slices_are_ordered_by_the_numbers_that_their_names_begin_with(found: dlbench.StudyResult) -> None:
    first = next(iter(found.predictions().values()))
    ids = ["missing", "10", "2", "-3", "0.5", "20 (old)"]
    names = [each.name for each in by_slice(first, (ids * 167)[: len(first.labels)]).slices]
    assert names == ["-3", "0.5", "2", "10", "20 (old)", "missing"]


def test_small_slices_have_no_equalised_odds_difference(found: dlbench.StudyResult) -> None:
    first = next(iter(found.predictions().values()))
    count = len(first.labels)
    assert by_slice(first, np.arange(count) % 2).equalized_odds is not None
    small = by_slice(first, np.arange(count) // 9)
    assert small.equalized_odds is None
    assert "No equalised-odds difference: no two slices have 10 images" in str(by_slice_report("x", small)[1])
    assert by_slice_record("x", small)["equalized_odds_difference"] is None


def test_text_that_differs_from_image_to_image_makes_no_slices(found: dlbench.StudyResult) -> None:
    first = next(iter(found.predictions().values()))
    many = dataclasses.replace(first, logits=np.zeros((1, 1001, 2)), labels=np.zeros(1001, int))
    with pytest.raises(InputError, match="at most 1,000; got 1,001"):
        by_slice(many, range(1001), "caption")


def test_the_corrupted_images_are_those_that_the_trials_were_tested_on(folded: dlbench.StudyResult) -> None:
    from dlbench.studies import altered as child

    (found, _) = folded.predictions().values()
    out = folded.folder / "right.npy"
    asked = {
        "how": "corrupt",
        "folders": [str(found.trials[0].folder)],
        "indices": range(30),
        "data_dir": None,
    }
    child.answer({**asked, "out": str(out), "path": [], "models": []})
    assert np.load(out)[0, 0].tolist() == (found.right[0] == 1).tolist()


def test_intervals_of_folds_are_wider() -> None:
    cells = np.random.default_rng(0).integers(0, 2, (6, 50)).astype(np.float32)
    corrected = functools.partial(stats.corrected_interval, overlap=0.5)
    plain, wide = crossed_mean(cells), crossed_mean(cells, corrected)
    assert plain.estimate == wide.estimate == pytest.approx(cells.mean())
    assert wide.high - wide.low > plain.high - plain.low
    (same,) = crossed_intervals(lambda weights: (weights @ cells.T / 50)[:, :, None], 50, corrected)
    assert (same.low, same.high) == pytest.approx((wide.low, wide.high))


@pytest.mark.slow
def test_networks_are_run_on_covered_images(found: dlbench.StudyResult, cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    made = found.occlusion()
    assert made is not None
    label, occluded_images = made
    val = {
        rate: np.mean([t.best_val_accuracy for t in found if t.trial.spec.learning_rate == rate])
        for rate in (1e-3, 1e-2)
    }
    assert label == f"lr {max(val, key=val.__getitem__):g}"
    chances = probabilities(occluded_images.predictions.logits).mean(axis=0)
    for each in occluded_images.maps:
        place = each.mistake.index
        assert each.probability == pytest.approx(chances[place, each.mistake.answer], abs=1e-5)
        assert each.label_probability == pytest.approx(chances[place, each.mistake.label], abs=1e-5)
        assert 0 < np.abs(each.support).max() <= 1
    done = cli("report", str(found.folder), "--robustness", "--out", str(tmp_path))
    assert done.code == 0, done.err
    page = (tmp_path / "report.html").read_text()
    assert ">Robustness</summary>" in page
    assert "Accuracy under corruptions" in page
    assert "What the mistakes look at" in page


def test_the_most_frequent_mistakes_come_first() -> None:
    logits = np.zeros((3, 4, 3), np.float32)
    logits[:, 0, 0] = 1  # right
    logits[:, 1, 2] = 5  # all err
    logits[0, 2, 1], logits[1:, 2, 0] = 9, 1  # one errs
    logits[0, 3, 1], logits[1:, 3, 2] = 3, 1  # all err, in two ways
    found, wrong = most_frequent(logits, np.array([0, 1, 0, 0]), 3)
    assert found == (Mistake(1, 1, 2, 3), Mistake(3, 0, 2, 3), Mistake(2, 0, 1, 1))
    assert wrong == 3
    assert most_frequent(logits, np.array([0, 1, 0, 0]), 1)[0] == found[:1]


def test_an_occlusion_map_shows_the_patch_that_matters() -> None:
    image = np.full((12, 10, 3), 100, np.uint8)
    image[6:8, 4:6] = 200
    covered = occluded(image)
    side, places = corners(image.shape)
    assert (side, len(covered)) == (2, len(places))
    for (row, column), each in zip(places, covered, strict=True):
        assert (each[row : row + side, column : column + side] == np.rint(image.mean((0, 1)))).all()
    changes = [float(each.max() < 200) for each in covered]
    support = occlusion_map(image.shape, changes)
    assert support.shape == (12, 10)
    assert support.argmax() == 6 * 10 + 4
    assert np.flatnonzero(support.sum(1)).tolist() == np.arange(6, 8).tolist()
    assert not np.isnan(support).any()


def test_a_report_keeps_the_diagnosis_folded(found: dlbench.StudyResult, tmp_path: Path) -> None:
    made = diagnose(found.folder)
    titles = [*made.folded]
    assert titles == ["By class", "Calibration", "Over- and underfitting", "Cost"]
    assert (made.drawings, made.problems) == ((), ())
    exported = exports.export(found.folder, tmp_path / "s", made.folded)
    again = exports.read(tmp_path / "s")
    page = exported.section().page
    assert page is not None
    text = to_html("Report", [exported.section()])
    assert text == to_html("Report", [again.section()])
    assert all(f">{title}</summary>" in text for title in titles)
    for title, parts in page.folded.items():
        tables = [part for part in made.folded[title] if isinstance(part, Table)]
        assert [part.texts() for part in parts if isinstance(part, Table)] == [
            each.texts() for each in tables
        ]
    assert "By class" not in (tmp_path / "s" / "report.md").read_text()
    exports.export(found.folder, tmp_path / "s")
    assert not (tmp_path / "s" / FOLDED_FILE).exists()
    (tmp_path / "s" / FOLDED_FILE).write_text('{"By class": [{"rows": 1}]}')
    with pytest.raises(StoreError, match="holds no reports by title; remove it"):
        exports.read(tmp_path / "s").section()
