"""Estimates of what a study costs: seconds and bytes. No jax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlbench.spec.programs import programs
from dlbench.spec.trial import Trial

#: Seconds one core takes to train on an image, and to compile, measured; used until this machine is known.
_IMAGE_S = {
    "SimpleCNN": 3e-4,
    "Baseline": 4.3e-5,
    "Stabilized": 4.8e-5,
    "High-Vision": 8e-5,
    "Modernist": 5e-5,
}


_DEFAULT_IMAGE_S = 1.2e-4


COMPILE_S = 3.0


def cost_s(trial: Trial) -> float:
    """Estimated seconds of one core for one trial, compilation apart."""
    spec = trial.spec
    assert spec.train_size is not None
    assert spec.val_size is not None
    images = spec.num_epochs * (spec.train_size + spec.val_size / 3)
    small_batch = 1 + 4 / spec.batch_size
    return images * _IMAGE_S.get(spec.model, _DEFAULT_IMAGE_S) * small_batch


#: Parameters of the models, on 28x28 grey images; of others, a guess that is rather too high.
_PARAMETERS = {"Baseline": 206_922, "Stabilized": 207_018, "High-Vision": 215_370, "Modernist": 206_922}


_DEFAULT_PARAMETERS = 1_199_882


def disk_bytes(trials: Iterable[Trial], workers: int) -> int:
    """Estimated bytes that a study writes: checkpoints, curves, predictions, and the states of trials in hand."""
    kept, in_hand = 0, [0]
    for trial in trials:
        parameters = 4 * _PARAMETERS.get(trial.spec.model, _DEFAULT_PARAMETERS)
        kept += parameters + 100_000 + 500 * trial.spec.num_epochs
        in_hand.append(parameters * trial.lanes * 4 * 3)  # with the optimizer's and the best; three at once
    return kept + max(1, workers) * max(in_hand)


def estimate_s(trials: Sequence[Trial], workers: int) -> float:
    """Estimated wall-clock seconds of a study on so many workers, compilation included."""
    groups = programs(trials)
    total = sum(map(cost_s, trials)) + COMPILE_S * len(groups)
    return max(total / workers, *map(cost_s, trials), 0.0) + COMPILE_S / 2 if trials else 0.0
