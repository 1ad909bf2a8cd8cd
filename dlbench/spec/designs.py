"""Lay out the trials of a study: every combination of values, from one grid or several. No jax."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

from dlbench.errors import Field, SpecError, shown
from dlbench.spec import registry
from dlbench.spec.naming import ALIASES
from dlbench.spec.study import Design, StudySpec
from dlbench.spec.trial import TrialSpec, make_trial_spec

#: More trials than this are refused: a slip of the keyboard, not a study.
MAX_TRIALS = 100_000


def expand(axes: Mapping[str, Any], design: Design = "grid", place: str | None = None) -> StudySpec:
    """The Cartesian product of the values of each field.

    Args:
        axes: value, or sequence (or range) of values, by field of :class:`~dlbench.spec.trial.TrialSpec`. The short
            names of :data:`~dlbench.spec.naming.ALIASES` are accepted; ``seeds`` may be a number of seeds.
        design: the design of the study.
        place: where the values come from, to name in an error.

    Raises:
        SpecError: an unknown field, an impossible value, an empty or repeated one.
        UnknownNameError: an unknown model.
    """
    columns = _columns(axes, place)
    count = 1
    for values in columns.values():
        count *= len(values)
    if count > MAX_TRIALS:
        raise SpecError(
            f"the grid has {count:,} trials; at most {MAX_TRIALS:,} are allowed",
            place=place,
            remedy="take values away",
        )
    trials: dict[TrialSpec, None] = {}
    for combination in itertools.product(*columns.values()):
        trial = make_trial_spec(dict(zip(columns, combination, strict=True)), place)
        trials[trial.model_copy(update={"model": registry.resolve_model(trial.model)})] = None
    if len(trials) < count:
        raise _repetition(columns, count - len(trials), place)
    return StudySpec(design=design, trials=tuple(trials))


def union(studies: Iterable[StudySpec]) -> StudySpec:
    """One study of all the trials of several, each once."""
    parts = list(studies)
    trials = dict.fromkeys(trial for study in parts for trial in study.trials)
    return StudySpec(design=parts[0].design, trials=tuple(trials))


def check_comparison(study: StudySpec) -> StudySpec:
    """Make sure that there is something to compare, and return the study.

    Raises:
        SpecError: fewer than two models.
    """
    models = dict.fromkeys(trial.model for trial in study.trials)
    if len(models) < 2:
        named = (" ", *map(registry.label, models)) if models else ()
        raise SpecError(
            *("a comparison needs two models or more; got ", Field("model"), *named),
            value=tuple(models),
            remedy="name another model",
        )
    return study


def first_seeds(count: object, field: str = "seeds") -> range:
    """The seeds 0 to ``count`` - 1.

    Args:
        count: how many.
        field: the field that says so, for the error.

    Raises:
        SpecError: no possible number of seeds.
    """
    if isinstance(count, bool) or not isinstance(count, Integral) or not 1 <= int(count) <= MAX_TRIALS:
        raise SpecError.must_be(field, f"a whole number from 1 to {MAX_TRIALS:,}", count)
    return range(int(count))


def values_of(value: Any) -> list[Any]:
    """One value, or the values of an iterable; text and mappings are one value."""
    return [value] if _is_one(value) else list(value)


def _is_one(value: object) -> bool:
    return isinstance(value, str | Mapping) or not isinstance(value, Iterable)


def _columns(axes: Mapping[str, Any], place: str | None) -> dict[str, list[Any]]:
    """The values of each field, under the field's own name."""
    columns: dict[str, list[Any]] = {}
    for name, value in axes.items():
        field, values = ALIASES.get(name, name), values_of(value)
        if field in columns:
            first = next(other for other in axes if ALIASES.get(other, other) == field)
            raise SpecError(
                *(Field(first), " and ", Field(name), " are the same field"),
                place=place,
                remedy="give one of them",
            )
        if not values:
            raise SpecError(Field(name), " has no value", place=place, remedy="give at least one")
        columns[field] = list(first_seeds(value)) if name == "seeds" and _is_one(value) else values
    return columns


def _repetition(columns: Mapping[str, Sequence[Any]], count: int, place: str | None) -> SpecError:
    """The error of a grid in which some trials are the same."""
    for name, values in columns.items():
        if _repeats(name, values):
            return SpecError(
                *(Field(name), f" names a value twice: {_listed(values)}"),
                value=values,
                place=place,
                remedy="name each once",
            )
    return SpecError(
        f"{count} trials of the grid are the same as others", place=place, remedy="name each value once"
    )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values[:8])) + (", ..." if len(values) > 8 else "")


def _repeats(name: str, values: Sequence[Any]) -> bool:
    seen = {getattr(make_trial_spec({name: value}), name) for value in values}
    if name == "model":
        seen = {registry.resolve_model(value) for value in seen}
    return len(seen) < len(values)
