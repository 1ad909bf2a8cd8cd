"""Lay out a search: a base, and the space in which its settings vary. No jax, and no Optuna."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any, get_args

from dlbench.errors import Field, InputError, SpecError, UnknownNameError
from dlbench.spec import designs
from dlbench.spec.ablation import one_configuration, setting_path, with_values
from dlbench.spec.spaces import Distribution, Sampler, SearchSpec, no_space
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import MAX_SEED, TrialSpec

#: A generation of a sampler that learns: a tenth of the configurations, but not fewer than these.
_SMALLEST_GENERATION = 10


def search(
    axes: Mapping[str, Any],
    *,
    space: Mapping[str, Any] | Iterable[str] | str = (),
    trials: Any = 50,
    sampler: Any = "tpe",
    generation: Any = None,
    search_seed: Any = 0,
    reduction_factor: Any = None,
    confirm: Any = 5,
    place: str | None = None,
) -> StudySpec:
    """A search, whose trials are proposed as it runs.

    Args:
        axes: what all configurations share: one value of each field, except for seeds and folds.
        space: the settings that vary, named as in an ablation: a mapping to distributions or to lists of choices, or
            texts ``lr=log(1e-4, 1e-1)``.
        trials: number of configurations that are proposed; each is trained with every seed.
        sampler: "random", "quasi" or "tpe".
        generation: number of configurations that are proposed at once; by default all for samplers that do not learn,
            else a tenth, at least ten.
        search_seed: seed of the sampler.
        reduction_factor: see :class:`~dlbench.spec.spaces.SearchSpec`.
        confirm: number of new seeds on which the winner is trained.
        place: where the values come from, to name in an error.

    Raises:
        SpecError: a value is impossible.
        UnknownNameError: there is no such field, argument or sampler.
        InputError: Optuna is not installed.
    """
    if sampler not in get_args(Sampler):
        raise UnknownNameError("sampler", sampler, get_args(Sampler), field="sampler")
    replicates = designs.expand(axes, "search", place).trials
    base = one_configuration(replicates, place)
    number = _whole("trials", trials, 1, designs.MAX_TRIALS, place)
    by_default = min(number, max(_SMALLEST_GENERATION, -(-number // 10))) if sampler == "tpe" else number
    spec = SearchSpec(
        base=replicates,
        space=tuple(_space(base, axes, space, place)),
        sampler=sampler,
        num_configurations=number,
        generation=by_default if generation is None else _whole("generation", generation, 1, number, place),
        search_seed=_whole("search_seed", search_seed, 0, MAX_SEED, place),
        reduction_factor=None
        if reduction_factor is None
        else _whole("reduction_factor", reduction_factor, 2, 100, place),
        confirm=_whole("confirm", confirm, 0, 1000, place),
        optuna=installed_optuna(),
    )
    if spec.reduction_factor and len(spec.rungs) < 2:
        raise SpecError(
            *(Field("reduction_factor"), f" {spec.reduction_factor} needs as many seeds or more; there are "),
            f"{len(spec.seeds)}",
            value=reduction_factor,
            place=place,
            remedy=("use more ", Field("seeds")),
        )
    if spec.most_trials > designs.MAX_TRIALS:
        raise SpecError(
            f"the search has up to {spec.most_trials:,} trials; at most {designs.MAX_TRIALS:,} are allowed",
            place=place,
            remedy=("use fewer ", Field("trials")),
        )
    for _ in extremes(spec, place):
        pass
    return StudySpec(design="search", trials=(), search=spec)


def extremes(spec: SearchSpec, place: str | None = None) -> Iterator[TrialSpec]:
    """Trials at the bounds of every setting, with every model: where they are possible, all of the space is.

    Raises:
        SpecError: a value is impossible.
        UnknownNameError: a model takes no such argument.
    """
    distributions = spec.distributions
    first = {path: each.values[0] for path, each in distributions.items()}
    for model in distributions["model"].values if "model" in distributions else [None]:
        chosen = first if model is None else {**first, "model": model}
        for path, each in distributions.items():
            for value in each.values if path != "model" else [model]:
                yield with_values(spec.base[0], {**chosen, path: value}, place)


def installed_optuna() -> str:
    """The version of Optuna that is installed.

    Raises:
        InputError: none is.
    """
    try:
        return importlib.metadata.version("optuna")
    except importlib.metadata.PackageNotFoundError:
        raise InputError("a search needs Optuna; install it with: pip install 'dlbench[search]'") from None


def _space(
    base: TrialSpec,
    axes: Mapping[str, Any],
    space: Mapping[str, Any] | Iterable[str] | str,
    place: str | None,
) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for name, text in _named(space, place):
        path = setting_path(base, name, place)
        if path in seen:
            raise SpecError(*(Field("space"), f" names {name} twice"), value=name, place=place)
        given = {setting_path(base, each, place) for each in axes if each not in _REPLICATED}
        if path in given:
            raise SpecError(
                *(Field("space"), f" varies {name}, which is also given a value"),
                value=name,
                place=place,
                remedy="keep one of them",
            )
        seen.add(path)
        yield path, str(Distribution.parse(text, place))
    if not seen:
        raise no_space(place)


#: Fields whose values are replicates of a configuration, not settings.
_REPLICATED = ("seed", "seeds", "split_seed", "fold", "folds")


def _named(space: Mapping[str, Any] | Iterable[str] | str, place: str | None) -> Iterator[tuple[str, str]]:
    if isinstance(space, Mapping):
        for name, given in space.items():
            listed = not isinstance(given, str)
            yield str(name), f"choice({', '.join(map(str, given))})" if listed else given
        return
    for text in designs.values_of(space):
        if isinstance(text, Mapping):
            yield from _named(text, place)
            continue
        name, equals, rest = str(text).partition("=")
        if not (name.strip() and equals):
            raise SpecError.must_be(
                "space", "NAME=DISTRIBUTION, such as lr=log(1e-4,1e-1)", text, place=place
            )
        yield name.strip(), rest


def _whole(field: str, value: Any, low: int, high: int, place: str | None) -> int:
    text = str(value).strip()
    number = (
        int(text)
        if isinstance(value, str) and text.isascii() and text.isdigit() and len(text) < 12
        else value
    )
    if isinstance(number, bool) or not isinstance(number, Integral) or not low <= int(number) <= high:
        raise SpecError.must_be(field, f"a whole number from {low:,} to {high:,}", value, place=place)
    return int(number)
