"""Claims: statements about configurations that are made before the trials are run. No jax."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dlbench.errors import ConfigError
from dlbench.spec.metrics import Metric, metric
from dlbench.spec.registry import label, name_key
from dlbench.spec.trial import PARTS, REPLICATES, TrialSpec

#: A trial's place in a study: its seeds, and its fold.
Key = tuple[int, ...]


def key_of(spec: TrialSpec) -> Key:
    """The place of a trial in its study, which pairs it with a trial of another configuration."""
    return tuple(-1 if value is None else value for value in _PLACE(spec))


_PLACE: Callable[[TrialSpec], tuple[int | None, ...]] = operator.attrgetter(*REPLICATES)


@dataclass(frozen=True)
class Selection:
    """The trials on one side of a claim, and the metric that is compared; or a number in their place.

    Attributes:
        fields: the values allowed, by field of :class:`~dlbench.spec.trial.TrialSpec`; empty for a number.
        metric: the metric, by its key; "" for the one that the study's trials are chosen by, on test images.
        place: file and line.
        number: what the other side is compared with, in the unit of the metric; ``None`` for trials.
    """

    fields: tuple[tuple[str, tuple[Any, ...]], ...]
    metric: str = ""
    place: str = ""
    number: float | None = None

    def selects(self, spec: TrialSpec) -> bool:
        """Whether a trial is on this side."""
        return self.number is None and all(
            any(_same(spec, name, value) for value in values) for name, values in self.fields
        )


def _same(spec: TrialSpec, name: str, wanted: Any) -> bool:
    """Whether a trial has a value in a field; a part that is named without arguments may have any."""
    if name not in PARTS:
        return bool(value_of(spec, name) == wanted)
    named, arguments = PARTS[name].parse(wanted) or (wanted, ())
    value = getattr(spec, name)
    alike = value == named if ":" in named else name_key(label(value)) == name_key(named)
    return alike and all(value_of(spec, f"{name}.{key}") == given for key, given in arguments)


def value_of(spec: TrialSpec, name: str) -> Any:
    """The value of a field, or of a part's argument by its path, at its default where the trial names none."""
    part, _, argument = name.partition(".")
    if not argument:
        return getattr(spec, name)
    argument = PARTS[part].full_name(getattr(spec, part), argument)
    declared = PARTS[part].signature(getattr(spec, part)).arguments
    return dict(spec.arguments(part)).get(argument, declared.get(argument))


@dataclass(frozen=True)
class Claim:
    """A statement that trials can support or contradict.

    Attributes:
        says: the statement in words, as reports quote it.
        first: the side that is said to be better, or to vary more.
        second: the other side.
        spread: whether the claim is about the variation between seeds instead of the mean.
        points: the difference that is claimed, in the unit of the metric; ``None`` if the claim names none.
        smallest_effect: the smallest difference of interest, in the unit of the metric; ``None`` for that of the study
            or the metric.
        smallest_points: that of the study, for metrics in points; ``None`` for that of the metric.
        source: who made the claim; "" for the study's authors.
    """

    says: str
    first: Selection
    second: Selection
    spread: bool = False
    points: float | None = None
    smallest_effect: float | None = None
    smallest_points: float | None = None
    source: str = ""

    @property
    def metric(self) -> Metric:
        """The unit of the difference, and its better direction."""
        return metric(self.first.metric or "test_accuracy")

    def measured_by(self, default: str) -> Claim:
        """The claim with a metric, by its key, for the sides that name none.

        Raises:
            ConfigError: the sides are measured in different units.
        """
        first, second = (replace(side, metric=side.metric or default) for side in (self.first, self.second))
        if metric(first.metric) != metric(second.metric):
            raise ConfigError(f"{first.metric} and {second.metric} cannot be compared", place=second.place)
        return replace(self, first=first, second=second)

    @property
    def margin(self) -> float:
        """The smallest difference of interest, in the unit of the metric."""
        shared = self.smallest_points if self.metric.unit == "points" else None
        stated = (each for each in (self.smallest_effect, shared) if each is not None)
        return next(stated, self.metric.smallest_effect)


def check(claims: Sequence[Claim], trials: Sequence[TrialSpec]) -> None:
    """Check that both sides of every claim select trials of the study, and that no trial is on both sides.

    Raises:
        ConfigError: a side selects no trial, or a trial is on both sides. The error names file and line, and the
            values that occur in the study.
    """
    for claim in claims:
        chosen = [selected(side, trials) for side in (claim.first, claim.second)]
        if chosen[0] & chosen[1] and claim.first.metric == claim.second.metric:
            raise ConfigError(
                f"{len(chosen[0] & chosen[1])} trials are on both sides of this claim",
                place=claim.second.place,
                remedy="name a field in which the sides differ",
            )


def selected(side: Selection, trials: Sequence[TrialSpec]) -> set[TrialSpec]:
    """The trials that a side selects; none if it is a number.

    Raises:
        ConfigError: there are none in the study.
    """
    found = {spec for spec in trials if side.selects(spec)}
    if side.number is None and not found:
        raise ConfigError(f"this selects no trial of the study; {_known(side, trials)}", place=side.place)
    return found


def _known(side: Selection, trials: Sequence[TrialSpec]) -> str:
    """The values in the study of the fields that a side names."""
    known = {
        name: list(dict.fromkeys(str(value_of(spec, name)) for spec in trials)) for name, _ in side.fields
    }
    return "; ".join(
        f"{name} is {', '.join(values[:8])}{', ...' if len(values) > 8 else ''} there"
        for name, values in known.items()
    )
