"""Estimates of the time and the disk space that a study takes. No jax."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from dlbench import data
from dlbench.execution import rates
from dlbench.models.counts import Counts, Request, at_hand
from dlbench.spec.parts import Arguments
from dlbench.spec.programs import programs
from dlbench.spec.trial import Trial, TrialSpec

#: Seconds that one core takes to train on an image: a fixed part, and one in proportion to its FLOPs. Fitted to one
#: core of a Xeon (Sapphire Rapids) with the compiled kernels: within 15 % of the 43, 48, 80, 50 and 300 µs measured for
#: Baseline, Stabilized, High-Vision, Modernist and SimpleCNN.
_ANY_IMAGE_S = 1.5e-5
_FLOPS_PER_S = 2.5e11
#: For models whose FLOPs are not counted: in the middle of the built-in ones.
_UNCOUNTED_IMAGE_S = 1.2e-4
_UNCOUNTED_PARAMETERS = 1_200_000

#: Seconds that one core takes to compile a program.
COMPILE_S = 3.0


def request_of(spec: TrialSpec) -> Request | None:
    """What to count of a trial's model; ``None`` where the shape of its images is not known beforehand."""
    images = data.images_of(spec.dataset)
    return images and Request(spec.model, counted_arguments(spec), *images)


def counted_arguments(spec: TrialSpec) -> Arguments:
    """The arguments of a model on which its operations can depend: not those that are arrays in its program."""
    dynamic = spec.dynamic()
    return tuple(each for each in spec.arguments("model") if f"model.{each[0]}" not in dynamic)


def cost_s(trial: Trial) -> float:
    """Estimated seconds that one core of this machine takes for one trial, without compilation."""
    spec = trial.spec
    assert spec.train_size is not None
    assert spec.val_size is not None
    images = spec.num_epochs * (spec.train_size + spec.val_size / 3)
    return images * _image_s(spec) * rates.ratio(_rated(spec))


def learn(trials: Iterable[tuple[Trial, float]]) -> None:
    """Estimate as the latest trials went.

    Args:
        trials: trials, each with the seconds of training alone.
    """
    rates.learn(
        (
            _rated(trial.spec),
            trial.spec.num_epochs * (trial.spec.train_size or 0) * _image_s(trial.spec),
            took_s,
        )
        for trial, took_s in trials
    )


def _image_s(spec: TrialSpec) -> float:
    """Seconds to train on an image, on the processor on which the constants were measured."""
    counts = _counts(spec.model, counted_arguments(spec), spec.dataset)
    image_s = _ANY_IMAGE_S + counts.training_flops / _FLOPS_PER_S if counts else _UNCOUNTED_IMAGE_S
    return image_s * (1 + 4 / spec.batch_size)


def _rated(spec: TrialSpec) -> str:
    """The model with everything on which its speed depends."""
    return _named(spec.model, counted_arguments(spec), spec.dataset)


@functools.lru_cache(maxsize=1024)  # trials by the ten thousand share a few models
def _named(model: str, arguments: Arguments, dataset: str) -> str:
    return f"{model} {dict(arguments)} {data.shape_of(dataset)}"


def disk_bytes(trials: Iterable[Trial], workers: int) -> int:
    """Estimated bytes that a study writes: checkpoints, curves, predictions, and states of running trials."""
    kept, states = 0, [0]
    for trial in trials:
        counts = _counts(trial.spec.model, counted_arguments(trial.spec), trial.spec.dataset)
        parameters = 4 * (counts.parameters if counts else _UNCOUNTED_PARAMETERS)
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


@functools.lru_cache(maxsize=1024)  # trials by the ten thousand share a few models
def _counts(model: str, model_args: Arguments, dataset: str) -> Counts | None:
    """What is known of a model without counting it now."""
    images = data.shape_of(dataset)
    return images and at_hand(Request(model, model_args, *images))
