"""Estimates of the time that a study takes, and what they learn from the machine's trials."""

from __future__ import annotations

import time

import pytest

import dlbench
from dlbench.execution import costs, messages, rates, worker
from dlbench.spec.programs import programs
from dlbench.spec.trial import Trial, TrialSpec


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DLBENCH_CACHE_DIR", str(tmp_path))
    forget()
    yield tmp_path
    forget()


def forget():
    rates._read.cache_clear()
    costs._cost_s.cache_clear()


def trial(model="Baseline", **changes):
    sizes = {"dataset": "mnist5k", "train_size": 800, "val_size": 100, "num_epochs": 5}
    return Trial(spec=TrialSpec(model=model, **{**sizes, **changes}), data_digest="0" * 64)


def took(trial, times):
    """What a study of this trial measures if its training takes that many times the expected seconds."""
    measured = costs.Measured({trial.id: trial})
    expected_s = costs._Rated.of(trial.spec).image_s(trial.spec.batch_size) * trial.spec.train_size
    for number in range(1, trial.spec.num_epochs + 1):
        measured(ended(trial, times * expected_s, number))
    return measured


def ended(trial, busy_s, number=1):
    return messages.EpochEnded(
        trial_id=trial.id, number=number, values=(1.0, 0.5, 1.0, 0.5, None), busy_s=busy_s
    )


def compiled(trial, busy_s, worker=0):
    return messages.Compiled(worker=worker, trial_id=trial.id, busy_s=busy_s)


def training_s(trial):
    return costs.cost_s(trial) - costs._TRIAL_S


def test_estimates_go_by_what_trials_of_the_model_took():
    baseline, other, third = trial(), trial("Modernist"), trial("SimpleCNN")
    before = {each: training_s(each) for each in (baseline, other, third)}
    took(baseline, 200).learn()
    took(baseline, 0.001).learn()  # too short
    assert training_s(baseline) == pytest.approx(200 * before[baseline])
    assert training_s(trial(learning_rate=0.1, batch_size=8)) > 200 * before[baseline]
    assert training_s(other) == pytest.approx(200 * before[other]), "a new model: as all others"
    took(other, 300).learn()
    assert training_s(other) == pytest.approx(300 * before[other])
    assert training_s(third) == pytest.approx(250 * before[third]), "the median of all models"


def test_what_a_worker_took_that_waited_for_a_processor_counts_nothing():
    one = trial()
    before = costs.cost_s(one)
    measured = costs.Measured({one.id: one})
    measured(ended(one, None))
    measured.learn()
    assert costs.cost_s(one) == before
    clock = worker.Clock(time.monotonic())
    clock.lap("train")
    time.sleep(0.05)
    assert clock.lap("train") is None
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    assert clock.lap("train") in (None, pytest.approx(0.05, rel=0.5))


def test_the_latest_studies_count_and_a_damaged_file_counts_nothing(cache):
    one = trial()
    expected = training_s(one)
    for times in (100, 500):
        for _ in range(3):
            took(one, times).learn()
    assert training_s(one) == pytest.approx(500 * expected)
    for text in ("", "[1]", '{"a": 1}', '{"ratios": {"training": ["x"]}}', '{"ratios": {}}'):
        (cache / "rates.json").write_text(text)
        forget()
        assert training_s(one) == pytest.approx(expected)


def test_a_program_that_was_compiled_here_is_read_from_the_cache():
    first, second, other = trial(), trial(batch_size=32), trial("Modernist")
    cold = costs.compile_s(first)
    assert costs.compiling_s(programs([first, second, other])) < 3 * cold, "the first two share a model"
    measured = costs.Measured({each.id: each for each in (first, second)})
    measured(compiled(first, 2 * cold))
    measured(compiled(second, None))
    measured.learn()
    assert costs.compile_s(first) == costs.compile_s(second) == pytest.approx(costs._LOADING * cold)
    assert costs.compile_s(other) == pytest.approx(2 * cold), "a new one: as the first"
    again = costs.Measured({first.id: first})
    again(compiled(first, cold))
    again.learn()
    assert costs.compile_s(first) == pytest.approx(cold)
    assert costs.compile_s(other) == pytest.approx(2 * cold)


def test_a_study_is_estimated_from_its_start_to_its_end():
    trials = [trial(seed=seed, num_epochs=50) for seed in range(8)]
    one, both = costs.estimate_s(trials, 1), costs.estimate_s(trials, 2)
    work, around = sum(map(costs.cost_s, trials)), costs.START_S + costs.END_S
    assert one == pytest.approx(around + work + costs.compile_s(trials[0]))
    assert both == pytest.approx(around + work / 2 + costs.compile_s(trials[0])), "each compiles it"
    assert costs.estimate_s(trials[:1], 8) == costs.estimate_s(trials[:1], 1)
    assert costs.estimate_s([], 2) == 0.0
    study = dlbench.compare(
        model=["baseline", "mlp"], seeds=3, dataset="mnist5k", train_size=800, val_size=100, num_epochs=1
    )
    planned = dlbench.plan(study, workers=1)
    fitting = costs.linear_s(planned.trials)
    assert planned.estimate_s == pytest.approx(costs.estimate_s(planned.trials, 1) + fitting)
    assert fitting == pytest.approx(3 * 800 * 784 * costs._LINEAR_PIXEL_S)


def test_a_study_that_was_trained_is_learned_from(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "_LEAST_S", dict.fromkeys(rates._LEAST_S, 0.0))
    monkeypatch.setattr(worker, "BUSY", 0.0)
    study = dlbench.grid(model="mlp", dataset="mnist5k", train_size=64, val_size=32, num_epochs=1)
    dlbench.run(study, workers=0, out=tmp_path / "study")
    known = rates._read(rates._file())
    assert {kind: list(models) for kind, models in known.ratios.items() if models} == {
        kind: ["MLP {} ((28, 28, 1), 10)"] for kind in ("training", "compiling")
    }
    assert len(known.programs) == 1
