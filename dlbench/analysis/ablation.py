"""The effects of the changes in an ablation or a factorial design. No jax."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dlbench.analysis.comparison import compared_metric
from dlbench.analysis.configurations import Configuration, configurations
from dlbench.analysis.failures import measured
from dlbench.analysis.looks import ALPHA
from dlbench.errors import InputError
from dlbench.spec.claims import Key, value_of
from dlbench.spec.naming import setting
from dlbench.spec.trial import PARTS, REPLICATES, TrialSpec
from dlbench.stats import Comparison, compare_groups, holm
from dlbench.storage.results import StudyRecord

#: Changes of settings: value by path.
Changes = Mapping[str, Any]
#: The same as a key.
_Cell = frozenset[tuple[str, Any]]


@dataclass(frozen=True)
class Effect:
    """What a change does, or, of two changes, what one does to the effect of the other.

    Attributes:
        changes: one change, or the two of an interaction.
        comparison: with the change against without it, replicate by replicate; ``None`` with fewer than two replicates
            of which all configurations have a result. In a factorial design, an effect is averaged over the values of
            the other settings. An interaction is the effect of one change with the other, less its effect without.
        p_adjusted: the p-value after Holm's correction over the effects, or over the interactions.
    """

    changes: Changes
    comparison: Comparison | None
    p_adjusted: float

    @property
    def supported(self) -> bool:
        """Whether the data support an effect."""
        return self.p_adjusted <= ALPHA


@dataclass(frozen=True)
class Ablation:
    """What may be concluded from an ablation or a factorial design.

    Attributes:
        metric: the metric that is compared.
        configurations: the configurations, the base first, each with its changes.
        effects: the effect of each change.
        interactions: of each two changes of different settings; empty unless the design is factorial.
        num_replicates: seeds and folds that the effects are computed from.
    """

    metric: str
    configurations: tuple[tuple[Changes, Configuration], ...]
    effects: tuple[Effect, ...]
    interactions: tuple[Effect, ...]
    num_replicates: int

    @property
    def is_factorial(self) -> bool:
        """Whether changes are combined."""
        return any(len(changes) > 1 for changes, _ in self.configurations)


def ablation(result: StudyRecord, metric: str | None = None) -> Ablation:
    """The effects of the changes of a study whose first trial is one of the base.

    Trials that diverged or collapsed count as failures (:func:`~dlbench.analysis.failures.measured`). Replicates that
    some configuration has no result of are left out of all effects in a factorial design, and out of the effect of that
    configuration otherwise.

    Args:
        result: the study.
        metric: the metric to compare, "test/accuracy" or ``test_accuracy``; by default
            :func:`~dlbench.analysis.comparison.compared_metric`.

    Raises:
        UnknownNameError: there is no such metric.
    """
    metric = metric or compared_metric(result.trials)
    groups = configurations(result.trials)
    base = groups[0].spec
    found = tuple((changes_of(base, group.spec), group) for group in groups)
    keys = [frozenset(changes.items()) for changes, _ in found]
    values = measured(dict(zip(keys, groups, strict=True)), metric)
    cells: _Cells = {key: values.get(key, {}) for key in keys}
    mixtures = [key for key, group in zip(keys, groups, strict=True) if group.is_mixture]
    single = list(dict.fromkeys(pair for changes, _ in found for pair in changes.items()))
    shared = _shared(cells.values())

    def family(effects: Iterable[tuple[Sequence[tuple[str, Any]], _Values]]) -> tuple[Effect, ...]:
        return _family([*effects], groups[0].overlap, mixtures)

    if any(len(changes) > 1 for changes, _ in found):
        effects = family(((pair,), _main(cells, pair, shared)) for pair in single)
        pairs = [(a, b) for a, b in itertools.combinations(single, 2) if a[0] != b[0]]
        interactions = family((pair, _interaction(cells, *pair, shared)) for pair in pairs)
    else:
        effects = family(((pair,), _against_base(cells, pair)) for pair in single)
        interactions = ()
    return Ablation(metric, found, effects, interactions, len(shared))


def changes_of(base: TrialSpec, spec: TrialSpec) -> dict[str, Any]:
    """The settings in which a configuration differs from the base, with its own values, by path."""
    found: dict[str, Any] = {}
    for name in TrialSpec.model_fields:
        own, other = getattr(spec, name), getattr(base, name)
        if name in REPLICATES or own == other:
            continue
        part = name.removesuffix("_args")
        if part not in PARTS:
            found[name] = own
        elif getattr(spec, part) != getattr(base, part):
            found[part] = PARTS[part].text(getattr(spec, part), getattr(spec, f"{part}_args"))
        else:
            mine, its = dict(own), dict(other)
            for argument in sorted(mine.keys() | its.keys()):
                if mine.get(argument) != its.get(argument):
                    found[f"{part}.{argument}"] = _argument(spec, part, argument)
    return found


def change_text(changes: Changes) -> str:
    """Changes as people write them: "batch_norm=False, lr=0.01"; "base" where there is none."""
    return ", ".join(
        f"{path.removeprefix('model.')}={_value(path, value)}" for path, value in changes.items()
    ) or ("base")


def _value(path: str, value: Any) -> str:
    return str(value) if "." in path else setting(path, value)


def _argument(spec: TrialSpec, part: str, argument: str) -> Any:
    try:
        return value_of(spec, f"{part}.{argument}")
    except InputError:  # the source of a user's part is not at hand
        return dict(spec.arguments(part)).get(argument, "default")


def _shared(cells: Iterable[Mapping[Key, float]]) -> list[Key]:
    return sorted(set.intersection(*map(set, cells)))


_Cells = Mapping[_Cell, Mapping[Key, float]]
#: The values with a change and without it, by replicate, and the cells that they come from.
_Values = tuple[Mapping[Key, float], Mapping[Key, float], Iterable[_Cell]]


def _against_base(cells: _Cells, change: tuple[str, Any]) -> _Values:
    compared = frozenset([change]), frozenset[tuple[str, Any]]()
    changed, base = (cells[cell] for cell in compared)
    return changed, base, compared


def _main(cells: _Cells, change: tuple[str, Any], shared: Sequence[Key]) -> _Values:
    """The mean over the cells with a change, and over the same cells without it."""
    changed = [cell for cell in cells if change in cell]
    without = [cell - {change} for cell in changed]
    return _means(cells, changed, shared), _means(cells, without, shared), (*changed, *without)


def _interaction(
    cells: _Cells, first: tuple[str, Any], second: tuple[str, Any], shared: Sequence[Key]
) -> _Values:
    """Both and neither, against one and the other: their difference is that of the effects of one change."""
    both = [cell for cell in cells if {first, second} <= cell]
    neither = [cell - {first, second} for cell in both]
    one, other = [cell - {first} for cell in both], [cell - {second} for cell in both]
    sums = [
        {key: 2 * value for key, value in _means(cells, [*a, *b], shared).items()}
        for a, b in ((both, neither), (one, other))
    ]
    return sums[0], sums[1], (*both, *neither, *one, *other)


def _means(cells: _Cells, chosen: Sequence[_Cell], shared: Sequence[Key]) -> dict[Key, float]:
    return {key: statistics.fmean(cells[cell][key] for cell in chosen) for key in shared}


def _family(
    found: Sequence[tuple[Sequence[tuple[str, Any]], _Values]], overlap: float, mixtures: Collection[_Cell]
) -> tuple[Effect, ...]:
    """Effects that are tested together, by ranks where some trials of a configuration failed and others did not."""
    tests = [
        compare_groups(a, b, overlap=overlap, by_ranks=any(cell in mixtures for cell in compared))
        if len(a.keys() & b.keys()) > 1
        else None
        for _, (a, b, compared) in found
    ]
    p_values = [1.0 if test is None or math.isnan(test.p_value) else test.p_value for test in tests]
    return tuple(
        Effect(dict(changes), test, p)
        for (changes, _), test, p in zip(found, tests, holm(p_values), strict=True)
    )
