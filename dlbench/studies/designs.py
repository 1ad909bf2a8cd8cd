"""Designs of studies from Python values: every combination, or a comparison of models. No jax."""

from __future__ import annotations

from typing import Any

from dlbench import data
from dlbench.spec import designs, registry
from dlbench.spec.study import StudySpec


def grid(**axes: Any) -> StudySpec:
    """A study of every combination of the values given.

    Args:
        axes: a value, or several (any iterable, such as ``range(5)``), by field of
            :class:`~dlbench.TrialSpec`; ``lr`` stands for ``learning_rate``, ``epochs`` for ``num_epochs``, and
            ``seeds=5`` for ``seed=range(5)``. A model is a name, ``module:Attribute``, a Flax module class, or a
            function that makes a Flax module; a data set is a name or a :class:`~dlbench.data.Dataset`.

    Raises:
        InputError: an unknown field or name, an impossible value, an empty or repeated one.
    """
    return designs.expand(_by_name(axes))


def compare(**axes: Any) -> StudySpec:
    """A comparison of models, all trained alike: which differences do the data support?

    Give several ``seeds``: without repetition, no difference can be judged.

    Args:
        axes: as of :func:`grid`, with two models or more.

    Raises:
        InputError: as :func:`grid`, and fewer than two models.
    """
    return designs.check_comparison(designs.expand(_by_name(axes), "comparison"))


def _by_name(axes: dict[str, Any]) -> dict[str, Any]:
    """The same, with models and data sets by their references."""
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
