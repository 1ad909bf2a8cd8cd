"""Make studies from Python values: grids, and comparisons of models. No jax."""

from __future__ import annotations

from typing import Any

from dlbench import data
from dlbench.spec import designs, registry
from dlbench.spec.study import StudySpec


def grid(**axes: Any) -> StudySpec:
    """A study of every combination of the values given.

    Args:
        axes: fields of :class:`~dlbench.TrialSpec`, each with one value or several (any iterable, such as
            ``range(5)``). ``lr`` stands for ``learning_rate``, ``epochs`` for ``num_epochs``, and ``seeds=5`` for
            ``seed=range(5)``. A model is a name, ``module:Attribute``, a Flax module class, or a function that
            makes one; a data set is a name or a :class:`~dlbench.data.Dataset`.

    Raises:
        InputError: a field or a name is unknown, a value is impossible or repeated, or a field has no value.
    """
    return designs.expand(_by_name(axes))


def compare(**axes: Any) -> StudySpec:
    """A comparison of models that are trained in the same way, to find which differences the data support.

    Give several ``seeds``: differences cannot be tested without repetitions.

    Args:
        axes: as for :func:`grid`, with at least two models.

    Raises:
        InputError: as for :func:`grid`, or there are fewer than two models.
    """
    return designs.check_comparison(designs.expand(_by_name(axes), "comparison"))


def _by_name(axes: dict[str, Any]) -> dict[str, Any]:
    """The axes, with models and data sets replaced by their references."""
    named = dict(axes)
    if "model" in axes:
        named["model"] = [_model_reference(model) for model in designs.values_of(axes["model"])]
    if "dataset" in axes:
        named["dataset"] = [
            data.register(dataset) if isinstance(dataset, data.Dataset) else dataset
            for dataset in designs.values_of(axes["dataset"])
        ]
    return named


def _model_reference(model: object) -> str:
    return model if isinstance(model, str) else registry.reference_to("model", model)
