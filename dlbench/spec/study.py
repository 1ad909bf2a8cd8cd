"""A study: the trials that answer one question. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from dlbench.spec.trial import TrialSpec

#: How the trials of a study are laid out.
Design = Literal["single", "grid", "comparison"]
#: What stored studies, their folders, JSON and YAML files call a design, under the key ``kind``.
KINDS: Mapping[Design, str] = {"single": "train", "grid": "grid", "comparison": "compare-archs"}
#: The design by either of its names.
DESIGNS: Mapping[str, Design] = {kind: design for design, kind in KINDS.items()} | {d: d for d in KINDS}


class StudySpec(BaseModel):
    """A set of trials that answer one question.

    Args:
        design: how they are laid out. "single": one trial; "grid": every combination of some values; "comparison":
            several models, trained alike. ``kind``, with the names that stored studies use, is accepted too.
        trials: what to train, in the order of presentation, without duplicates.
        looks: numbers of seeds, fixed in advance, after which the data are looked at (see
            :mod:`dlbench.spec.looks`); none for a study of a fixed size.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    design: Design = "grid"
    trials: tuple[TrialSpec, ...]
    looks: tuple[int, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _accept_kind(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "kind" not in values:
            return values
        if "design" in values:
            raise ValueError("kind is another name of design; give one of them")
        others = {name: value for name, value in values.items() if name != "kind"}
        kind = values["kind"]
        return others | {"design": DESIGNS.get(kind, kind) if isinstance(kind, str) else kind}

    @property
    def kind(self) -> str:
        """What stored studies, their folders and JSON call the design."""
        return KINDS[self.design]

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
