"""Trials that share one compiled XLA program. No jax."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dlbench.spec.trial import Trial


@dataclass(frozen=True)
class Program:
    """Trials that share one compiled XLA program, in the order in which they run."""

    trials: tuple[Trial, ...]


def programs(trials: Iterable[Trial]) -> list[Program]:
    """Group trials by equality of everything static, in order of appearance."""
    groups: dict[object, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(program_of(trial), []).append(trial)
    return [Program(tuple(group)) for group in groups.values()]


def program_of(trial: Trial) -> tuple[object, ...]:
    """Everything static of a trial: equal for the trials of one program."""
    return trial.spec.static(), trial.data_digest, trial.model_digest, trial.part_digests, trial.lanes
