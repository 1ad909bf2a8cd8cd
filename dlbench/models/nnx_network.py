"""A model of ``flax.nnx`` as pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from dlbench.models.mode import mode
from dlbench.models.network import Numbers, Variables


@dataclass(frozen=True)
class NnxNetwork:
    """A model of ``flax.nnx``.

    Parameters and statistics are kept in flat dictionaries, by path ("layers/0/kernel"). The model is made anew in each
    traced function, and its layers are switched by its methods ``train`` and ``eval``; its call may also take one of
    the arguments in :data:`dlbench.spec.switches.SPELLINGS`.

    Args:
        make: makes the model from ``nnx.Rngs``.
    """

    make: Callable[[nnx.Rngs], nnx.Module]

    def init(self, keys: Mapping[str, jax.Array], images: jax.Array, numbers: Numbers) -> Variables:
        """See :class:`Network`."""
        _, state = nnx.split(self.make(nnx.Rngs(**keys)))
        return _variables(state)

    def apply(
        self,
        variables: Variables,
        images: jax.Array,
        numbers: Numbers,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        """See :class:`Network`."""
        structure, state = nnx.split(nnx.eval_shape(lambda: self.make(nnx.Rngs(0))))
        training = dropout_key is not None
        held = {**variables.params, **variables.batch_stats}
        filled = []
        for number, (path, variable) in enumerate(nnx.to_flat_state(state)):
            if isinstance(variable, nnx.RngKey):
                key = jax.random.key(0) if dropout_key is None else dropout_key
                value = jax.random.fold_in(key, number)
            elif isinstance(variable, nnx.RngCount):
                value = jnp.zeros((), jnp.uint32)
            else:
                value = held[_name(path)]
            filled.append((path, variable.replace(value)))
        model: Any = nnx.merge(structure, nnx.from_flat_state(filled))
        (model.train if training else model.eval)()
        logits = model(images, **mode(model, training))
        return logits, _variables(nnx.split(model)[1]).batch_stats


def _variables(state: Any) -> Variables:
    params, others = {}, {}
    for path, variable in nnx.to_flat_state(state):
        if isinstance(variable, nnx.Param):
            params[_name(path)] = variable[...]
        elif not isinstance(variable, nnx.RngState):
            others[_name(path)] = variable[...]
    return Variables(params, others)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(map(str, path))
