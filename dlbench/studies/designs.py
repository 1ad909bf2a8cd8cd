"""Make studies from Python values: grids, comparisons of models, ablations, searches. No jax."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dlbench import data
from dlbench.spec import designs, layouts, registry
from dlbench.spec.study import StudySpec


def grid(**axes: Any) -> StudySpec:
    """A study of every combination of the values given.

    Args:
        axes: fields of :class:`~dlbench.TrialSpec`, each with one value or several (any iterable, such as
            ``range(5)``). ``lr`` stands for ``learning_rate``, ``epochs`` for ``num_epochs``, and ``seeds=5`` for
            ``seed=range(5)``. A model is a name, ``module:Attribute``, a Flax module class, or a function that
            makes one; a data set is a name, files (``folder:PATH``), a :class:`~dlbench.data.Dataset`, or a
            function that returns arrays.

    Raises:
        InputError: a field or a name is unknown, a value is impossible or repeated, or a field has no value.
    """
    return designs.expand(_by_name(axes))


def compare(**axes: Any) -> StudySpec:
    """A comparison of models that are trained in the same way, to find which differences the data support.

    Give several ``seeds``: differences cannot be tested without repetitions. With ``tune=N``, each model is first
    tuned by a search of N configurations, and then compared with its best one: run it with :func:`dlbench.run_search`.

    Args:
        axes: as for :func:`grid`, with at least two models. With ``tune``, as for :func:`search`: ``space`` (by default
            learning rates from 1e-4 to 1e-1), ``sampler``, ``generation``, ``search_seed``, ``reduction_factor``,
            ``resource`` and ``hyperband``; and ``tune_seeds``, the number of seeds of the search (1), which take no
            part in the comparison.

    Raises:
        InputError: as for :func:`grid`, or there are fewer than two models; with ``tune``, as for :func:`search`.
    """
    options = {name: axes.pop(name) for name in layouts.OPTIONS["comparison"] if name in axes}
    return designs.check_comparison(layouts.lay_out("comparison", _by_name(axes), options))


def ablate(
    base: Any = "Baseline",
    *,
    without: Iterable[str] | str = (),
    change: Mapping[str, Any] | Iterable[str] | str = (),
    factorial: bool = False,
    **axes: Any,
) -> StudySpec:
    """A study of what each change of a base does.

    Args:
        base: the model that is changed, with its arguments: ``"Stabilized(kernel_size=5)"``.
        without: arguments of the model, paths of arguments or fields of the trial, each to be turned off.
        change: the same with their new values: ``{"kernel_size": 5, "activation": ["gelu", "elu"]}``, or texts
            ``"kernel_size=5"``.
        factorial: whether to combine the changes in every way instead of making one at a time.
        axes: other fields of the base, as for :func:`grid`, one value each; several ``seeds`` are needed to test
            effects.

    Raises:
        InputError: as for :func:`grid`; or the base is not one configuration, or a change changes nothing.
    """
    options = {"without": without, "change": change, "factorial": factorial}
    return layouts.lay_out("ablation", _by_name({"model": base, **axes}), options)


def search(
    space: Mapping[str, Any] | Iterable[str] | str,
    *,
    trials: int = 50,
    sampler: str = "tpe",
    generation: int | None = None,
    search_seed: int = 0,
    reduction_factor: int | None = None,
    resource: str = "seeds",
    hyperband: bool = False,
    confirm: int = 5,
    **axes: Any,
) -> StudySpec:
    """A search for the best configuration in a space; needs Optuna.

    Args:
        space: the settings that vary, named as in :func:`ablate`: a mapping to distributions
            (``{"lr": "log(1e-4, 1e-1)", "batch_size": [8, 16, 32]}``), or texts ``"lr=log(1e-4, 1e-1)"``.
        trials: number of configurations that are proposed; each is trained with every seed.
        sampler: "random", "quasi" (Sobol) or "tpe".
        generation: number of configurations that are proposed at once; by default all for samplers that do not learn,
            else a tenth, at least ten.
        search_seed: seed of the sampler.
        reduction_factor: with successive halving, the factor by which seeds or epochs grow from rung to rung; one
            configuration in so many goes on.
        resource: what grows, "seeds" or "epochs"; configurations that go on to more epochs continue where they stopped.
        hyperband: whether to divide the configurations of a generation into brackets that begin at different rungs
            (Li et al., 2018), with the factor 3 unless another is given.
        confirm: number of new seeds on which the winner is trained.
        axes: other fields, as for :func:`grid`: one value each, and any number of seeds or folds.

    Raises:
        InputError: as for :func:`grid`; or a distribution is impossible, or Optuna is not installed.
    """
    options = {
        "space": space,
        "trials": trials,
        "sampler": sampler,
        "generation": generation,
        "search_seed": search_seed,
        "reduction_factor": reduction_factor,
        "resource": resource,
        "hyperband": hyperband,
        "confirm": confirm,
    }
    return layouts.lay_out("search", _by_name(axes), options)


def _by_name(axes: dict[str, Any]) -> dict[str, Any]:
    """The axes, with models and data sets replaced by their references."""
    named = dict(axes)
    if "model" in axes:
        named["model"] = [_model_reference(model) for model in designs.values_of(axes["model"])]
    if "dataset" in axes:
        named["dataset"] = [_dataset_reference(dataset) for dataset in designs.values_of(axes["dataset"])]
    return named


def _model_reference(model: object) -> str:
    return model if isinstance(model, str) else registry.reference_to("model", model)


def _dataset_reference(dataset: object) -> str:
    if isinstance(dataset, data.Dataset):
        return data.register(dataset)
    return dataset if isinstance(dataset, str) else registry.reference_to("dataset", dataset)
