"""Early stopping: when it ends a trial, and that a trial that it ends is tested, stored and continued as any other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import forked
import pytest
from conftest import SMALL, modules_of

import dlbench
from dlbench.execution import messages
from dlbench.records import Epoch, TrialStatus
from dlbench.report import exports
from dlbench.spec.trial import TrialSpec
from dlbench.training.stopping import is_ended, is_stopped

# The rule


def history(values: Sequence[float], metric: str) -> list[Epoch]:
    losses = values if metric == "val/loss" else [1.0] * len(values)
    accuracies = values if metric == "val/accuracy" else [0.5] * len(values)
    return [Epoch(1.0, 0.5, loss, accuracy) for loss, accuracy in zip(losses, accuracies, strict=True)]


def stops_at(values: Sequence[float], metric: str = "val/accuracy", **fields: Any) -> int | None:
    """The number of epochs after which a trial stops that would have these values, of 100."""
    spec = TrialSpec(num_epochs=100, selection_metric=metric, **fields)
    epochs = history(values, metric)
    return next((n for n in range(1, len(epochs) + 1) if is_stopped(spec, epochs[:n])), None)


RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    ("values", "patience", "min_delta", "stopped"),
    [
        (RISING, 1, 0.0, None),
        ([0.5] * 6, 1, 0.0, 2),
        ([0.5] * 6, 3, 0.0, 4),
        ([0.5] * 6, 6, 0.0, None),
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.5], 2, 0.0, 5),
        ([0.5, 0.4, 0.5, 0.5], 3, 0.0, 4),  # as good as the best is no improvement
        ([0.5, 0.4, 0.51, 0.5], 3, 0.0, None),
        ([0.5, 0.52, 0.54, 0.56, 0.58], 2, 0.03, None),  # each by more than 0.03 over the best that counted
        ([0.5, 0.52, 0.54, 0.56, 0.58], 1, 0.03, 2),
        ([0.5, 0.5625, 0.625, 0.6875], 1, 0.0625, 2),  # by exactly min_delta is not more
        (RISING, 2, 1.0, 3),
    ],
)
def test_it_stops_after_epochs_without_improvement(
    values: list[float], patience: int, min_delta: float, stopped: int | None
) -> None:
    assert stops_at(values, patience=patience, min_delta=min_delta) == stopped
    losses = [1 - value for value in values]
    if min_delta != 0.0625 or stopped:
        assert stops_at(losses, "val/loss", patience=patience, min_delta=min_delta) == stopped


def test_only_the_metric_of_the_trial_counts() -> None:
    spec = TrialSpec(num_epochs=100, patience=1, selection_metric="val/loss")
    falling = [Epoch(1.0, 0.5, 1.0 - 0.1 * n, 0.5) for n in range(5)]
    assert not is_stopped(spec, falling)
    assert is_stopped(spec.model_copy(update={"selection_metric": "val/accuracy"}), falling)


def test_without_patience_and_in_the_last_epoch_it_does_not_stop() -> None:
    epochs = history([0.5] * 3, "val/accuracy")
    assert not is_stopped(TrialSpec(num_epochs=9), epochs)
    assert is_stopped(TrialSpec(num_epochs=9, patience=2), epochs)
    assert not is_stopped(TrialSpec(num_epochs=3, patience=2), epochs)
    assert not is_stopped(TrialSpec(num_epochs=9, patience=2), [])


def test_a_trial_that_diverges_ends_and_is_not_stopped() -> None:
    epochs = [Epoch(1.0, 0.5, 1.0, 0.5), Epoch(float("nan"), 0.1, float("nan"), 0.1)]
    spec = TrialSpec(num_epochs=9, patience=5)
    assert is_ended(spec, epochs)
    assert not is_stopped(spec, epochs)
    assert not is_ended(spec, epochs[:1])
    assert not is_ended(spec, [])


# A study

#: Nothing improves by 50, so that a trial stops ``patience`` epochs after its first.
AXES: dict[str, Any] = {
    **SMALL,
    "batch_size": 24,
    "model": "dlbench_stopping_nets:Small",
    "num_epochs": 5,
    "patience": [1, 2, 9],
    "min_delta": 50.0,
    "learning_rate": 2e-3,
    "schedule": "cosine",
}


#: It compiles in a moment.
NETS = """
import flax.linen as nn

class Small(nn.Module):
    num_classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(16)(x.reshape(x.shape[0], -1)))
        return nn.Dense(self.num_classes)(x)
"""
METRICS = ["val/accuracy", "val/loss"]


_nets = modules_of(dlbench_stopping_nets=NETS)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> dlbench.StudyResult:
    study = dlbench.grid(**AXES, selection_metric=METRICS)
    return dlbench.run(study, workers=1, out=tmp_path_factory.mktemp("stopped") / "s")


def test_histories_end_where_trials_stop(stopped: dlbench.StudyResult) -> None:
    assert [trial.status for trial in stopped] == [TrialStatus.COMPLETE] * 6
    for metric in METRICS:
        one, two, nine = (trial for trial in stopped if trial.selection_metric == metric)
        assert [len(trial.history) for trial in (one, two, nine)] == [2, 3, 5]
        assert [trial.stopped_epoch for trial in (one, two, nine)] == [2, 3, None]
        assert [trial.convergence_epoch for trial in (one, two, nine)] == [2, 3, 5], "none has converged"
        assert nine.history[:3] == two.history
        assert two.history[:2] == one.history
    assert len({trial.params_sha256 for trial in stopped}) == 3


def test_the_best_parameters_are_tested(stopped: dlbench.StudyResult) -> None:
    for trial in stopped:
        if trial.selection_metric == "val/loss":
            scores = [-epoch.val_loss for epoch in trial.history]
            assert trial.best_val_loss == -max(scores)
        else:
            scores = [epoch.val_accuracy for epoch in trial.history]
            assert trial.best_val_accuracy == max(scores)
        assert trial.best_epoch == 1 + scores.index(max(scores))
        assert (trial.best_params_sha256 == trial.params_sha256) == (trial.best_epoch == len(trial.history))
        assert trial.load().test_accuracy() == trial.test_accuracy
    best = {metric: [t.best_epoch for t in stopped if t.selection_metric == metric] for metric in METRICS}
    assert best["val/loss"] != best["val/accuracy"], "the metrics choose different epochs"


def test_where_a_trial_stopped_is_in_every_record(stopped: dlbench.StudyResult, tmp_path: Path) -> None:
    expected = [trial.stopped_epoch for trial in stopped]
    assert [trial.stopped_epoch for trial in dlbench.open_study(stopped.folder)] == expected
    exported = exports.export(stopped.folder, tmp_path / "e").result
    assert exported is not None
    assert [trial.stopped_epoch for trial in exported.trials] == expected
    assert [trial.id for trial in exported.trials] == [trial.id for trial in stopped]
    assert [trial.history for trial in exported.trials] == [trial.history for trial in stopped]
    done = dlbench_command("results", str(stopped.folder), "--json")
    assert [trial["stopped_epoch"] for trial in json.loads(done)["trials"]] == expected


def dlbench_command(*words: str) -> str:
    done = forked.run(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_study_is_in_order(stopped: dlbench.StudyResult) -> None:
    dlbench_command("results", str(stopped.folder), "--check")


def test_nothing_is_trained_again(stopped: dlbench.StudyResult) -> None:
    seen: list[object] = []
    study = dlbench.grid(**AXES, selection_metric=METRICS)
    dlbench.run(study, workers=1, out=stopped.folder, on_event=seen.append)
    assert not [event for event in seen if isinstance(event, messages.Started)]


# Lanes


def in_lanes(folder: Path, **options: Any) -> dlbench.StudyResult:
    """Three trials at a time, each with its own patience."""
    return dlbench.run(dlbench.grid(**AXES), workers=1, lanes=3, out=folder, **options)


DIGESTS = ("params_sha256", "best_params_sha256", "history_sha256", "test_accuracy", "stopped_epoch")


def digests(trials: Any) -> dict[str, tuple[Any, ...]]:
    return {trial.id: tuple(getattr(trial, name) for name in DIGESTS) for trial in trials}


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> dlbench.StudyResult:
    return in_lanes(tmp_path_factory.mktemp("lanes") / "s")


def test_a_lane_that_stops_keeps_what_it_had(
    lanes: dlbench.StudyResult, stopped: dlbench.StudyResult
) -> None:
    assert [trial.trial.lanes for trial in lanes] == [3] * 3
    assert [trial.stopped_epoch for trial in lanes] == [2, 3, None]
    assert [len(trial.history) for trial in lanes] == [2, 3, 5]
    assert lanes.trials[2].history[:2] == lanes.trials[0].history
    for trial in lanes:
        assert trial.load().test_accuracy() == trial.test_accuracy
    dlbench_command("results", str(lanes.folder), "--check")


def test_a_stopped_lane_is_the_same_beside_other_neighbours(
    lanes: dlbench.StudyResult, tmp_path: Path
) -> None:
    """In another order, among trials that go on and trials that stop; and as the last of an incomplete group."""
    study = dlbench.grid(**AXES | {"patience": [9, 1]}, seed=[5, 0])
    others = dlbench.run(study, workers=1, lanes=3, out=tmp_path / "s")
    both = digests(lanes).keys() & digests(others).keys()
    assert len(both) == 2
    assert {name: digests(lanes)[name] for name in both} == {name: digests(others)[name] for name in both}


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [3, 4])
def test_interrupted_lanes_go_on_where_each_of_them_was(
    epoch: int, lanes: dlbench.StudyResult, tmp_path: Path
) -> None:
    """After two lanes have stopped, and right after the second has."""

    def stop(event: object) -> None:
        if isinstance(event, messages.EpochEnded) and event.number == epoch + 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        in_lanes(tmp_path / "s", checkpoint_every=1, on_event=stop)
    trained: list[object] = []
    again = in_lanes(tmp_path / "s", on_event=trained.append)
    assert digests(again) == digests(lanes)
    assert [trial.history for trial in again] == [trial.history for trial in lanes]
    states = [event for event in trained if isinstance(event, messages.Notice)]
    assert not states, "every state was used"
    dlbench_command("results", str(tmp_path / "s"), "--check")
