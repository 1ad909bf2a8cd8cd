"""Several CPU cores on one trial: they share the shards of each batch, and no bit depends on how many they are.

Every core is a CPU client of its own with one thread, in this process. Two devices of one client would make every
operation use two threads: at these sizes no faster, and of other bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding
from jaxlib import xla_client

from dlbench import steps
from dlbench.spec import shards_of
from dlbench.train import Data, TrainState, permutation

Epoch = Callable[..., tuple[TrainState, jax.Array, jax.Array]]


@functools.cache
def _helper(number: int) -> jax.Device:
    """The device of another core than this process's own."""
    client: Any = xla_client.make_cpu_client()
    device: jax.Device = client.local_devices()[0]
    return device


def shared_epoch(
    static: steps.Static, state: TrainState, data: Data, keys: steps.Keys, hyper: steps.Hyper, cores: int
) -> Epoch:
    """Compile :func:`dlbench.train.train_epoch` for several cores.

    The first holds the state. At each step it sends the others the parameters, and they answer with the gradients
    of their shards.

    Args:
        static: the static part; of a model without batch statistics.
        state: the shapes of a state.
        data: what the epochs will be of; every core holds the training images.
        keys: the keys of a trial.
        hyper: its hyper-parameters.
        cores: how many; at most as many as a batch has shards.

    Returns:
        A function of state, data, keys and hyper-parameters.
    """
    count, size = data.train_labels.shape[0], static.batch_size
    number, left = divmod(count, size)
    shards = shards_of(size)
    mine = -(-shards // cores)
    devices = [jax.devices()[0], *map(_helper, range(1, -(-shards // mine)))]
    images, labels = data.train_images, data.train_labels
    held = [(images, labels), *(jax.device_put((images, labels), device) for device in devices[1:])]
    firsts = [jax.device_put(jnp.int32(core * mine), device) for core, device in enumerate(devices)]

    def begin(keys: steps.Keys, epoch: jax.Array) -> tuple[steps.Keys, jax.Array]:
        keys = steps.epoch_keys(keys, epoch)
        return keys, permutation(keys.order, count)

    def part(params: Any, images: Any, labels: Any, keys: Any, order: Any, index: Any, first: Any) -> Any:
        places = jax.lax.dynamic_slice_in_dim(order, index * size, size)
        return steps.shard_gradients(static, params, images[places], labels[places], keys, index, first, mine)

    def apply(carry: Any, parts: list[Any], hyper: steps.Hyper) -> Any:
        return steps.apply_shards(static, carry, parts, shards, hyper)

    def rest(carry: Any, images: Any, labels: Any, keys: Any, order: Any, hyper: steps.Hyper) -> Any:
        places, index = order[number * size :], jnp.int32(number)
        return steps.train_step(static, carry, images[places], labels[places], keys, index, hyper)

    def end(losses: list[jax.Array], hits: list[jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jnp.stack(losses).mean(), jnp.stack(hits).sum() / count

    beginning = _compile(begin, devices[0], keys, state.epoch)
    keys, order = beginning.out_info
    arguments = (*held[0], keys, order)
    parts = [_compile(part, device, state.params, *arguments, state.epoch, state.epoch) for device in devices]
    carry = (state.params, state.batch_stats, state.opt_state)
    applying = _compile(apply, devices[0], carry, [part.out_info for part in parts], hyper)
    resting = _compile(rest, devices[0], carry, *arguments, hyper) if left else None
    _, (loss, hits) = applying.out_info
    figures = number + bool(left)
    ending = _compile(end, devices[0], [loss] * figures, [hits] * figures)

    def epoch(
        state: TrainState, data: Data, keys: steps.Keys, hyper: steps.Hyper
    ) -> tuple[TrainState, jax.Array, jax.Array]:
        """``data`` is what every core holds already."""
        keys, order = beginning(keys, state.epoch + 1)
        plans = [(keys, order), *(jax.device_put((keys, order), device) for device in devices[1:])]
        carry = (state.params, state.batch_stats, state.opt_state)
        figures = []
        for index in range(number):
            found = []
            for core in reversed(range(len(devices))):  # this one last: it would keep the others waiting
                params = jax.device_put(carry[0], devices[core]) if core else carry[0]
                turn = jax.device_put(jnp.int32(index), devices[core])
                found.append(parts[core](params, *held[core], *plans[core], turn, firsts[core]))
            own, *theirs = reversed(found)
            carry, figure = applying(carry, [own, *jax.device_put(theirs, devices[0])], hyper)
            figures.append(figure)
        if resting:
            carry, figure = resting(carry, *held[0], keys, order, hyper)
            figures.append(figure)
        params, batch_stats, opt_state = carry
        return (
            state._replace(
                params=params, batch_stats=batch_stats, opt_state=opt_state, epoch=state.epoch + 1
            ),
            *ending(*map(list, zip(*figures, strict=True))),
        )

    return epoch


def _compile(function: Callable[..., Any], device: jax.Device, *arguments: Any) -> Any:
    """Compile for one core's device, from arguments of which only the shapes count."""
    place = SingleDeviceSharding(device)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), list(arguments)
    )
    return jax.jit(function).lower(*shapes).compile()
