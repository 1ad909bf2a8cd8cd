"""What training needs of a model: pure functions that initialise it and compute its logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import flax.linen as nn
import jax

from dlbench.models.creation import create
from dlbench.models.mode import initial_mode, mode
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
        return Variables(variables["params"], variables.get("batch_stats", {}))

    def apply(
        self,
        variables: Variables,
        images: jax.Array,
        numbers: Numbers,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """See :class:`Network`."""
        held = {"params": variables.params, "batch_stats": variables.batch_stats}
        training = dropout_key is not None
        switches = mode(self.module, training)
        if not training:
            return self.module.apply(held, images, **switches), variables.batch_stats
        logits, updated = self.module.apply(
            held, images, **switches, rngs={"dropout": dropout_key}, mutable=["batch_stats"]
        )
        return logits, updated.get("batch_stats", variables.batch_stats)


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
        model: a Flax module, or a network.
    """
    return LinenNetwork(model) if isinstance(model, nn.Module) else model


def network_for(trial: Trial, num_classes: int) -> NamedNetwork:
    """The network that a trial trains."""
    dynamic = trial.spec.dynamic()
    static = tuple(each for each in trial.spec.arguments("model") if f"model.{each[0]}" not in dynamic)
    return NamedNetwork(trial.spec.model, num_classes, static)
