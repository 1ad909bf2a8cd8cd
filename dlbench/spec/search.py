"""Lay out a search, or a comparison that tunes its models by one: a base, and the space in which its settings vary.

No jax, and no Optuna.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any, get_args

from dlbench.errors import Field, InputError, SpecError, UnknownNameError
from dlbench.spec import designs
from dlbench.spec.ablation import one_configuration, setting_path, with_values
from dlbench.spec.naming import ALIASES
from dlbench.spec.spaces import Distribution, Resource, Sampler, SearchSpec, no_space
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import MAX_SEED, REPLICATES, TrialSpec

#: Settings by name with their distributions, or texts ``name=distribution``.
Space = Mapping[str, Any] | Iterable[str] | str
#: The space in which models are tuned, unless one is given.
TUNED: Space = {"lr": "log(1e-4, 1e-1)"}
#: How a space is searched, by default; ``None`` for what follows from the rest.
HOW: Mapping[str, Any] = {
    "sampler": "tpe",
    "generation": None,
    "search_seed": 0,
    "reduction_factor": None,
    "resource": "seeds",
    "hyperband": False,
}
#: The factor of Hyperband, as its authors have it.
_HYPERBAND_FACTOR = 3
#: A generation of a sampler that learns: a tenth of the configurations, but not fewer than these.
_SMALLEST_GENERATION = 10


def search(
    axes: Mapping[str, Any],
    *,
    space: Space = (),
    trials: Any = 50,
    confirm: Any = 5,
    place: str | None = None,
    **how: Any,
) -> StudySpec:
    """A search, whose trials are proposed as it runs.

    Args:
        axes: what all configurations share: one value of each field, except for seeds and folds.
        space: the settings that vary, named as in an ablation: a mapping to distributions or to lists of choices, or
            texts ``lr=log(1e-4, 1e-1)``.
        trials: number of configurations that are proposed; each is trained with every seed.
        confirm: number of new seeds on which the winner is trained.
        place: where the values come from, to name in an error.
        how: how the space is searched (:data:`HOW`): ``sampler``, "random", "quasi" or "tpe"; ``generation``, the
            number of configurations that are proposed at once, by default all for samplers that do not learn, else a
            tenth, at least ten; and as in :class:`~dlbench.spec.spaces.SearchSpec`, ``search_seed``,
            ``reduction_factor`` (3 by default with ``hyperband``), ``resource`` and ``hyperband``.

    Raises:
        SpecError: a value is impossible.
        UnknownNameError: there is no such field, argument or sampler.
        InputError: Optuna is not installed.
    """
    replicates = designs.expand(axes, "search", place).trials
    one_configuration(replicates, place)
    given = {"confirm": _whole("confirm", confirm, 0, 1000, place)}
    return StudySpec(
        design="search", trials=(), search=_search(replicates, axes, space, trials, how, given, place)
    )


def compare(
    axes: Mapping[str, Any],
    *,
    tune: Any = None,
    tune_seeds: Any = 1,
    space: Space = TUNED,
    place: str | None = None,
    **how: Any,
) -> StudySpec:
    """A comparison of models; with ``tune``, each is first tuned by a search of its own, all with the same budget.

    Args:
        axes: the values of each field; with ``tune``, one value each, except for models, seeds and folds.
        tune: number of configurations that are proposed for each model; ``None`` for none. The best of each model, on
            validation images, is then trained with the seeds of the comparison.
        tune_seeds: number of seeds of the search, which follow those of the comparison and take no part in it.
        space: the settings that vary, as in :func:`search`.
        place: where the values come from, to name in an error.
        how: as in :func:`search`.

    Raises:
        SpecError: a value is impossible, or has no effect without ``tune``. Other errors are those of :func:`search`.
    """
    study = designs.expand(axes, "comparison", place)
    if tune is None:
        others = {"tune_seeds": tune_seeds != 1, "space": space is not TUNED, **how}
        for name in (name for name, given in others.items() if given):
            raise SpecError(
                *(Field(name), " has no effect without ", Field("tune")),
                place=place,
                remedy=("give ", Field("tune"), ", the number of configurations per model"),
            )
        return study
    seeds = sorted({spec.seed for spec in study.trials})
    first, number = seeds[-1] + 1, _whole("tune_seeds", tune_seeds, 1, 1000, place)
    replicates = dict.fromkeys(
        spec.model_copy(update={"seed": seed})
        for spec in study.trials
        for seed in range(first, first + number)
    )
    given = {"confirm": len(seeds), "confirm_seeds": tuple(seeds)}
    spec = _search(tuple(replicates), axes, space, tune, how, given, place, "tune")
    for part in spec.parts:
        one_configuration(part.base, place)
    return study.model_copy(update={"trials": (), "search": spec})


def varied(space: Space) -> set[str]:
    """The names of the settings that a space varies, fields by their full names."""
    return {ALIASES.get(name, name) for name, _ in _named(space, None)}


def _search(
    replicates: tuple[TrialSpec, ...],
    axes: Mapping[str, Any],
    space: Space,
    trials: Any,
    how: Mapping[str, Any],
    given: Mapping[str, Any],
    place: str | None,
    field: str = "trials",
) -> SearchSpec:
    """A search of these trials; ``field`` names the number of configurations."""
    values = {**HOW, **how}
    for name, known in (("sampler", get_args(Sampler)), ("resource", get_args(Resource))):
        if values[name] not in known:
            raise UnknownNameError(name, values[name], known, field=name)
    if not isinstance(values["hyperband"], bool):
        raise SpecError.must_be("hyperband", "true or false", values["hyperband"], place=place)
    number = _whole(field, trials, 1, designs.MAX_TRIALS, place)
    learns = values["sampler"] == "tpe"
    by_default = min(number, max(_SMALLEST_GENERATION, -(-number // 10))) if learns else number
    generation, factor = values["generation"], values["reduction_factor"]
    if factor is None and values["hyperband"]:
        factor = _HYPERBAND_FACTOR
    spec = SearchSpec(
        base=replicates,
        space=tuple(_space(replicates, axes, space, place)),
        sampler=values["sampler"],
        num_configurations=number,
        generation=by_default if generation is None else _whole("generation", generation, 1, number, place),
        search_seed=_whole("search_seed", values["search_seed"], 0, MAX_SEED, place),
        reduction_factor=None if factor is None else _whole("reduction_factor", factor, 2, 100, place),
        resource=values["resource"],
        hyperband=values["hyperband"],
        optuna=installed_optuna(),
        **given,
    )
    _check_rungs(spec, place)
    if spec.most_trials > designs.MAX_TRIALS:
        raise SpecError(
            f"the search has up to {spec.most_trials:,} trials; at most {designs.MAX_TRIALS:,} are allowed",
            place=place,
            remedy=("use fewer ", Field(field)),
        )
    for _ in extremes(spec, place):
        pass
    return spec


def _check_rungs(spec: SearchSpec, place: str | None) -> None:
    resource = "num_epochs" if spec.resource == "epochs" else "seeds"
    if spec.resource == "epochs" and not spec.reduction_factor:
        raise SpecError(
            *(Field("resource"), " epochs has no effect without ", Field("reduction_factor")),
            value=spec.resource,
            place=place,
            remedy=("give ", Field("reduction_factor"), " or ", Field("hyperband")),
        )
    if spec.reduction_factor and len(spec.rungs) < 2:
        raise SpecError(
            *(Field("reduction_factor"), f" {spec.reduction_factor} needs as many {spec.resource} or more; "),
            f"there {'are' if spec.rungs[0] > 1 else 'is'} {spec.rungs[0]}",
            value=spec.reduction_factor,
            place=place,
            remedy=("use more ", Field(resource)),
        )
    if spec.resource == "epochs" and "num_epochs" in spec.distributions:
        raise SpecError(
            *(Field("space"), " varies ", Field("num_epochs"), ", which grow from rung to rung"),
            place=place,
            remedy=("give ", Field("num_epochs"), " one value, or use ", Field("resource"), " seeds"),
        )


def extremes(spec: SearchSpec, place: str | None = None) -> Iterator[TrialSpec]:
    """Trials at the bounds of every setting, with every model: where they are possible, all of the space is.

    Raises:
        SpecError: a value is impossible.
        UnknownNameError: a model takes no such argument.
    """
    distributions = spec.distributions
    first = {path: each.values[0] for path, each in distributions.items()}
    for part in spec.parts:
        for model in distributions["model"].values if "model" in distributions else [None]:
            chosen = first if model is None else {**first, "model": model}
            for path, each in distributions.items():
                for value in each.values if path != "model" else [model]:
                    yield with_values(part.base[0], {**chosen, path: value}, place)


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
    replicates: Sequence[TrialSpec], axes: Mapping[str, Any], space: Space, place: str | None
) -> Iterator[tuple[str, str]]:
    base, seen = replicates[0], set[str]()
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
_REPLICATED = (*REPLICATES, "seeds", "folds")


def _named(space: Space, place: str | None) -> Iterator[tuple[str, str]]:
    if isinstance(space, Mapping):
        for name, given in space.items():
            if not isinstance(given, str | list | tuple):
                raise SpecError.must_be(
                    "space",
                    f"for {name} a distribution, such as log(1e-4,1e-1), or a list",
                    given,
                    place=place,
                )
            yield str(name), given if isinstance(given, str) else f"choice({', '.join(map(str, given))})"
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
