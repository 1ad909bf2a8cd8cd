"""Configurations: the trials of a study that repeat one another with other seeds."""

from __future__ import annotations

import functools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter, ne
from typing import Any

from dlbench.records import TrialStatus
from dlbench.spec.naming import phrase, setting
from dlbench.spec.trial import TrialSpec
from dlbench.stats import Interval, mean_interval
from dlbench.storage.results import TrialResult

#: Trials that differ in these alone repeat one configuration.
REPLICATES = ("seed", "split_seed")
#: Axes of heat maps.
NUMERIC = ("learning_rate", "weight_decay", "batch_size", "num_epochs", "dropout", "train_size")
#: What a caption says even where it is the default.
_ALWAYS = (
    "model",
    "dataset",
    "train_size",
    "val_size",
    "optimizer",
    "learning_rate",
    "batch_size",
    "num_epochs",
    "seed",
)


@dataclass(frozen=True)
class Configuration:
    """Trials that differ in nothing but their seeds."""

    spec: TrialSpec
    trials: tuple[TrialResult, ...]

    @functools.cached_property
    def complete(self) -> list[TrialResult]:
        """Those that ended with a result."""
        return [trial for trial in self.trials if trial.status is TrialStatus.COMPLETE]

    def interval(self, figure: str, confidence: float = 0.95) -> Interval | None:
        """Mean of a figure and its interval over seeds; ``None`` where no trial completed."""
        values = [value for trial in self.complete if (value := trial.value(figure)) is not None]
        return mean_interval(values, confidence) if values else None

    def mean(self, figure: str) -> float | None:
        """The mean alone."""
        values = [value for trial in self.complete if (value := trial.value(figure)) is not None]
        return statistics.fmean(values) if values else None

    def by_seed(self, figure: str) -> dict[tuple[int, int], float]:
        """A figure by seed and split."""
        specs = ((trial, trial.trial.spec) for trial in self.complete)
        return {(spec.seed, spec.split_seed or 0): trial.value(figure) for trial, spec in specs}

    @property
    def merit(self) -> tuple[float, float]:
        """Sorts as :meth:`StudyResult.best` chooses: by accuracy, then by loss, on validation images."""
        accuracy = self.mean("best_val_accuracy")
        if accuracy is None:
            return math.inf, math.inf
        loss = self.mean("best_val_loss")
        return -accuracy, math.inf if loss is None else loss

    def label(self, axes: Iterable[str]) -> str:
        """What tells it from the others."""
        return ", ".join(phrase(name, getattr(self.spec, name)) for name in axes) or setting(
            "model", self.spec.model
        )


def configurations(trials: Iterable[TrialResult]) -> list[Configuration]:
    """Group trials that differ in nothing but their seeds, in order of appearance."""
    groups: dict[object, list[TrialResult]] = {}
    settings = attrgetter(*(name for name in TrialSpec.model_fields if name not in REPLICATES))
    for trial in trials:
        groups.setdefault(settings(trial.trial.spec), []).append(trial)
    return [
        Configuration(group[0].trial.spec.model_copy(update=dict.fromkeys(REPLICATES, 0)), tuple(group))
        for group in groups.values()
    ]


def labelled(groups: Iterable[Configuration], axes: Sequence[str]) -> dict[str, Configuration]:
    """Configurations by label; two models of one name from different modules are told apart by their modules."""
    groups = list(groups)
    times = Counter(group.label(axes) for group in groups)
    return {
        label if times[label] == 1 else f"{label} ({group.spec.model})": group
        for group in groups
        for label in [group.label(axes)]
    }


def axes_of(trials: Sequence[TrialResult], without: Sequence[str] = REPLICATES) -> list[str]:
    """The fields that take more than one value."""
    specs = [trial.trial.spec for trial in trials]
    columns = {name: map(attrgetter(name), specs) for name in TrialSpec.model_fields if name not in without}
    varied = [name for name, values in columns.items() if any(map(ne, values, repeat(next(values, None))))]
    if "split_seed" in varied and all(spec.split_seed == spec.default_split_seed for spec in specs):
        varied.remove("split_seed")  # it says what the seed says
    return varied


def common(trials: Sequence[TrialResult], axes: Sequence[str] | None = None) -> str:
    """What the trials have in common, in one line; ``axes``: what they have not, seeds included, where known."""
    varied, spec = axes_of(trials, ()) if axes is None else axes, trials[0].trial.spec
    fixed = [(name, getattr(spec, name)) for name in TrialSpec.model_fields if name not in varied]
    usual = TrialSpec()
    if all(each.trial.spec.split_seed == each.trial.spec.default_split_seed for each in trials):
        fixed = [(name, value) for name, value in fixed if name != "split_seed"]  # it says what the seed says
    return ", ".join(phrase(n, value) for n, value in fixed if n in _ALWAYS or value != getattr(usual, n))


@dataclass(frozen=True)
class Plane:
    """Configurations over two numeric axes, all else equal.

    Attributes:
        label: what they have in common and other planes do not; "" for the only one.
        down: the field whose values go down.
        across: the field whose values go across.
        cells: the configurations by those values.
    """

    label: str
    down: str
    across: str
    cells: dict[tuple[Any, Any], Configuration]

    @property
    def downs(self) -> list[Any]:
        """The values that go down, in order; a model's own comes first."""
        return _in_order(first for first, _ in self.cells)

    @property
    def acrosses(self) -> list[Any]:
        """The values that go across, in order."""
        return _in_order(second for _, second in self.cells)


def _in_order(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values), key=lambda value: -1.0 if value is None else value)


def planes(groups: Iterable[Configuration], axes: Sequence[str]) -> list[Plane]:
    """One for each combination of the other axes, if exactly two are numeric."""
    numeric = [name for name in NUMERIC if name in axes]
    if len(numeric) != 2:
        return []
    found: dict[str, Plane] = {}
    for group in groups:
        label = ", ".join(phrase(name, getattr(group.spec, name)) for name in axes if name not in numeric)
        plane = found.setdefault(label, Plane(label, numeric[0], numeric[1], {}))
        plane.cells[getattr(group.spec, plane.down), getattr(group.spec, plane.across)] = group
    return list(found.values())


def tally(group: Configuration) -> str:
    """How many seeds stand behind its means: 5, or "4 of 5"."""
    complete, total = len(group.complete), len(group.trials)
    return str(total) if complete == total else f"{complete} of {total}"
