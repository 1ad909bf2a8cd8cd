"""Ablation and factorial designs: a base, and changes of it. No jax.

One at a time, each change is made to the base alone. In a factorial design, the changes are combined in every way:
two changes of one setting are levels of one factor, and never occur together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlbench.errors import Field, InputError, SpecError, UnknownNameError, shown
from dlbench.spec import designs, parts
from dlbench.spec.claims import value_of
from dlbench.spec.naming import ALIASES
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import PARTS, REPLICATES, TrialSpec

#: What fields are without what they add, where that is neither 0 nor False.
_OFF: Mapping[str, Any] = {
    "transform": "standard",
    "schedule": "constant",
    "clip_norm": None,
    "patience": None,
}
#: The model's argument that the field ``dropout`` stands for.
_DROPOUT = "model.dropout_rate"

#: The changes of one setting, by the path of the setting.
Factors = dict[str, list[Any]]


def ablate(
    axes: Mapping[str, Any],
    *,
    without: Iterable[str] | str = (),
    change: Mapping[str, Any] | Iterable[str] | str = (),
    factorial: bool = False,
    place: str | None = None,
) -> StudySpec:
    """A base and its changes, each with the same seeds and folds.

    Args:
        axes: the base: one value of each field, except for seeds and folds.
        without: arguments of the base's model, paths of arguments, or fields of the trial, each to be turned off.
        change: the same with their new values: a mapping to a value or a list of values, or texts ``name=value``.
        factorial: whether to combine the changes instead of making one at a time.
        place: where the values come from, to name in an error.

    Returns:
        The study; the trials of the base come first.

    Raises:
        SpecError: the base is not one configuration, there is no change, or a change changes nothing.
        UnknownNameError: there is no such field or argument.
    """
    replicates = designs.expand(axes, "ablation", place).trials
    base = one_configuration(replicates, place)
    if not isinstance(factorial, bool):
        raise SpecError.must_be("factorial", "true or false", factorial, place=place)
    factors = _factors(base, designs.values_of(without), change, place)
    levels = [len(values) for values in factors.values()]
    count = math.prod(level + 1 for level in levels) if factorial else 1 + sum(levels)
    if count * len(replicates) > designs.MAX_TRIALS:
        raise SpecError(
            f"the design has {count * len(replicates):,} trials; at most {designs.MAX_TRIALS:,} are allowed",
            place=place,
            remedy="remove some changes",
        )
    layouts = _combined(factors) if factorial else _one_at_a_time(factors)
    trials: dict[TrialSpec, None] = {}
    for values in layouts:
        changed = [with_values(spec, values, place) for spec in replicates]
        if changed[0] in trials:
            raise _no_change(base, values, place)
        trials.update(dict.fromkeys(changed))
    return StudySpec(design="ablation", trials=tuple(trials))


def with_values(spec: TrialSpec, values: Mapping[str, Any], place: str | None = None) -> TrialSpec:
    """A trial with other values of some fields, or of parts' arguments by their paths.

    Raises:
        SpecError: a value is impossible.
        UnknownNameError: a part takes no such argument.
    """
    fields: dict[str, Any] = {name: getattr(spec, name) for name in TrialSpec.model_fields}
    for path in sorted(values, key=lambda path: "." in path):  # a part first, then its arguments
        part, _, argument = path.partition(".")
        if argument:
            given = dict(fields[f"{part}_args"])
            fields[f"{part}_args"] = {**given, PARTS[part].full_name(fields[part], argument): values[path]}
        else:
            fields[path] = values[path]
            fields |= {f"{path}_args": ()} if path in PARTS else {}
        fields |= {"dropout": None} if path == _DROPOUT else {}
    return designs.canonical(fields, place)


def setting_path(spec: TrialSpec, name: str, place: str | None = None) -> str:
    """The path of a setting that is named by itself: a field of the trial, or an argument of the model.

    Raises:
        SpecError: it cannot be a setting that differs between configurations.
        UnknownNameError: there is no such field or argument.
    """
    field, arguments = ALIASES.get(name, name), PARTS["model"].signature(spec.model)
    if field in REPLICATES or field == "folds" or field.endswith("_args"):
        raise SpecError(f"{name} cannot differ between configurations", value=name, place=place)
    if field == "dropout" and "dropout_rate" in arguments.arguments:
        return _DROPOUT
    if field in TrialSpec.model_fields or (field.partition(".")[0] in PARTS and "." in field):
        return field
    if field in arguments.arguments or arguments.is_open:
        return f"model.{field}"
    kept = (*REPLICATES, "folds")
    fields = [each for each in TrialSpec.model_fields if not each.endswith("_args") and each not in kept]
    known = [each for each in arguments.arguments if each != "num_classes"]
    raise UnknownNameError("setting", name, [*known, *fields])


def one_configuration(trials: Sequence[TrialSpec], place: str | None = None) -> TrialSpec:
    """The first of trials that differ in seeds and folds alone.

    Raises:
        SpecError: they differ in more.
    """
    fields = [name for name in TrialSpec.model_fields if name not in REPLICATES]
    for name in fields:
        if len({getattr(trial, name) for trial in trials}) > 1:
            raise SpecError(
                *(
                    "the base is one configuration, but ",
                    Field(name.removesuffix("_args")),
                    " has several values",
                ),
                place=place,
                remedy="give one, and the others as changes",
            )
    return trials[0]


def _factors(
    base: TrialSpec,
    without: Sequence[Any],
    change: Mapping[str, Any] | Iterable[str] | str,
    place: str | None,
) -> Factors:
    found: Factors = {}
    for name in without:
        path = setting_path(base, str(name), place)
        found.setdefault(path, []).append(_off(base, path, place))
    for name, value in _changes(change, place):
        path = setting_path(base, name, place)
        found.setdefault(path, []).append(value)
    if not found:
        raise SpecError(
            *("an ablation needs something to change: ", Field("without"), " or ", Field("change")),
            place=place,
        )
    return found


def _changes(change: Mapping[str, Any] | Iterable[str] | str, place: str | None) -> Iterable[tuple[str, Any]]:
    if isinstance(change, Mapping):
        for name, values in change.items():
            yield from ((str(name), value) for value in designs.values_of(values))
        return
    for text in designs.values_of(change):
        if isinstance(text, Mapping):
            yield from _changes(text, place)
            continue
        name, equals, value = str(text).partition("=")
        if not (name and equals and value):
            raise SpecError.must_be("change", "NAME=VALUE, such as kernel_size=5", text, place=place)
        yield name.strip(), parts.literal(value)


def _off(base: TrialSpec, path: str, place: str | None) -> Any:
    """The value of a setting without what it adds."""
    if path in _OFF:
        return _OFF[path]
    value = value_of(base, path)
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        return type(value)(0)
    raise SpecError(
        *(Field("without"), f" {path.removeprefix('model.')}: {shown(value)} cannot be turned off"),
        value=path,
        place=place,
        remedy=("say what it becomes, with ", Field("change")),
    )


def _one_at_a_time(factors: Factors) -> Iterable[dict[str, Any]]:
    yield {}
    for path, values in factors.items():
        yield from ({path: value} for value in values)


def _combined(factors: Factors) -> Iterable[dict[str, Any]]:
    kept = object()
    for combination in itertools.product(*([kept, *values] for values in factors.values())):
        chosen = zip(factors, combination, strict=True)
        yield {path: value for path, value in chosen if value is not kept}


def _no_change(base: TrialSpec, values: Mapping[str, Any], place: str | None) -> InputError:
    named = ", ".join(f"{path.removeprefix('model.')}={value}" for path, value in values.items())
    return SpecError(
        f"the change {named} leads to a configuration that the design has already, at the base's own value or by "
        "another change",
        value=dict(values),
        place=place,
        remedy="leave it out",
    )
