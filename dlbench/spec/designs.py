"""Lay out the trials of a study: every combination of values, from one grid or several. No jax."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

from dlbench.errors import Field, SpecError, shown, unknown
from dlbench.spec import registry, seeds
from dlbench.spec.naming import ALIASES
from dlbench.spec.study import Design, StudySpec
from dlbench.spec.trial import PARTS, TrialSpec, check_values, make_trial_spec

#: More trials than this are refused: a slip of the keyboard, not a study.
MAX_TRIALS = 100_000
#: The part that a field is about, where its name does not say so.
_ABOUT = {f"{part}_args": part for part in PARTS} | {"dropout": "model", "test_augmented": "test_transform"}


def expand(axes: Mapping[str, Any], design: Design = "grid", place: str | None = None) -> StudySpec:
    """The Cartesian product of the values of each field.

    Args:
        axes: value, or sequence (or range) of values, by field of :class:`~dlbench.spec.trial.TrialSpec`, or by the
            path of an argument of a named part (``model.dropout_rate``, ``optimizer.momentum``). The short names of
            :data:`~dlbench.spec.naming.ALIASES` are accepted; ``seeds`` may be a number of seeds; ``folds`` stands for
            every fold unless ``fold`` is given.
        design: the design of the study.
        place: where the values come from, to name in an error.

    Raises:
        SpecError: an unknown field, an impossible value, an empty or repeated one.
        UnknownNameError: an unknown model, or an argument that a part does not take.
    """
    columns = _columns(axes, place)
    count = math.prod(map(len, columns.values()))
    if count > MAX_TRIALS:
        raise SpecError(
            f"the grid has {count:,} trials; at most {MAX_TRIALS:,} are allowed",
            place=place,
            remedy="take values away",
        )
    together = {names: _settings(names, columns, place) for names in _together(columns)}
    different = math.prod(len({(*each.values(),) for each in found}) for found in together.values())
    if different < count:
        raise _repetition(columns, count - different, place)
    if design == "single" and count > 1:
        raise SpecError(
            f"a study of the design single has one trial; these values make {count:,}",
            place=place,
            remedy=("name one ", Field("fold")) if len(columns.get("fold", ())) > 1 else "give one of each",
        )
    return StudySpec(design=design, trials=tuple(_combined(columns, together)))


def _together(columns: Iterable[str]) -> list[tuple[str, ...]]:
    """The names of columns, those in one tuple that are about the same part and have to be checked together."""
    groups: dict[str, list[str]] = {}
    for name in columns:
        groups.setdefault(_ABOUT.get(name, name.partition(".")[0]), []).append(name)
    return [*map(tuple, groups.values())]


def _settings(
    names: tuple[str, ...], columns: Mapping[str, list[Any]], place: str | None
) -> list[dict[str, Any]]:
    """What each combination of the values of columns that are checked together sets, by field."""
    part = _ABOUT.get(names[0], names[0].partition(".")[0])
    if part in TrialSpec.model_fields and part not in PARTS:
        return [{part: value} for value in check_values(part, columns[part], place)]
    fields = (part, *(name for name, about in _ABOUT.items() if about == part))
    made = _Canonical(place)
    found = []
    for combination in itertools.product(*(columns[name] for name in names)):
        spec = made(dict(zip(names, combination, strict=True)))
        found.append({field: getattr(spec, field) for field in fields})
    return found


def _combined(
    columns: Mapping[str, Sequence[Any]], together: Mapping[tuple[str, ...], list[dict[str, Any]]]
) -> Iterator[TrialSpec]:
    """The trials of a grid: what every combination sets that is checked together, put together."""
    base, order = canonical({}), [*columns]
    parts = []
    for names, found in together.items():
        keys = itertools.product(*(range(len(columns[name])) for name in names))
        pick = operator.itemgetter(*map(order.index, names))
        parts.append(
            (pick, {key if len(names) > 1 else key[0]: each for key, each in zip(keys, found, strict=True)})
        )
    for positions in itertools.product(*(range(len(values)) for values in columns.values())):
        update: dict[str, Any] = {}
        for pick, by_position in parts:
            update.update(by_position[pick(positions)])
        yield base.model_copy(update=update)


def canonical(fields: Mapping[str, Any], place: str | None = None) -> TrialSpec:
    """The trial of these fields, in the one form that equal trials share; errors as of :func:`expand`."""
    return _Canonical(place)(fields)


def union(studies: Iterable[StudySpec]) -> StudySpec:
    """One study of all the trials of several, each once."""
    parts = list(studies)
    trials = dict.fromkeys(trial for study in parts for trial in study.trials)
    return parts[0].model_copy(update={"trials": tuple(trials)})


def check_comparison(study: StudySpec) -> StudySpec:
    """Make sure that there is something to compare, and return the study.

    Raises:
        SpecError: fewer than two models.
    """
    trials = study.search.base if study.search else study.trials
    models = dict.fromkeys((trial.model, trial.model_args) for trial in trials)
    if len(models) < 2:
        named = (" ", *(registry.label(model) for model, _ in models)) if models else ()
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
    return (
        isinstance(value, str | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0
    )


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
        if name == "seeds" and _is_one(value):
            values = list(first_seeds(value))
        columns[field] = seeds.drawn(values) if field in seeds.FIELDS else values
    return _folded(columns, place)


def _folded(columns: dict[str, list[Any]], place: str | None) -> dict[str, list[Any]]:
    """The columns of cross-validation with every fold, unless some are named; any others as they are."""
    folds = columns.get("folds", [None])
    if folds == [None]:
        return columns
    if len(folds) > 1:
        raise SpecError(
            Field("folds"),
            f" is one number; got {_listed(folds)}",
            value=folds,
            place=place,
            remedy="give one",
        )
    if columns.get("val_size", [None]) != [None]:
        raise SpecError(
            *(
                Field("val_size"),
                " and ",
                Field("folds"),
                " are given, but the folds are the validation sets",
            ),
            value=columns["val_size"],
            place=place,
            remedy=(
                "leave out ",
                Field("val_size"),
                "; ",
                Field("train_size"),
                " images are divided into folds",
            ),
        )
    number = make_trial_spec({"folds": folds[0]}, place).folds
    assert number is not None
    return {"fold": list(range(number)), **columns}


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


class _Canonical:
    """Makes trials, each in the one form that equal trials share: parts by reference, no argument at its default.

    Args:
        place: where the values come from, to name in an error.
    """

    def __init__(self, place: str | None = None) -> None:
        self._place = place
        self._known: dict[tuple[str, str, Any], tuple[str, Any]] = {}

    def __call__(self, fields: Mapping[str, Any]) -> TrialSpec:
        plain = {name: value for name, value in fields.items() if "." not in name}
        by_path: dict[str, dict[str, Any]] = {}
        for path in (name for name in fields if name not in plain):
            name, _, argument = path.partition(".")
            if name not in PARTS or not all(map(str.isidentifier, argument.split("."))):
                known = [*TrialSpec.model_fields, *(f"{part}.ARGUMENT" for part in PARTS)]
                raise SpecError(unknown("field", path, known), value=path, place=self._place)
            by_path.setdefault(name, {})[argument] = fields[path]
        trial = make_trial_spec(plain, self._place)
        for name, values in by_path.items():
            field = f"{name}_args"
            given = dict(getattr(trial, field))
            values = {
                PARTS[name].full_name(getattr(trial, name), each): value for each, value in values.items()
            }
            if twice := sorted(given.keys() & values.keys()):
                raise SpecError(
                    *(Field(f"{name}.{twice[0]}"), f" is given beside {given[twice[0]]!r} with the {name}"),
                    place=self._place,
                    remedy="keep one of them",
                )
            checked = make_trial_spec({field: given | values}, self._place)
            trial = trial.model_copy(update={field: getattr(checked, field)})
        update: dict[str, Any] = {}
        for name in PARTS:
            update[name], update[f"{name}_args"] = self._part(trial, name)
        if (update["test_transform"], update["test_transform_args"]) == ("augmented", ()):
            update |= {"test_augmented": True, "test_transform": "standard"}
        if trial.dropout is not None and "dropout_rate" in dict(update["model_args"]):
            raise SpecError(
                *(Field("dropout"), " and the model's argument dropout_rate name one rate"),
                place=self._place,
                remedy="keep one of them",
            )
        return trial.model_copy(update=update)

    def _part(self, trial: TrialSpec, name: str) -> tuple[str, Any]:
        given = getattr(trial, f"{name}_args")
        key = name, getattr(trial, name), tuple((each, type(value), value) for each, value in given)
        if key not in self._known:
            reference = PARTS[name].resolve(key[1], name)
            self._known[key] = reference, PARTS[name].arguments(reference, given)
        return self._known[key]


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(map(shown, values[:8])) + (", ..." if len(values) > 8 else "")


def _repeats(name: str, values: Sequence[Any]) -> bool:
    canonical = _Canonical()
    return len({str(value) if "." in name else canonical({name: value}) for value in values}) < len(values)
