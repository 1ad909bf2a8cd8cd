"""Estimates of the time that a study takes, and what they learn from the machine's trials."""

from __future__ import annotations

import pytest

import dlbench
from dlbench.execution import costs, rates
from dlbench.spec.trial import Trial, TrialSpec


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path))
    rates._read.cache_clear()
    yield tmp_path
    rates._read.cache_clear()


def trial(model="Baseline", **changes):
    sizes = {"dataset": "mnist5k", "train_size": 800, "val_size": 100, "num_epochs": 5}
    return Trial(spec=TrialSpec(model=model, **{**sizes, **changes}), data_digest="0" * 64)


def as_many_times(trial, times):
    """The trial, and that many times the seconds that its training is expected to take."""
    return trial, times * costs._image_s(trial.spec) * trial.spec.num_epochs * trial.spec.train_size


def test_estimates_go_by_what_trials_of_the_model_took():
    baseline, other, third = trial(), trial("Modernist"), trial("SimpleCNN")
    before = {each: costs.cost_s(each) for each in (baseline, other, third)}
    costs.learn(
        [as_many_times(baseline, 200), as_many_times(baseline, 200), (baseline, 0.001)]
    )  # the last is too short
    assert costs.cost_s(baseline) == pytest.approx(200 * before[baseline])
    assert costs.cost_s(trial(learning_rate=0.1, batch_size=8)) > 200 * before[baseline]
    assert costs.cost_s(other) == pytest.approx(200 * before[other]), "a new model: as all others"
    costs.learn([as_many_times(other, 300)])
    assert costs.cost_s(other) == pytest.approx(300 * before[other])
    assert costs.cost_s(third) == pytest.approx(250 * before[third]), "the median of all models"


def test_the_latest_trials_count_and_a_damaged_file_counts_nothing(cache):
    one = trial()
    expected = costs.cost_s(one)
    for times in (100, 500):
        costs.learn([as_many_times(one, times)] * 10)
    assert costs.cost_s(one) == pytest.approx(500 * expected)
    for text in ("", "[1]", '{"a": 1}', '{"a": ["x"]}', '{"a": [-1]}'):
        (cache / "rates.json").write_text(text)
        rates._read.cache_clear()
        assert costs.cost_s(one) == pytest.approx(expected)


def test_a_study_that_was_trained_is_learned_from(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "_LEAST_S", 0.0)
    study = dlbench.grid(model="mlp", dataset="mnist5k", train_size=64, val_size=32, num_epochs=1)
    dlbench.run(study, workers=0, out=tmp_path / "study")
    assert list(rates._read(rates._file())) == ["MLP {} ((28, 28, 1), 10)"]
