"""Metrics as named parts: their values, how they are named, and what a study does with the one that it names."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics
from conftest import SMALL, modules_of
from numpy.typing import NDArray

import dlbench
from dlbench import report
from dlbench.analysis.claims import judge
from dlbench.analysis.configurations import best_first, configurations
from dlbench.errors import InputError, UnknownNameError
from dlbench.report import catalog, exports
from dlbench.report.tables import Table
from dlbench.spec import designs, metrics
from dlbench.spec.config import read
from dlbench.spec.registry import METRICS
from dlbench.spec.trial import Trial, TrialSpec
from dlbench.storage.store import Store
from dlbench.training import metrics as values
from dlbench.training.stopping import is_stopped

CODE = """
import flax.linen as nn
import jax.numpy as jnp


class Small(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x[:, ::4, ::4].reshape(x.shape[0], -1))


def cost(logits, labels, weight=1.0):
    return weight * jnp.mean(logits.argmax(-1) != labels)


def per_image(logits, labels):
    return logits.argmax(-1) != labels


def never(logits, labels):
    return float("nan")
"""
OWN = "dlbench_metrics_nets:cost(better='lower', weight=2.0)"


_nets = modules_of(dlbench_metrics_nets=CODE)


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> dlbench.StudyResult:
    """Two rates and two seeds of one small network, chosen by a metric that is the user's."""
    study = dlbench.grid(
        **SMALL | {"num_epochs": 3},
        model="dlbench_metrics_nets:Small",
        learning_rate=[1e-4, 3e-2],
        seeds=2,
        selection_metric=OWN,
    )
    return dlbench.run(study, workers=0, out=tmp_path_factory.mktemp("chosen") / "s")


def outputs(classes: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes - 1, 300).astype(np.int32)  # the last class has no image
    logits = np.round(draw.normal(size=(300, classes)) + np.eye(classes)[labels], 1)  # with ties
    return logits.astype(np.float32), labels


def test_values_are_scikit_learns() -> None:
    logits, labels = outputs()
    said, every = logits.argmax(1), range(5)
    assert values.accuracy(logits, labels) == sklearn.metrics.accuracy_score(labels, said)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = sklearn.metrics.balanced_accuracy_score(labels, said)
    assert values.balanced_accuracy(logits, labels) == pytest.approx(expected, abs=1e-15)
    macro = sklearn.metrics.precision_recall_fscore_support(
        labels, said, labels=every, average="macro", zero_division=0.0
    )
    found = [getattr(values, name)(logits, labels) for name in ("precision", "recall", "f1")]
    assert found == pytest.approx(macro[:3], abs=1e-15)
    distinct = logits + np.arange(5) * np.float32(-1e-3)  # the first of equal ones counts as larger
    for k in (1, 2, 3):
        expected = sklearn.metrics.top_k_accuracy_score(labels, distinct, k=k, labels=every)
        assert values.top_k(logits, labels, k) == pytest.approx(expected)
    assert values.top_k(logits, labels, 1) == values.accuracy(logits, labels)


def test_a_metric_of_numbers_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    targets = draw.normal(30, 9, 200).astype(np.float32)
    logits = (targets + draw.normal(size=200))[:, None].astype(np.float32)
    for name, reference in {
        "r2": sklearn.metrics.r2_score,
        "rmse": sklearn.metrics.root_mean_squared_error,
        "mae": sklearn.metrics.mean_absolute_error,
    }.items():
        expected = reference(targets.astype(float), logits[:, 0].astype(float))
        assert getattr(values, name)(logits, targets) == pytest.approx(expected, rel=1e-12)
    same = np.full(5, 2.0, np.float32)
    assert values.r2(same[:, None], same) == 1
    assert values.r2(same[:, None] + 1, same) == 0


def test_every_metric_has_one_name_and_a_direction() -> None:
    for name in METRICS.built_in:
        bare = name.removeprefix("val/")
        for written in (name, bare, bare.upper()):
            assert designs.expand({"selection_metric": written}).trials[0].selection_metric == name
        test = f"test/{bare}"
        assert metrics.metric(test) == metrics.metric(name) == metrics.metric(metrics.metric_key(test))
        assert metrics.metric(name).lower_is_better == (bare in ("loss", "rmse", "mae"))
    assert metrics.metric_key("test/f1") == "macro_f1"
    assert metrics.title("val/accuracy") == metrics.title("best_val_accuracy") == "val acc %"
    assert metrics.words("test/balanced_accuracy") == "test balanced accuracy"
    assert metrics.words(f"val/{OWN}") == "validation cost(weight=2.0)"
    assert metrics.metric(f"test/{OWN}").lower_is_better
    assert not metrics.metric("test/shop:profit").lower_is_better


def test_an_argument_of_a_metric_is_part_of_its_name_and_its_id() -> None:
    specs = designs.expand({"selection_metric": "top_k", "selection_metric.k": [3, 5]}).trials
    assert [metrics.metric_of(spec, "test") for spec in specs] == ["test/top_k(k=3)", "test/top_k"]
    plain, three, five = (Trial(spec=spec, data_digest="").id for spec in (TrialSpec(), *specs))
    assert len({plain, three, five}) == 3
    assert plain == Trial(spec=TrialSpec(selection_metric="val/accuracy"), data_digest="").id
    loss = TrialSpec(selection_metric="val/loss").to_record()
    assert (loss["selection_metric"], loss["selection_metric_args"]) == ("val/loss", {})


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("val/ff1", "Did you mean 'val/f1'?"),
        ("balanced_acuracy", "Did you mean 'val/balanced_accuracy'?"),
        ("top_k(n=3)", "unknown argument of the metric val/top_k 'n'"),
        ("top_k(k=0)", "must be at least 1"),
        ("shop:cost(better='up')", "must be higher or lower"),
    ],
)
def test_mistakes_are_named(metric: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        designs.expand({"selection_metric": metric})
    assert said in str(caught.value)
    assert (
        caught.value.field in ("selection_metric", "selection_metric.n", "selection_metric.k")
        or ":" in metric
    )


def test_a_metric_that_is_none_is_unknown() -> None:
    for name in ("val/speed", "test/", "val/f1(", "speed", "train/f1"):
        with pytest.raises(UnknownNameError):
            metrics.metric_key(name)


def test_the_list_has_their_direction() -> None:
    listed = {row["name"]: row for row in catalog.listing("metrics")}
    assert listed["val/top_k"]["arguments"][0]["name"] == "k"
    assert (listed["val/loss"]["better"], listed["val/f1"]["better"]) == ("lower", "higher")
    assert listed["test/accuracy"]["unit"] == listed["val/accuracy"]["unit"] == "points"


def test_the_best_epoch_is_the_metrics(chosen: dlbench.StudyResult) -> None:
    for trial in chosen:
        measured = [epoch.val_metric for epoch in trial.history]
        assert None not in measured
        assert measured == pytest.approx([2 * (1 - epoch.val_accuracy) for epoch in trial.history], abs=1e-6)
        best = min(x for x in measured if x is not None)
        assert trial.best_epoch == 1 + measured.index(best)
        assert trial.metrics[f"val/{OWN}"] == best
        assert trial.metrics[f"test/{OWN}"] == pytest.approx(2 * (1 - (trial.test_accuracy or 0)), abs=1e-6)


def test_tables_rank_by_the_metric(chosen: dlbench.StudyResult) -> None:
    groups = best_first(configurations(chosen.trials))
    assert [group.spec.learning_rate for group in groups] == [3e-2, 1e-4], "the lower cost is the better one"
    best = min(chosen.complete, key=lambda trial: trial.metrics[f"val/{OWN}"] or 0)
    assert chosen.best().id == best.id
    parts = report.study_report(chosen).parts
    (table,) = (part for part in parts if isinstance(part, Table))
    assert table.title == "Configurations by validation cost(weight=2.0)"
    assert [column.title for column in table.columns[1:3]] == [
        "val cost(weight=2.0)",
        "test cost(weight=2.0)",
    ]
    assert any("Lowest validation cost(weight=2.0): lr 0.03" in str(part) for part in parts)


def test_a_comparison_names_the_better_side(chosen: dlbench.StudyResult) -> None:
    from dlbench.analysis.comparison import compare_models

    found = compare_models(chosen)
    assert found.metric == f"test/{OWN}"
    assert found.ranking is not None
    assert [entry.name for entry in found.ranking.entries] == ["lr 0.03", "lr 0.0001"]
    assert found.at_chance == {}


def test_claims_are_about_the_metric(chosen: dlbench.StudyResult, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    claim = "  - {says: a, better: {lr: 0.03}, than: {lr: 0.0001}"
    file.write_text(f"lr: [0.0001, 0.03]\nclaims:\n{claim}}}\n{claim}, metric: test/accuracy}}\n")
    own, accuracy = judge(read(file).claims, chosen.trials).judgements
    assert own.claim.metric.lower_is_better
    assert not accuracy.claim.metric.lower_is_better
    assert own.comparison is not None
    assert accuracy.comparison is not None
    gains = own.comparison.difference.estimate, accuracy.comparison.difference.estimate
    assert gains[0] == pytest.approx(2 * gains[1], abs=1e-6), "both favour the claim"


def test_everything_recorded_is_read_again(chosen: dlbench.StudyResult, tmp_path: Path) -> None:
    again = dlbench.open_study(chosen.folder)
    for trial, read_again in zip(chosen, again, strict=True):
        assert read_again.metrics == trial.metrics
        assert read_again.history == trial.history
    assert Store(chosen.folder).damaged() == []
    exported = exports.export(chosen.folder, tmp_path / "e").result
    assert exported is not None
    for trial, read_again in zip(chosen, exported, strict=True):
        assert read_again.metrics == trial.metrics
    header = (tmp_path / "e" / "history.csv").read_text().splitlines()[0]
    assert "val_metric_mean" in header
    assert "cost" in (tmp_path / "e" / "report.md").read_text()
    record = json.loads(json.dumps(chosen.to_dict()))
    assert {"val_metric"} <= record["trials"][0]["history"][0].keys()


def test_early_stopping_counts_in_the_metrics_direction() -> None:
    fields = {"num_epochs": 9, "patience": 2}
    falling = [dlbench.Epoch(1, 0.1, 1, 0.1, value) for value in (3.0, 2.0, 1.0)]
    lower = TrialSpec(selection_metric="val/rmse", **fields)
    assert not is_stopped(lower, falling)
    assert is_stopped(TrialSpec(selection_metric="val/r2", **fields), falling)
    nothing = [dlbench.Epoch(1, 0.1, 1, 0.1, None)] * 2
    assert is_stopped(lower, nothing), "what is not finite is no improvement"


def test_older_studies_have_no_metric_of_their_own(chosen: dlbench.StudyResult) -> None:
    epoch = dlbench.Epoch.of([1.0, None, 2.0, 0.5])
    assert math.isnan(epoch.train_accuracy)
    assert epoch.to_record() == {
        "train_loss": 1.0,
        "train_accuracy": None,
        "val_loss": 2.0,
        "val_accuracy": 0.5,
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [("per_image", "returned an array of shape (2,)"), ("never", "was not finite after any epoch")],
)
def test_a_metric_of_ones_own_returns_one_number(tmp_path: Path, name: str, said: str) -> None:
    study = dlbench.grid(
        **SMALL, model="dlbench_metrics_nets:Small", selection_metric=f"dlbench_metrics_nets:{name}"
    )
    with pytest.warns(RuntimeWarning, match="failed"):
        (trial,) = dlbench.run(study, workers=0, out=tmp_path / "s").trials
    assert said in trial.failure
