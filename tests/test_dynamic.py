"""Numbers that change no shape are arrays in the compiled program: a grid of them compiles once, to the same bits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from conftest import SMALL

import dlbench
from dlbench.execution import messages
from dlbench.execution.worker import Worker
from dlbench.records import Outcome
from dlbench.spec.trial import Trial

#: Everything that is off at 0 is on, so that the grids below share one program.
RECIPE: dict[str, Any] = {
    "model": "Stabilized",
    "optimizer": "sgd",
    "schedule": "cosine",
    "schedule.final": 0.1,
    "schedule.warmup_steps": 2,
    "criterion.label_smoothing": 0.1,
    "clip_norm": 0.1,
    "ema_decay": 0.9,
    "mixup": 0.25,
    "transform": "rotate+noise",
    **SMALL,
    "batch_size": 24,  # all steps are of one size, and are compiled once
    "train_size": 48,
}
#: Ten values each of the arguments that are arrays, by path.
AXES: Mapping[str, Sequence[float]] = {
    "learning_rate": [0.01 * value for value in range(1, 11)],
    "weight_decay": [0.01 * value for value in range(10)],
    "optimizer.momentum": [0.1 * value for value in range(10)],
    "model.dropout_rate": [0.05 * value for value in range(10)],
    "dropout": [0.05 * value for value in range(10)],
    "criterion.label_smoothing": [0.05 * value for value in range(1, 11)],
    "schedule.warmup_steps": [0.5 * value for value in range(1, 11)],
    "schedule.final": [0.1 * value for value in range(1, 11)],
    "transform.rotate.degrees": [float(value) for value in range(5, 15)],
    "transform.noise.std": [float(value) for value in range(5, 15)],
    "clip_norm": [0.02 * value for value in range(1, 11)],
    "ema_decay": [0.05 * value for value in range(1, 11)],
    "mixup": [0.1 * value for value in range(1, 11)],
}


def trials(axes: Mapping[str, Any]) -> tuple[Trial, ...]:
    return dlbench.plan(dlbench.grid(**axes)).trials


def with_axis(path: str, values: Sequence[Any]) -> dict[str, Any]:
    """The recipe with one field, or one argument of a part, as an axis."""
    return {name: value for name, value in RECIPE.items() if name != path} | {path: values}


class Finishing:
    """A worker in this process, and the outcomes of the trials that it has trained."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.worker = Worker(0, None, None, self.events.append)

    def train(self, trials: Iterable[Trial]) -> dict[str, Outcome]:
        for trial in trials:
            self.worker.run([trial])
        failed = [event for event in self.events if isinstance(event, messages.Failed)]
        assert not failed, failed[0].traceback
        return {each.trial_id: each.outcome for each in self.events if isinstance(each, messages.Finished)}

    def compiled(self) -> dict[str, int]:
        """How many executables there are of each function."""
        names = [key[0][0].__name__ for key in self.worker._executables]  # type: ignore[index]
        return {name: names.count(name) for name in names}


ONE_EACH = {"_read": 1, "draw": 1, "train_epoch": 1, "validate": 1, "predict": 1}


@pytest.mark.parametrize(
    "axes",
    [
        *({"model": "Stabilized", path: values} for path, values in AXES.items() if path != "mixup"),
        *(with_axis(path, values) for path, values in AXES.items()),
        {"mixup": AXES["mixup"]},
        {"optimizer": "adam", "optimizer.b1": AXES["model.dropout_rate"], "optimizer.eps": [1e-8, 1e-6]},
        {"schedule": "cosine", "learning_rate": AXES["learning_rate"], "num_epochs": [2, 3, 4]},
        {"schedule": "one-cycle", "schedule.rising": [0.1 * value for value in range(1, 10)]},
        {"optimizer": "muon", "optimizer.momentum": AXES["optimizer.momentum"]},
    ],
    ids=lambda axes: next(
        f"{name}{'-of-the-recipe' if 'ema_decay' in axes and 'mixup' in axes else ''}"
        for name, values in axes.items()
        if isinstance(values, list)
    ),
)
def test_a_grid_of_an_array_is_one_program(axes: dict[str, Any]) -> None:
    defaults = {"optimizer.": "sgd", "schedule.": "cosine", "transform.": "rotate+noise"}
    for start, part in defaults.items():
        if any(name.startswith(start) for name in axes):
            axes = {start[:-1]: part, **axes}
    planned = dlbench.plan(dlbench.grid(**axes | {"train_size": 72, "val_size": 32}))
    assert len({trial.id for trial in planned.trials}) >= 9
    assert len(planned.programs) == 1


@pytest.mark.parametrize(
    ("axes", "programs"),
    [
        ({"criterion.label_smoothing": [0.0, 0.1, 0.2]}, 2),
        ({"model": "Baseline", "model.dropout_rate": [0.0, 0.1, 0.2]}, 2),
        ({"mixup": [0, 0.1, 0.2]}, 2),
        ({"ema_decay": [0, 0.9, 0.99]}, 2),
        ({"clip_norm": [None, 1.0, 2.0]}, 2),
        ({"schedule": ["constant", "constant(warmup=1)", "constant(warmup=2)"]}, 2),
        ({"optimizer": ["rmsprop", "rmsprop(momentum=0.5)", "rmsprop(momentum=0.9)"]}, 2),
        ({"optimizer": ["sgd", "sgd(nesterov=True)"]}, 2),
        ({"patience": [None, 1, 2], "min_delta": [0.0]}, 1),
        ({"selection_metric": ["val/accuracy", "val/loss"]}, 2),
        ({"decay_on": ["all", "weights"]}, 2),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else str(value),
)
def test_what_is_off_is_another_program(axes: dict[str, Any], programs: int) -> None:
    assert len(dlbench.plan(dlbench.grid(**axes | {"train_size": 72, "val_size": 32})).programs) == programs


@pytest.fixture(scope="module")
def in_grids() -> tuple[Finishing, dict[str, Outcome]]:
    """Two values of each axis of the recipe, trained by one worker, one after another."""
    worker = Finishing()
    grids = [with_axis(path, [*values[2::5]]) for path, values in AXES.items() if path != "dropout"]
    grids.append(RECIPE | {"selection_metric": "val/loss"})
    return worker, worker.train(trial for axes in grids for trial in trials(axes))


def test_a_worker_compiles_once(in_grids: tuple[Finishing, dict[str, Outcome]]) -> None:
    worker, outcomes = in_grids
    assert len(outcomes) > 20
    assert worker.compiled() == ONE_EACH | {"validate": 2}, "one for each metric"


def test_every_array_is_used(in_grids: tuple[Finishing, dict[str, Outcome]]) -> None:
    """No value leaves the results as they are."""
    _, outcomes = in_grids
    *found, _ = outcomes.values()  # but the metric, which may choose the same epoch
    assert len({(outcome["params_sha256"], outcome["best_params_sha256"]) for outcome in found}) == len(found)


@pytest.mark.slow
def test_a_trial_has_the_bits_that_it_has_alone(in_grids: tuple[Finishing, dict[str, Outcome]]) -> None:
    _, together = in_grids
    (trial,) = trials(with_axis("optimizer.momentum", [AXES["optimizer.momentum"][7]]))
    alone = Finishing().train([trial])[trial.id]
    for name in ("params_sha256", "best_params_sha256", "history_sha256"):
        assert alone[name] == together[trial.id][name]


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {"model": "Baseline", "optimizer": "sgd", "optimizer.momentum": AXES["optimizer.momentum"]},
        {"model": "Baseline", "schedule": "cosine", "learning_rate": AXES["learning_rate"]},
        {"model": "Stabilized", "dropout": AXES["dropout"]},
        {"model": "Stabilized", "model.dropout_rate": AXES["model.dropout_rate"]},
        {"model": "Baseline", "criterion.label_smoothing": AXES["criterion.label_smoothing"]},
    ],
    ids=["momentum", "rate", "dropout", "dropout_rate", "label_smoothing"],
)
def test_ten_values_compile_once_and_have_the_bits_they_have_in_another_order(axes: dict[str, Any]) -> None:
    ten = trials(axes | SMALL)
    first, second = Finishing(), Finishing()
    outcomes = first.train(ten), second.train(reversed(ten))
    assert first.compiled() == second.compiled() == ONE_EACH
    for trial in ten:
        assert outcomes[0][trial.id]["params_sha256"] == outcomes[1][trial.id]["params_sha256"]
    assert len({outcome["params_sha256"] for outcome in outcomes[0].values()}) == 10
