"""Learning rate schedules: the factor by which the learning rate is multiplied at a step. No jax.

A schedule is a function of the step, in the operations of the array API, so it computes with the arrays of a compiled
program and with NumPy's, for tables and curves. Steps are counted from 0 over the whole training. Every schedule can
begin with a linear warm-up, whose length is given in epochs (``warmup``), in steps (``warmup_steps``), or as the sum of
both; what follows takes the remaining steps.

With ``per="epoch"`` the factor changes between epochs only, as in PyTorch where a scheduler is stepped once per epoch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlbench.spec.registry import SCHEDULES
from dlbench.spec.trial import TrialSpec

Array = Any  # of jax or of NumPy


@SCHEDULES.register(
    "constant",
    dynamic=("warmup", "warmup_steps"),
    ranges={"warmup": "[0, inf)", "warmup_steps": "[0, inf)"},
)
def constant(
    step: Array, steps_per_epoch: int, num_epochs: Array, warmup: float = 0.0, warmup_steps: float = 0.0
) -> Array:
    """The same rate at every step.

    Args:
        step: the step, a float32 array.
        steps_per_epoch: number of steps of an epoch.
        num_epochs: number of epochs of the training.
        warmup: epochs of warm-up.
        warmup_steps: steps of warm-up, in addition.

    Returns:
        The factor, in [0, 1].
    """
    return _warmed(
        step, step, _length(steps_per_epoch, warmup, warmup_steps), lambda done, total: 1.0 + 0 * done, 0
    )


@SCHEDULES.register(
    "cosine",
    dynamic=("final", "warmup", "warmup_steps"),
    ranges={"final": "[0, 1]", "warmup": "[0, inf)", "warmup_steps": "[0, inf)", "per": "step|epoch"},
)
def cosine(
    step: Array,
    steps_per_epoch: int,
    num_epochs: Array,
    final: float = 0.0,
    warmup: float = 0.0,
    warmup_steps: float = 0.0,
    per: str = "step",
) -> Array:
    """Half a period of a cosine, down to ``final`` times the rate.

    As ``torch.optim.lr_scheduler.CosineAnnealingLR``. Reference: Loshchilov and Hutter, "SGDR: stochastic gradient
    descent with warm restarts", 2017.
    """
    xp = _namespace(step)

    def shape(done: Array, total: Array) -> Array:
        return final + (1 - final) * (1 + xp.cos(math.pi * done / total)) / 2

    return _shaped(step, steps_per_epoch, num_epochs, warmup, warmup_steps, per, shape)


@SCHEDULES.register(
    "linear",
    dynamic=("final", "warmup", "warmup_steps"),
    ranges={"final": "[0, 1]", "warmup": "[0, inf)", "warmup_steps": "[0, inf)", "per": "step|epoch"},
)
def linear(
    step: Array,
    steps_per_epoch: int,
    num_epochs: Array,
    final: float = 0.0,
    warmup: float = 0.0,
    warmup_steps: float = 0.0,
    per: str = "step",
) -> Array:
    """A straight line down to ``final`` times the rate; as ``torch.optim.lr_scheduler.LinearLR``."""

    def shape(done: Array, total: Array) -> Array:
        return 1 - (1 - final) * done / total

    return _shaped(step, steps_per_epoch, num_epochs, warmup, warmup_steps, per, shape)


@SCHEDULES.register(
    "step",
    dynamic=("every", "factor", "warmup", "warmup_steps"),
    ranges={"every": "(0, inf)", "factor": "(0, 1]", "warmup": "[0, inf)", "warmup_steps": "[0, inf)"},
)
def step_decay(
    step: Array,
    steps_per_epoch: int,
    num_epochs: Array,
    every: float = 30.0,
    factor: float = 0.1,
    warmup: float = 0.0,
    warmup_steps: float = 0.0,
) -> Array:
    """Multiplied by ``factor`` after every so many epochs; as ``torch.optim.lr_scheduler.StepLR``.

    The epochs of the warm-up count.
    """
    xp = _namespace(step)
    length = _length(steps_per_epoch, warmup, warmup_steps)
    # The quotient of a step at which the rate drops may round to just below a whole number.
    drops = xp.floor(step / (every * steps_per_epoch) * (1 + 5e-7))
    return _warmed(step, step, length, lambda done, total: factor**drops, 0)


@SCHEDULES.register(
    "exponential",
    dynamic=("factor", "warmup", "warmup_steps"),
    ranges={"factor": "(0, 1]", "warmup": "[0, inf)", "warmup_steps": "[0, inf)", "per": "step|epoch"},
)
def exponential(
    step: Array,
    steps_per_epoch: int,
    num_epochs: Array,
    factor: float = 0.95,
    warmup: float = 0.0,
    warmup_steps: float = 0.0,
    per: str = "epoch",
) -> Array:
    """Multiplied by ``factor`` after every epoch; as ``torch.optim.lr_scheduler.ExponentialLR``."""

    def shape(done: Array, total: Array) -> Array:
        return factor ** (done / steps_per_epoch)

    return _shaped(step, steps_per_epoch, num_epochs, warmup, warmup_steps, per, shape)


@SCHEDULES.register(
    "one-cycle",
    dynamic=("rising", "initial", "final"),
    ranges={"rising": "(0, 1)", "initial": "(0, 1]", "final": "(0, 1]"},
)
def one_cycle(
    step: Array,
    steps_per_epoch: int,
    num_epochs: Array,
    rising: float = 0.3,
    initial: float = 0.04,
    final: float = 4e-6,
) -> Array:
    """Up from ``initial`` in a share of the steps, then down to ``final``, both along cosines.

    As ``torch.optim.lr_scheduler.OneCycleLR`` with the rate as ``max_lr``, and without its cycle of the momentum; its
    ``div_factor`` is 1 / ``initial``, its ``final_div_factor`` ``initial`` / ``final``. The warm-up is part of it.
    Reference: Smith and Topin, "Super-convergence", 2019.
    """
    xp = _namespace(step)
    total = steps_per_epoch * num_epochs
    top = rising * total - 1
    # One step is a training as well.
    up, down = xp.maximum(top, 1e-3 + 0 * top), xp.maximum(total - 1 - top, 1e-3 + 0 * top)

    def between(start: Array, end: Array, share: Array) -> Array:
        return end + (start - end) / 2 * (1 + xp.cos(math.pi * share))

    return xp.where(step <= top, between(initial, 1.0, step / up), between(1.0, final, (step - top) / down))


def is_constant(spec: TrialSpec) -> bool:
    """Whether every step of a trial has the same learning rate."""
    return spec.schedule == "constant" and not spec.schedule_args


def is_prefix(spec: TrialSpec, num_epochs: int) -> bool:
    """Whether a trial of fewer epochs has the same learning rates as this one, step by step, so that it can go on.

    Args:
        spec: a trial whose ``train_size`` is explicit.
        num_epochs: the number of epochs of the shorter trial.

    Returns:
        False for a schedule of the user's own, whose code is not run here.
    """
    if SCHEDULES.users(spec.schedule):
        return False
    assert spec.train_size is not None
    steps_per_epoch = -(-spec.train_size // spec.batch_size)
    steps = np.arange(num_epochs * steps_per_epoch, dtype=np.float32)
    schedule, arguments = SCHEDULES.load(spec.schedule), dict(spec.schedule_args)
    shorter, longer = (
        schedule(steps, steps_per_epoch, length, **arguments) for length in (num_epochs, spec.num_epochs)
    )
    return bool(np.array_equal(shorter, longer))


def epoch_rates(spec: TrialSpec) -> list[float]:
    """The learning rate of the first step of each epoch, for tables and curves.

    Args:
        spec: a trial whose ``train_size`` is explicit.

    Returns:
        A rate for each of its epochs; none for a schedule of the user's own, whose code is not run here.
    """
    if SCHEDULES.users(spec.schedule):
        return []
    assert spec.train_size is not None
    steps_per_epoch = -(-spec.train_size // spec.batch_size)
    first_steps = np.arange(spec.num_epochs, dtype=np.float32) * steps_per_epoch
    schedule = SCHEDULES.load(spec.schedule)
    factors = schedule(first_steps, steps_per_epoch, spec.num_epochs, **dict(spec.schedule_args))
    return [float(spec.learning_rate * factor) for factor in factors]


def _shaped(
    step: Array,
    steps_per_epoch: int,
    num_epochs: Array,
    warmup: Array,
    warmup_steps: Array,
    per: str,
    shape: Callable[[Array, Array], Array],
) -> Array:
    """A warm-up, and then a shape as a function of the steps that are done and of their total."""
    xp = _namespace(step)
    # In the middle of a step, no quotient is so near a whole number that it could round to the other side.
    at = step if per == "step" else xp.floor((step + 0.5) / steps_per_epoch) * steps_per_epoch
    length = _length(steps_per_epoch, warmup, warmup_steps)
    return _warmed(step, at, length, shape, steps_per_epoch * num_epochs)


def _length(steps_per_epoch: int, warmup: Array, warmup_steps: Array) -> Array:
    return warmup * steps_per_epoch + warmup_steps


def _warmed(
    step: Array, at: Array, length: Array, shape: Callable[[Array, Array], Array], total: Array
) -> Array:
    """A linear rise over ``length`` steps, whose last step has the full rate; then the shape."""
    if isinstance(length, float) and length == 0:
        return shape(at, total)
    xp = _namespace(step)
    left = xp.maximum(total - length, 1.0 + 0 * length)
    after = shape(xp.maximum(at - length, 0 * step), left)
    return xp.where(step < length, (step + 1) / xp.maximum(length, 1.0 + 0 * length), after)


def _namespace(array: Array) -> Any:
    return array.__array_namespace__()
