"""A study: the trials that answer one question. No jax."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dlbench.spec.trial import TrialSpec


class StudySpec(BaseModel):
    """A set of trials that answer one question.

    Args:
        kind: the command whose question it is: "train", "grid" or "compare-archs".
        trials: what to train, in the order of presentation, without duplicates.
        looks: numbers of seeds, fixed in advance, after which the data are looked at (see
            :mod:`dlbench.spec.looks`); none for a study of a fixed size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["train", "grid", "compare-archs"] = "grid"
    trials: tuple[TrialSpec, ...]
    looks: tuple[int, ...] = ()

    def as_asked(self) -> StudySpec:
        """The same study with split seeds left out if all of them are the defaults: for adding seeds to it."""
        if any(trial.split_seed != trial.default_split_seed for trial in self.trials):
            return self
        trials = tuple(trial.model_copy(update={"split_seed": None}) for trial in self.trials)
        return self.model_copy(update={"trials": trials})

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The fields that take more than one value, with their values in order of appearance."""
        columns = {
            name: tuple(dict.fromkeys(getattr(trial, name) for trial in self.trials))
            for name in TrialSpec.model_fields
        }
        return {name: values for name, values in columns.items() if len(values) > 1}
