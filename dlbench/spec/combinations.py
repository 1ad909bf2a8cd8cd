"""What fields of a trial must not have together, each of which is possible alone. No jax."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

from dlbench.errors import Field, SpecError, shown
from dlbench.spec.registry import OPTIMIZERS, SCHEDULES, label
from dlbench.spec.trial import PARTS, TrialSpec

#: The fields that the rules are about.
_FIELDS = (
    *PARTS,
    "schedule_args",
    "decay_mode",
    "decay_on",
    "mixup",
    "batch_size",
    "train_size",
    "num_epochs",
    "patience",
    "min_delta",
    "folds",
    "fold",
    "sampling",
    "val_from",
    "test_size",
    "vary",
)
_VALUES: Callable[[TrialSpec], tuple[Any, ...]] = operator.attrgetter(*_FIELDS)


def check(specs: Iterable[TrialSpec]) -> None:
    """Check trials whose sizes are explicit.

    Args:
        specs: the trials; those that are alike in what the rules are about are checked once.

    Raises:
        SpecError: fields contradict each other, or one has no effect without another.
    """
    for spec in {_VALUES(spec): spec for spec in specs}.values():
        for rule in (_requirements, _decay_of_ones_own, _min_delta, _mixup, _warmup, _fold, _split):
            rule(spec)


def _requirements(spec: TrialSpec) -> None:
    for part, registry in PARTS.items():
        name = getattr(spec, part)
        for field, needed in registry.signature(name).requires.items():
            value = getattr(spec, field)
            if value != needed:
                raise SpecError(
                    *(
                        f"the {registry.kind} {label(name)} needs ",
                        Field(field),
                        f" {needed}; got {shown(value)}",
                    ),
                    value=value,
                    remedy=f"leave it out, or take another {registry.kind}",
                )


def _decay_of_ones_own(spec: TrialSpec) -> None:
    """An optimizer that sees to the decay itself knows neither of the fields that say how."""
    if (
        spec.optimizer in OPTIMIZERS.built_in
        or "weight_decay" not in OPTIMIZERS.signature(spec.optimizer).arguments
    ):
        return
    for field in ("decay_mode", "decay_on"):
        value = getattr(spec, field)
        if value != TrialSpec.model_fields[field].default:
            raise SpecError(
                *(
                    Field(field),
                    f" {value} has no effect: the optimizer {label(spec.optimizer)} takes weight_decay ",
                ),
                "and applies it itself",
                value=value,
                remedy="leave it out",
            )


def _min_delta(spec: TrialSpec) -> None:
    if spec.min_delta and spec.patience is None:
        raise SpecError(
            *(Field("min_delta"), f" {spec.min_delta:g} has no effect without ", Field("patience")),
            value=spec.min_delta,
            remedy=("give ", Field("patience"), ", the number of epochs without improvement"),
        )


def _mixup(spec: TrialSpec) -> None:
    if spec.mixup and spec.batch_size == 1:
        raise SpecError(
            *(
                Field("mixup"),
                f" {spec.mixup:g} mixes the images of a batch, and ",
                Field("batch_size"),
                " is 1",
            ),
            value=spec.mixup,
            remedy="take batches of two images or more",
        )


def _warmup(spec: TrialSpec) -> None:
    """A rate that never reaches its highest value."""
    if spec.schedule not in SCHEDULES.built_in or spec.train_size is None:
        return
    arguments, steps = dict(spec.schedule_args), -(-spec.train_size // spec.batch_size)
    length = float(arguments.get("warmup", 0)) * steps + float(arguments.get("warmup_steps", 0))
    if length > steps * spec.num_epochs:
        field = "warmup" if "warmup" in arguments else "warmup_steps"
        raise SpecError(
            *(f"the warm-up takes {length:g} steps, but the training has {steps * spec.num_epochs:,} (",),
            *(Field("num_epochs"), f" {spec.num_epochs}, {steps:,} steps each)"),
            field=f"schedule.{field}",
            value=arguments[field],
            remedy="take a shorter warm-up",
        )


def _fold(spec: TrialSpec) -> None:
    if spec.folds is None and spec.fold:
        raise SpecError(
            *(Field("fold"), f" {spec.fold} has no effect without ", Field("folds")),
            value=spec.fold,
            remedy=("give ", Field("folds"), ", the number of folds"),
        )
    if spec.folds is not None and spec.fold >= spec.folds:
        raise SpecError.must_be("fold", f"0 to {spec.folds - 1}, as there are {spec.folds} folds", spec.fold)


def _split(spec: TrialSpec) -> None:
    """What draws a split excludes what deals folds, and images that no seed draws exclude splits that vary."""
    if spec.sampling == "first" and spec.vary == "split":
        raise SpecError(
            *(
                Field("vary"),
                " split has no effect with ",
                Field("sampling"),
                " first: no seed changes the split",
            ),
            value=spec.vary,
            remedy="leave one of them out",
        )
    excluded = {"folds": ("sampling", "val_from"), "test_size": ("val_from",)}
    for field, others in excluded.items():
        for other in others:
            value = getattr(spec, other)
            if getattr(spec, field) is not None and value != TrialSpec.model_fields[other].default:
                raise SpecError(
                    *(Field(other), f" {value} and ", Field(field), " exclude each other"),
                    value=value,
                    remedy="leave one of them out",
                )
