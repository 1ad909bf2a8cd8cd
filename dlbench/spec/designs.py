"""Expand a study into trials, and group trials into programs. No jax."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from dlbench.errors import SpecError, shown
from dlbench.spec import registry
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import FLAGS, TrialSpec, make_trial_spec

#: More trials than this are refused: a slip of the keyboard, not a study.
MAX_TRIALS = 100_000


def expand(
    axes: Mapping[str, Any], kind: Literal["train", "grid", "compare-archs"] = "grid", where: str = ""
) -> StudySpec:
    """The Cartesian product of the values of each field.

    Args:
        axes: value, or sequence (or range) of values, by field of :class:`~dlbench.spec.trial.TrialSpec`.
        kind: the kind of study.
        where: the place to name in an error.

    Raises:
        SpecError: an unknown field, an impossible value, an empty or repeated one.
        UnknownNameError: an unknown model.
    """
    columns = {name: _values(name, value, where) for name, value in axes.items()}
    count = 1
    for values in columns.values():
        count *= len(values)
    if count > MAX_TRIALS:
        raise SpecError(
            f"the grid has {count:,} trials; at most {MAX_TRIALS:,} are allowed: take values away"
        )
    trials: dict[TrialSpec, None] = {}
    for combination in itertools.product(*columns.values()):
        trial = make_trial_spec(dict(zip(columns, combination, strict=True)), where)
        trials[trial.model_copy(update={"model": registry.resolve_model(trial.model)})] = None
    if len(trials) < count:
        column = next((n for n, v in columns.items() if _repeats(n, v)), "?")
        raise SpecError(
            f"{where + ': ' if where else ''}{FLAGS.get(column, column)} names a value twice: "
            f"{_listed(columns[column])}; name each once"
            if column in columns
            else f"{count - len(trials)} trials of the grid are the same as others; name each value once"
        )
    return StudySpec(kind=kind, trials=tuple(trials))


def union(studies: Iterable[StudySpec]) -> StudySpec:
    """One study of all the trials of several, each once."""
    parts = list(studies)
    trials = dict.fromkeys(trial for study in parts for trial in study.trials)
    return StudySpec(kind=parts[0].kind, trials=tuple(trials))


def _values(name: str, value: Any, where: str) -> Sequence[Any]:
    values = values_of(value)
    if not values:
        place = f"{where}: " if where else ""
        raise SpecError(f"{place}{FLAGS.get(name, name)} has no value; give at least one")
    return values


def values_of(value: Any) -> list[Any]:
    """One value, or the values of an iterable; text and mappings are one value."""
    return [value] if isinstance(value, str | Mapping) or not isinstance(value, Iterable) else list(value)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values[:8])) + (", ..." if len(values) > 8 else "")


def _repeats(name: str, values: Sequence[Any]) -> bool:
    seen = {getattr(make_trial_spec({name: value}), name) for value in values}
    if name == "model":
        seen = {registry.resolve_model(value) for value in seen}
    return len(seen) < len(values)
