"""A study: the trials that answer one question. No jax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from dlbench.spec.spaces import SearchSpec
from dlbench.spec.trial import TrialSpec

#: The layout of a study's trials.
Design = Literal["single", "grid", "comparison", "ablation", "search"]
#: The name of each design in stored studies, folder names, JSON and YAML files, under the key ``kind``.
KINDS: Mapping[Design, str] = {
    "single": "train",
    "grid": "grid",
    "comparison": "compare-archs",
    "ablation": "ablate",
    "search": "search",
}
#: The design by either of its names.
DESIGNS: Mapping[str, Design] = {kind: design for design, kind in KINDS.items()} | {d: d for d in KINDS}


class StudySpec(BaseModel):
    """A set of trials that answer one question.

    Args:
        design: the layout of the trials. "single": one trial; "grid": every combination of some values; "comparison":
            several models, trained in the same way; "ablation": a base, whose trials come first, and changes of it;
            "search": configurations that are proposed from the results of earlier ones.
            ``kind``, with the names used in stored studies, is also accepted.
        trials: the trials, without duplicates, in the order in which they are shown.
        looks: numbers of seeds, fixed in advance, after which the data are looked at (see
            :mod:`dlbench.spec.looks`); empty for a study of a fixed size.
        search: how a search, or a comparison of tuned models, proposes its trials, of which ``trials`` are those
            proposed so far; ``None`` for other studies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    design: Design = "grid"
    trials: tuple[TrialSpec, ...]
    looks: tuple[int, ...] = ()
    search: SearchSpec | None = None

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
        """The name of the design in stored studies, folder names and JSON."""
        return KINDS[self.design]

    def as_asked(self) -> StudySpec:
        """The study without its split seeds if all of them are the defaults, so that seeds can be added to it."""
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
