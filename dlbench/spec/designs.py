"""Expand a study into trials, and group trials into programs. No jax."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from dlbench.errors import SpecError, shown
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import FLAGS, PARTS, TrialSpec, make_trial_spec

#: More trials than this are refused: a slip of the keyboard, not a study.
MAX_TRIALS = 100_000


def expand(
    axes: Mapping[str, Any], kind: Literal["train", "grid", "compare-archs"] = "grid", where: str = ""
) -> StudySpec:
    """The Cartesian product of the values of each field.

    Args:
        axes: value, or sequence (or range) of values, by field of :class:`~dlbench.spec.trial.TrialSpec`, or by the
            path of an argument of a named part (``model.dropout_rate``, ``optimizer.momentum``).
        kind: the kind of study.
        where: the place to name in an error.

    Raises:
        SpecError: an unknown field, an impossible value, an empty or repeated one.
        UnknownNameError: an unknown model, or an argument that a part does not take.
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
    canonical = _Canonical(where)
    for combination in itertools.product(*columns.values()):
        trials[canonical(dict(zip(columns, combination, strict=True)))] = None
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


class _Canonical:
    """Makes trials, each in the one form that equal trials share: parts by reference, no argument at its default.

    Args:
        where: the place to name in an error.
    """

    def __init__(self, where: str = "") -> None:
        self._where = where
        self._known: dict[tuple[str, str, Any], tuple[str, Any]] = {}

    def __call__(self, fields: Mapping[str, Any]) -> TrialSpec:
        plain = {name: value for name, value in fields.items() if "." not in name}
        by_path: dict[str, dict[str, Any]] = {}
        for path in (name for name in fields if name not in plain):
            name, _, argument = path.partition(".")
            if name not in PARTS or not argument.isidentifier():
                known = [*TrialSpec.model_fields, *(f"{part}.ARGUMENT" for part in PARTS)]
                raise self._error(f"unknown field {shown(path)}. Known: {', '.join(known)}.")
            by_path.setdefault(name, {})[argument] = fields[path]
        trial = make_trial_spec(plain, self._where)
        for name, values in by_path.items():
            field = f"{name}_args"
            given = dict(getattr(trial, field))
            if twice := sorted(given.keys() & values.keys()):
                raise self._error(
                    f"{name}.{twice[0]} is given beside {given[twice[0]]!r} with the {name}; keep one of them"
                )
            checked = make_trial_spec({field: given | values}, self._where)
            trial = trial.model_copy(update={field: getattr(checked, field)})
        update: dict[str, Any] = {}
        for name in PARTS:
            update[name], update[f"{name}_args"] = self._part(trial, name)
        if trial.dropout is not None and "dropout_rate" in dict(update["model_args"]):
            raise self._error("dropout and the model's argument dropout_rate name one rate; keep one of them")
        return trial.model_copy(update=update)

    def _part(self, trial: TrialSpec, name: str) -> tuple[str, Any]:
        key = name, getattr(trial, name), tuple((n, type(v), v) for n, v in getattr(trial, f"{name}_args"))
        if key not in self._known:
            reference = PARTS[name].resolve(key[1])
            self._known[key] = reference, PARTS[name].arguments(reference, getattr(trial, f"{name}_args"))
        return self._known[key]

    def _error(self, text: str) -> SpecError:
        return SpecError(f"{self._where}: {text}" if self._where else text)


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values[:8])) + (", ..." if len(values) > 8 else "")


def _repeats(name: str, values: Sequence[Any]) -> bool:
    canonical = _Canonical()
    return len({str(value) if "." in name else canonical({name: value}) for value in values}) < len(values)
