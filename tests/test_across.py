"""Studies compared with each other: matching, pairing, Holm's correction, and what differs between them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

import dlbench
from dlbench.analysis.across import Source, compare_studies
from dlbench.errors import InputError
from dlbench.records import Outcome
from dlbench.report import to_markdown
from dlbench.report.across import across_report
from dlbench.stats import holm


def made_up(
    name: str, accuracy: Callable[[dlbench.TrialSpec], float], digest: str = "d" * 64, **axes: Any
) -> dlbench.StudyResult:
    """A study whose trials have the accuracies given; equal seeds have equal splits."""
    spec = dlbench.grid(**{"train_size": 100, "val_size": 50, **axes})
    trials = tuple(
        dlbench.TrialResult(
            dlbench.Trial(spec=each.model_copy(update={"split_seed": each.seed}), data_digest=digest),
            dlbench.TrialStatus.COMPLETE,
            Outcome(
                metrics={"test/accuracy": accuracy(each)},
                split_digest=str(each.seed),
                params_sha256=f"{accuracy(each)}",
            ),
        )
        for each in spec.trials
    )
    return dlbench.StudyResult(spec, trials, Path("runs") / name)


def noisy(base: float) -> Callable[[dlbench.TrialSpec], float]:
    """An accuracy that depends on the seed, and a little on what is trained."""
    return lambda spec: base + 0.01 * spec.seed + 0.001 * (spec.seed % 3) * (spec.learning_rate * 1e3)


def test_values_are_paired_by_seed_and_split_and_corrected_together() -> None:
    a = made_up("a", noisy(0.80), model="baseline", seed=range(5))
    b = made_up("b", noisy(0.83), model="baseline", learning_rate=[2e-3, 4e-3], seed=range(1, 6))
    found = dlbench.compare(a, b)
    values = {lr: [noisy(0.83)(t.trial.spec) for t in b if t.learning_rate == lr] for lr in (2e-3, 4e-3)}
    first = [noisy(0.80)(t.trial.spec) for t in a][1:]
    tests = [scipy.stats.ttest_rel(first, values[lr][:4]) for lr in (2e-3, 4e-3)]
    assert [pair.comparison.p_value for pair in found.pairs] == pytest.approx([t.pvalue for t in tests])
    assert [pair.p_adjusted for pair in found.pairs] == holm(
        [pair.comparison.p_value for pair in found.pairs]
    )
    assert [pair.comparison.n for pair in found.pairs] == [4, 4]
    assert [(pair.a, pair.b) for pair in found.pairs] == [
        ("a: lr 0.001", "b: lr 0.002"),
        ("a: lr 0.001", "b: lr 0.004"),
    ]
    assert len(found.supported) == 2


def test_what_both_studies_vary_is_compared_with_itself() -> None:
    models = {"model": ["baseline", "stabilized", "modernist"], "seed": range(3)}
    a = made_up("a", noisy(0.80), **models)
    b = made_up("b", noisy(0.80), dropout=0.5, **{**models, "model": ["stabilized", "baseline", "modernist"]})
    labels = [(pair.a.split(", ")[0][3:], pair.b.split(", ")[0][3:]) for pair in dlbench.compare(a, b).pairs]
    assert labels == [(name, name) for name in ("Baseline", "Stabilized", "Modernist")]


def test_other_data_are_not_paired() -> None:
    a = made_up("a", noisy(0.80), seed=range(3))
    b = made_up("b", noisy(0.90), "e" * 64, seed=range(3))
    found = dlbench.compare(a, b)
    (pair,) = found.pairs
    assert pair.comparison.test == "welch"
    assert ("data", "digest") in [(each.kind, each.name) for each in found.differences]


def test_what_differs_is_listed(small_result: dlbench.StudyResult, tmp_path: Path) -> None:
    a, b = (
        dlbench.open_study(shutil.copytree(small_result.folder, tmp_path / name), history=False)
        for name in ("a", "b")
    )
    assert dlbench.compare(a.folder, b).differences == ()
    manifest = json.loads((a.folder / "manifest.json").read_text())
    other = manifest | {
        "git": {**(manifest["git"] or {}), "commit": "f" * 40},
        "packages": manifest["packages"] | {"jax": "0.0.1"},
    }
    digest = str(a.trials[0].environment)
    described = {digest: {**a.environments[digest], "processor": "another"}}
    fewer = dataclasses.replace(b, trials=b.trials[:2], environments=described)
    found = compare_studies([Source(a, manifest), Source(fewer, other)])
    assert [(each.kind, each.name) for each in found.differences] == [
        ("settings", "learning_rate"),
        ("environment", "processor"),
        ("code", "commit"),
        ("code", "jax"),
    ]
    assert (found.num_shared, found.num_changed) == (2, 0)
    text = to_markdown(across_report(found))
    assert "| settings | lr | 0.001, 0.01 | 0.001 |" in text
    assert "| code | commit |" in text
    assert "ffffffffffff |" in text
    assert "2 trials in several of these studies, with the same bits everywhere." in text
    assert json.loads(json.dumps(found.to_dict()))["studies"] == ["a", "b"]


def test_the_same_trials_are_not_tested_against_each_other() -> None:
    a = made_up("a", noisy(0.80), learning_rate=[1e-3, 1e-2], seed=range(3))
    b = made_up("b", noisy(0.80), learning_rate=[1e-2, 2e-2], seed=range(3))
    labels = [(pair.a, pair.b) for pair in dlbench.compare(a, b).pairs]
    assert labels == [
        ("a: lr 0.001", "b: lr 0.01"),
        ("a: lr 0.001", "b: lr 0.02"),
        ("a: lr 0.01", "b: lr 0.02"),
    ]
    assert not dlbench.compare(a, made_up("c", noisy(0.80), learning_rate=[1e-3, 1e-2], seed=range(3))).pairs


def test_trials_with_other_bits_are_counted() -> None:
    a = made_up("a", noisy(0.80), seed=range(3))
    b = made_up("b", lambda spec: noisy(0.80)(spec) + 0.01 * (spec.seed == 1), seed=range(3))
    found = dlbench.compare(a, b)
    assert (found.num_shared, found.num_changed) == (3, 1)
    assert "3 trials in several of these studies, 1 of them with other bits." in to_markdown(
        across_report(found)
    )


def test_bad_input() -> None:
    a = made_up("a", noisy(0.80), seed=range(3))
    with pytest.raises(dlbench.InputError, match="two studies or more; name another study"):
        dlbench.compare(a)  # type: ignore[call-overload]
    with pytest.raises(dlbench.UnknownNameError, match="unknown metric 'val/acc'"):
        dlbench.compare(a, a, metric="val/acc")
    with pytest.raises(dlbench.SpecError, match="two models or more"):
        dlbench.compare(model="baseline")


def test_diverged_trials_count_as_the_worst() -> None:
    a = made_up("a", noisy(0.80), model="baseline", seed=range(5))
    b = made_up("b", noisy(0.83), model="baseline", learning_rate=2e-3, seed=range(5))
    lost = dataclasses.replace(
        b.trials[4], status=dlbench.TrialStatus.DIVERGED, outcome=Outcome(split_digest="4")
    )
    (pair,) = dlbench.compare(a, dataclasses.replace(b, trials=(*b.trials[:4], lost))).pairs
    assert (pair.comparison.test, pair.comparison.n) == ("signed-rank", 5)


def test_the_metric_is_that_of_the_studies() -> None:
    a, b = (
        made_up(name, noisy(0.8), model="baseline", selection_metric="f1", seed=range(3)) for name in "ab"
    )
    assert dlbench.compare(a, b).metric == "test/f1"
    losses = dlbench.compare(a, b, metric="test/loss")
    assert "No configurations can be compared" in to_markdown(across_report(losses))
    folded = [
        made_up(name, noisy(0.8), model="baseline", folds=5, train_size=100, val_size=None) for name in "ab"
    ]
    assert dlbench.compare(*folded).metric == "val/accuracy"
    accuracy = made_up("c", noisy(0.8), model="baseline", seed=range(3))
    assert dlbench.compare(accuracy, folded[0]).metric == "test/accuracy"
    with pytest.raises(InputError, match="different metrics: test/f1, test/accuracy; name one"):
        dlbench.compare(a, accuracy)


def test_data_sets_and_times_are_not_compared() -> None:
    a = made_up("a", noisy(0.80), model="baseline", seed=range(5))
    other = made_up("b", noisy(0.83), digest="e" * 64, model="baseline", dataset="mnist", seed=range(5))
    assert dlbench.compare(a, other).pairs == ()
    with pytest.raises(InputError, match="train_time_s depends on what else the machine did"):
        dlbench.compare(a, a, metric="train_time_s")
