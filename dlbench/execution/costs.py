"""Estimates of the time and the disk space that a study takes. No jax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlbench.spec.programs import programs
from dlbench.spec.trial import Trial

#: Measured seconds that one core takes to train on one image, by model.
_IMAGE_S = {
    "SimpleCNN": 3e-4,
    "Baseline": 4.3e-5,
    "Stabilized": 4.8e-5,
    "High-Vision": 8e-5,
    "Modernist": 5e-5,
}
_DEFAULT_IMAGE_S = 1.2e-4
#: Seconds that one core takes to compile a program.
COMPILE_S = 3.0


def cost_s(trial: Trial) -> float:
    """Estimated seconds that one core takes for one trial, without compilation."""
    spec = trial.spec
    assert spec.train_size is not None
    assert spec.val_size is not None
    images = spec.num_epochs * (spec.train_size + spec.val_size / 3)
    small_batch = 1 + 4 / spec.batch_size
    return images * _IMAGE_S.get(spec.model, _DEFAULT_IMAGE_S) * small_batch


#: Number of parameters by model, for 28x28 grey images; for other models, an estimate on the high side.
_PARAMETERS = {"Baseline": 206_922, "Stabilized": 207_018, "High-Vision": 215_370, "Modernist": 206_922}
_DEFAULT_PARAMETERS = 1_199_882


def disk_bytes(trials: Iterable[Trial], workers: int) -> int:
    """Estimated bytes that a study writes: checkpoints, curves, predictions, and states of running trials."""
    kept, states = 0, [0]
    for trial in trials:
        parameters = 4 * _PARAMETERS.get(trial.spec.model, _DEFAULT_PARAMETERS)
        kept += parameters + 100_000 + 500 * trial.spec.num_epochs
        states.append(
            parameters * trial.lanes * 4 * 3
        )  # with optimizer state and best parameters; three at a time
    return kept + max(1, workers) * max(states)


def estimate_s(trials: Sequence[Trial], workers: int) -> float:
    """Estimated wall-clock seconds of a study with the given number of workers, including compilation."""
    groups = programs(trials)
    total = sum(map(cost_s, trials)) + COMPILE_S * len(groups)
    return max(total / workers, *map(cost_s, trials), 0.0) + COMPILE_S / 2 if trials else 0.0
