"""Targets that are numbers: data, losses, and a study from training to report."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import modules_of

import dlbench
from dlbench import data, report
from dlbench.analysis.answers import correct_answers
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import configurations
from dlbench.analysis.failures import measured
from dlbench.analysis.overview import overview
from dlbench.cli import queries
from dlbench.data import rotated
from dlbench.errors import DataError, SpecError
from dlbench.models import creation
from dlbench.models.sizes import traced
from dlbench.records import Outcome, TrialStatus
from dlbench.report import exports
from dlbench.report.tables import Table
from dlbench.spec.registry import CRITERIA, MODELS
from dlbench.storage.audit import audit
from dlbench.storage.studies import StudySummary
from dlbench.studies.planning import plan
from dlbench.training.losses import mean_loss
from dlbench.training.state import Static

NETS = """
import flax.linen as nn


class Line(nn.Module):
    num_classes: int = 1

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))
"""
FIELDS = {
    "model": "dlbench_regression_nets:Line",
    "criterion": "huber(delta=0.5)",
    "selection_metric": "mae",
    "learning_rate": [1e-3, 1e-2],
    "train_size": 96,
    "val_size": 32,
    "num_epochs": 2,
}


_nets = modules_of(dlbench_regression_nets=NETS)


def brightness() -> data.Dataset:
    """Noise whose mean is the target."""
    draw = np.random.default_rng(0)
    targets = draw.uniform(-1, 1, 192)
    images = (128 + 60 * targets[:, None, None] + draw.normal(0, 9, (192, 8, 8))).astype(np.uint8)
    return data.from_arrays("brightness", images[:128], targets[:128], images[128:], targets[128:])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dlbench.StudyResult:
    study = dlbench.grid(**FIELDS, dataset=brightness(), seeds=3)
    return dlbench.run(study, workers=0, out=tmp_path_factory.mktemp("regression") / "s")


# Data


def test_floats_are_numbers() -> None:
    found = brightness()
    assert (found.targets, found.num_classes) == ("numbers", 1)
    assert found.train_labels.dtype == np.float32
    again = data.load(data.register(found), verify=True)
    assert again.digest == found.digest
    assert again.train_labels.dtype == np.float32
    described = data.info(found.reference)
    assert (described.targets, described.class_counts) == ("numbers", {"train": (), "test": ()})
    assert [part.title for part in report.data_report(described) if isinstance(part, Table)] == [
        found.reference
    ]


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ([0.5, math.nan], [0.5], "train_labels must be finite"),
        ([0.5, 1e39], [0.5], "train_labels must be finite"),
        ([0.5, 1.5], [1], "give labels of one kind"),
        ([0, 1], [1.0], "give labels of one kind"),
        ([[0.5, 0.5], [0, 1]], [0.5], "y.argmax(axis=1)"),
    ],
)
def test_what_is_neither_is_refused(train: list[float], test: list[float], said: str) -> None:
    images = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(DataError) as caught:
        data.from_arrays("x", images[:2], np.array(train), images[2:], np.array(test))
    assert said in str(caught.value)


def test_numbers_are_split_at_random() -> None:
    targets = (
        np.random.default_rng(0).normal(size=70_000).astype(np.float32)
    )  # classes of one would take minutes
    split, zeros = (data.make_split(y, 50_000, 10_000, 3) for y in (targets, np.zeros(70_000, int)))
    assert split.digest == zeros.digest


def test_rotated_digits_are_turned_digits() -> None:
    digits, found = data.load("mnist5k"), data.load("rotated-digits")
    assert found.digest == rotated.DIGEST
    assert np.abs(found.train_labels).max() <= rotated.MAX_ANGLE
    assert abs(found.train_labels.mean()) < 2
    few = digits.train_images[:4]
    np.testing.assert_array_equal(rotated.turned(few, np.zeros(4)), few)
    np.testing.assert_array_equal(rotated.turned(few, np.full(4, 90.0)), np.rot90(few, axes=(1, 2)))
    from scipy.ndimage import rotate

    angles = found.train_labels[:4]
    reference = [
        rotate(x[..., 0].astype(float), a, reshape=False, order=1) for x, a in zip(few, angles, strict=True)
    ]
    difference = found.train_images[:4, ..., 0] - np.array(reference)
    assert np.abs(difference).max() < 0.55


# Losses


def test_losses_are_pytorchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the reference here: install dlbench[oracle]")
    draw = np.random.default_rng(0)
    outputs, targets = draw.normal(size=(9, 1)).astype(np.float32), draw.normal(size=9).astype(np.float32)
    for name, arguments, criterion in (
        ("mse", (), torch.nn.MSELoss()),
        ("mae", (), torch.nn.L1Loss()),
        ("huber", (), torch.nn.HuberLoss()),
        ("huber", (("delta", 0.3),), torch.nn.HuberLoss(delta=0.3)),
    ):
        x = torch.tensor(outputs, requires_grad=True)
        expected = criterion(x[:, 0], torch.tensor(targets))
        expected.backward()
        static = Static(None, criterion=name, criterion_args=arguments)
        loss, grads = jax.value_and_grad(lambda x, static=static: mean_loss(static, x, targets))(outputs)
        np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)
        np.testing.assert_allclose(grads, x.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    "names", [MODELS.compared, pytest.param(tuple(MODELS.built_in), marks=pytest.mark.slow)]
)
def test_every_network_has_one_output(names: tuple[str, ...]) -> None:
    images = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32)
    for name in names:
        assert traced(creation.create(name, num_classes=1), images)[0].shape == (2, 1), name


# Studies


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"criterion": "cross_entropy"}, "criterion cross_entropy is for targets that are classes"),
        ({"selection_metric": "val/f1"}, "take one of val/r2, val/rmse, val/mae"),
        ({"class_weights": "balanced"}, "class_weights needs classes"),
        (
            {"dataset": "mnist5k", "selection_metric": "val/loss"},
            "criterion huber is for targets that are numbers",
        ),
        (
            {"dataset": "mnist5k", "criterion": "manual"},
            "selection_metric val/mae is for targets that are numbers",
        ),
    ],
)
def test_what_is_for_other_targets_is_refused(fields: dict[str, str], said: str, tmp_path: Path) -> None:
    study = dlbench.grid(**{**FIELDS, "dataset": brightness(), **fields})
    with pytest.raises(SpecError) as caught:
        plan(study, out=tmp_path / "s")
    assert said in str(caught.value)


def test_a_trial_has_the_metrics_of_numbers_alone(trained: dlbench.StudyResult) -> None:
    for trial in trained:
        assert trial.metrics.keys() - {name for name, value in trial.metrics.items() if value is None} == {
            *("val/mae", "val/loss", "test/mae", "test/rmse", "test/r2", "test/loss")
        }
        assert trial.test_accuracy is None
        assert trial.confusion_matrix is None
        assert all(math.isnan(epoch.val_accuracy) for epoch in trial.history)
        best = [epoch.val_metric for epoch in trial.history][(trial.best_epoch or 0) - 1]
        assert (
            best == min(epoch.val_metric or math.inf for epoch in trial.history) == trial.metrics["val/mae"]
        )
        loaded = trial.load()
        dataset = data.load(trial.dataset)
        outputs = loaded.predict(dataset.test_images)[:, 0]
        assert trial.metrics["test/mae"] == pytest.approx(
            np.abs(outputs - dataset.test_labels).mean(), rel=1e-5
        )
        assert math.isnan(loaded.test_accuracy())
    assert audit(trained.folder) == []
    json.dumps(trained.to_dict(), allow_nan=False)


def test_a_comparison_goes_by_the_metric(trained: dlbench.StudyResult) -> None:
    as_comparison = trained.spec.model_copy(update={"design": "comparison"})
    compared = dataclasses.replace(trained, spec=as_comparison)
    found = compare_models(compared)
    assert found.metric == "test/mae"
    assert found.ranking is not None
    means = [entry.interval.estimate for entry in found.ranking.entries]
    assert means == sorted(means), "the lowest error comes first"
    assert correct_answers(trained) == {}
    answer, first, *said = report.study_report(compared, {}).parts
    assert isinstance(first, Table)
    assert first.title == "Architectures by test MAE"
    assert {"test MAE", "val MAE"} <= {column.title for column in first.columns}
    assert not any("accuracy" in str(part) for part in [answer, first.caption, *said])


def test_a_trial_that_diverges_counts_as_the_worst_of_all(trained: dlbench.StudyResult) -> None:
    lost = dataclasses.replace(trained.trials[0], status=TrialStatus.DIVERGED, outcome=Outcome())
    trials = (lost, *trained.trials[1:])
    group = next(each for each in configurations(trials) if lost in each.trials)
    values = measured({"": group}, "test/mae")[""]
    assert len(values) == 3
    assert max(values.values()) == max(trial.metrics["test/mae"] or 0 for trial in group.complete)
    said = report.to_markdown(report.study_report(dataclasses.replace(trained, trials=trials)).parts)
    assert "count as failures in comparisons, with the worst value of any trial." in said
    assert "accuracy of 0" not in said


def test_the_list_of_studies_shows_the_metric(trained: dlbench.StudyResult) -> None:
    summary = StudySummary(trained.folder, "grid", None, {TrialStatus.COMPLETE: 6})
    found = overview(trained)
    table = report.studies_table([(summary, found)])
    assert "test MAE" in [column.title for column in table.columns]
    (row,) = report.studies_records([(summary, found)]).rows
    assert found.best
    assert row[-4:-2] == ("test/mae", found.best.mean("test/mae"))


def test_trials_are_filtered_and_sorted_by_the_metric(trained: dlbench.StudyResult) -> None:
    chosen = queries._chosen(trained, [queries._condition("test/mae<0.5")], "-test/mae")
    values = [trial.metrics["test/mae"] or 0 for trial in chosen]
    assert values == sorted((v for t in trained if (v := t.metrics["test/mae"] or 0) < 0.5), reverse=True)


def test_a_report_of_numbers_is_drawn_and_read(trained: dlbench.StudyResult, tmp_path: Path) -> None:
    found = exports.export(trained.folder, tmp_path / "e")
    assert found.result is not None
    assert [trial.metrics["test/r2"] for trial in found.result] == [t.metrics["test/r2"] for t in trained]
    text = (tmp_path / "e" / "report.md").read_text()
    assert "Validation MAE seed by seed" in text
    assert "ccuracy" not in text
    assert {path.stem for path in (tmp_path / "e" / "figures").glob("*.svg")} >= {"seeds", "learning-curves"}
    assert not (tmp_path / "e" / "figures" / "confusion.svg").exists()


def test_criteria_say_what_they_are_for() -> None:
    said = {name: declared.targets for name, declared in CRITERIA.built_in.items()}
    assert said == {
        **dict.fromkeys(("cross_entropy", "manual"), "classes"),
        **dict.fromkeys(("mse", "mae", "huber"), "numbers"),
    }


@pytest.mark.slow
def test_the_five_networks_learn_the_angle(tmp_path: Path) -> None:
    study = dlbench.compare(
        model=list(MODELS.compared),
        dataset="rotated_digits",
        criterion="mse",
        selection_metric="rmse",
        learning_rate=1e-3,
        train_size=1000,
        val_size=200,
        num_epochs=3,
    )
    for trial in dlbench.run(study, out=tmp_path / "s"):
        assert (trial.metrics["test/rmse"] or 99) < 22, (
            f"{trial.model}: the angles alone have a deviation of 26"
        )
