"""Claims: what is said of configurations before they are trained. No jax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.errors import ConfigError
from dlbench.spec import parts
from dlbench.spec.registry import label, name_key
from dlbench.spec.trial import PARTS, TrialSpec

#: A trial's place in a study: seed and seed of the split.
Key = tuple[int, int]


@dataclass(frozen=True)
class Measure:
    """A figure of a trial that a claim may be about.

    Attributes:
        unit: what its differences are shown in.
        factor: from the figure to that unit.
        lower_is_better: true of losses and times.
    """

    unit: str
    factor: float = 1.0
    lower_is_better: bool = False


_POINTS, _SECONDS = Measure("points", 100.0), Measure("s", lower_is_better=True)


_NATS, _EPOCHS = Measure("nats", lower_is_better=True), Measure("epochs", lower_is_better=True)


MEASURES: Mapping[str, Measure] = {
    "test_accuracy": _POINTS,
    "test_accuracy_augmented": _POINTS,
    "best_val_accuracy": _POINTS,
    "macro_precision": _POINTS,
    "macro_recall": _POINTS,
    "macro_f1": _POINTS,
    "roc_auc": _POINTS,
    "test_loss": _NATS,
    "best_val_loss": _NATS,
    "best_epoch": _EPOCHS,
    "convergence_epoch": _EPOCHS,
    "train_time_s": _SECONDS,
    "eval_time_s": _SECONDS,
    "compile_time_s": _SECONDS,
    "io_time_s": _SECONDS,
    "images_per_s": Measure("images/s"),
}


@dataclass(frozen=True)
class Selection:
    """The trials that one side of a claim is about.

    Attributes:
        fields: the values allowed, by field of :class:`~dlbench.spec.trial.TrialSpec`.
        figure: what is compared, a key of ``MEASURES``.
        place: file and line.
    """

    fields: tuple[tuple[str, tuple[Any, ...]], ...]
    figure: str = "test_accuracy"
    place: str = ""

    def selects(self, spec: TrialSpec) -> bool:
        """Whether a trial belongs to it."""
        return all(any(_same(spec, name, value) for value in values) for name, values in self.fields)


def _same(spec: TrialSpec, name: str, wanted: Any) -> bool:
    """Whether a trial has a value in a field; a part that is named without arguments may have any."""
    if name not in PARTS:
        return bool(value_of(spec, name) == wanted)
    part = parts.parse(wanted)
    value = getattr(spec, name)
    alike = value == part.name if ":" in part.name else name_key(label(value)) == name_key(part.name)
    return alike and all(value_of(spec, f"{name}.{key}") == given for key, given in part.arguments)


def value_of(spec: TrialSpec, name: str) -> Any:
    """The value of a field, or of a part's argument by its path, at its default where the trial names none."""
    part, _, argument = name.partition(".")
    if not argument:
        return getattr(spec, name)
    declared = PARTS[part].signature(getattr(spec, part)).arguments
    return dict(getattr(spec, f"{part}_args")).get(argument, declared.get(argument))


@dataclass(frozen=True)
class Claim:
    """One sentence that trials can support or contradict.

    Attributes:
        says: the sentence, as it is quoted.
        first: what it says is better, or varies more.
        second: than what.
        spread: whether it is about the variation between seeds, not about the mean.
        points: the difference it states, in the unit of the figure; ``None`` if it states none.
    """

    says: str
    first: Selection
    second: Selection
    spread: bool = False
    points: float | None = None

    @property
    def measure(self) -> Measure:
        """What its difference is measured in."""
        return MEASURES[self.first.figure]


def check(claims: Sequence[Claim], trials: Sequence[TrialSpec]) -> None:
    """Make sure that both sides of every claim select trials of the study, and no trial is on both.

    Raises:
        ConfigError: with file and line of the side, and the values that the study has.
    """
    for claim in claims:
        chosen = []
        for side in (claim.first, claim.second):
            chosen.append({spec for spec in trials if side.selects(spec)})
            if not chosen[-1]:
                problem = f"this selects no trial of the study; {_known(side, trials)}"
                raise ConfigError(problem, place=side.place)
        if chosen[0] & chosen[1] and claim.first.figure == claim.second.figure:
            raise ConfigError(
                f"{len(chosen[0] & chosen[1])} trials are on both sides of this claim",
                place=claim.second.place,
                remedy="name a field in which the sides differ",
            )


def _known(side: Selection, trials: Sequence[TrialSpec]) -> str:
    """The values that the study has of the fields that a side names."""
    known = {
        name: list(dict.fromkeys(str(value_of(spec, name)) for spec in trials)) for name, _ in side.fields
    }
    return "; ".join(
        f"{name} is {', '.join(values[:8])}{', ...' if len(values) > 8 else ''} there"
        for name, values in known.items()
    )
