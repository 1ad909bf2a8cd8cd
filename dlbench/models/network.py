"""What training needs of a model: pure functions that initialise it and compute its logits."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax

from dlbench.models.creation import create
from dlbench.models.mode import initial_mode, mode
from dlbench.spec import switches as spellings
from dlbench.spec.parts import Arguments
from dlbench.spec.trial import Trial

#: Dynamic arguments of a model by name: numbers that may be arrays in a compiled program.
Numbers = Mapping[str, Any]


class Variables(NamedTuple):
    """What a model holds: trained parameters, and statistics that training updates; trees of arrays."""

    params: Any
    batch_stats: Any


@runtime_checkable
class Network(Protocol):
    """A model as pure functions. It is hashable; equal networks are the same functions."""

    def init(self, keys: Mapping[str, jax.Array], images: jax.Array, numbers: Numbers) -> Variables:
        """The variables before training.

        Args:
            keys: keys by purpose, "params" and "dropout".
            images: float32 [N, H, W, C]; only their shape matters.
            numbers: the dynamic arguments.
        """

    def apply(
        self,
        variables: Variables,
        images: jax.Array,
        numbers: Numbers,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """Compute logits.

        Args:
            variables: the variables.
            images: float32 [N, H, W, C].
            numbers: the dynamic arguments.
            dropout_key: the key of everything random in training; ``None`` in evaluation.

        Returns:
            The logits [N, num_classes], and the statistics, which training updates.
        """


@dataclass(frozen=True)
class LinenNetwork:
    """A Flax module."""

    module: nn.Module

    def init(self, keys: Mapping[str, jax.Array], images: jax.Array, numbers: Numbers) -> Variables:
        """See :class:`Network`."""
        variables = self.module.init(dict(keys), images, **initial_mode(self.module))
        return Variables(variables.get("params", {}), variables.get("batch_stats", {}))

    def apply(
        self,
        variables: Variables,
        images: jax.Array,
        numbers: Numbers,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """See :class:`Network`."""
        held = {"params": variables.params, "batch_stats": variables.batch_stats}
        switches = mode(self.module, dropout_key is not None)
        if dropout_key is None:
            answers: Any = self.module.apply(held, images, **switches)
            return answers, variables.batch_stats
        trained: Any = self.module.apply(
            held, images, **switches, rngs={"dropout": dropout_key}, mutable=["batch_stats"]
        )
        logits, updated = trained
        return logits, updated.get("batch_stats", variables.batch_stats)


@dataclass(frozen=True)
class FunctionNetwork:
    """A pair of functions, as Equinox or plain JAX has models.

    Parameters are kept in a flat dictionary, by their path in the tree that ``initialise`` returns.

    Args:
        initialise: called with a key and images; returns the parameters, a tree of arrays.
        compute: called with parameters and images; returns the logits. It may also take a ``key``, and one of the
            arguments in :data:`dlbench.spec.switches.SPELLINGS`.
    """

    initialise: Callable[..., Any]
    compute: Callable[..., Any]

    def init(self, keys: Mapping[str, jax.Array], images: jax.Array, numbers: Numbers) -> Variables:
        """See :class:`Network`."""
        leaves = jax.tree_util.tree_leaves_with_path(self.initialise(keys["params"], images))
        return Variables(
            {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}, {}
        )

    def apply(
        self,
        variables: Variables,
        images: jax.Array,
        numbers: Numbers,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """See :class:`Network`."""
        example = jax.eval_shape(self.initialise, jax.random.key(0), images)
        paths, structure = jax.tree_util.tree_flatten_with_path(example)
        names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in paths]
        params = jax.tree.unflatten(structure, [variables.params[name] for name in names])
        taken = inspect.signature(self.compute).parameters
        key = jax.random.key(0) if dropout_key is None else dropout_key
        given = {"key": key} if "key" in taken else {}
        switches = spellings.arguments(taken, dropout_key is not None)
        return self.compute(params, images, **switches, **given), variables.batch_stats


@dataclass(frozen=True)
class NamedNetwork:
    """A model by its reference, made anew inside each traced function, with the dynamic arguments of the trace.

    Args:
        reference: the reference of the model.
        num_classes: number of logits.
        arguments: the static arguments.
    """

    reference: str
    num_classes: int
    arguments: Arguments = ()

    def init(self, keys: Mapping[str, jax.Array], images: jax.Array, numbers: Numbers) -> Variables:
        """See :class:`Network`."""
        return self._made(numbers).init(keys, images, numbers)

    def apply(
        self,
        variables: Variables,
        images: jax.Array,
        numbers: Numbers,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """See :class:`Network`."""
        return self._made(numbers).apply(variables, images, numbers, dropout_key)

    def _made(self, numbers: Numbers) -> Network:
        return network_of(create(self.reference, self.num_classes, **dict(self.arguments), **numbers))


def network_of(model: Any) -> Network:
    """A model as a network.

    Args:
        model: a Flax module, a function that makes an NNX module from ``nnx.Rngs``, a pair of functions (see
            :class:`FunctionNetwork`), or a network.
    """
    if isinstance(model, nn.Module):
        return LinenNetwork(model)
    if isinstance(model, tuple):
        return FunctionNetwork(*model)
    if isinstance(model, Network):
        return model
    from dlbench.models.nnx_network import (
        NnxNetwork,
    )  # flax.nnx takes a fifth of the time in which a worker starts

    return NnxNetwork(model)


def network_for(trial: Trial, num_classes: int) -> NamedNetwork:
    """The network that a trial trains."""
    dynamic = trial.spec.dynamic()
    static = tuple(each for each in trial.spec.arguments("model") if f"model.{each[0]}" not in dynamic)
    return NamedNetwork(trial.spec.model, num_classes, static)
