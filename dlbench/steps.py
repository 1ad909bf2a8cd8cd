"""One step of gradient descent: the batch whole, or divided in shards that any core may compute."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from dlbench.augment import augment
from dlbench.losses import CRITERIA
from dlbench.optimizers import make_optimizer
from dlbench.spec import SHARD, shards_of

Params = Any


@dataclass(frozen=True)
class Static:
    """What makes another XLA program.

    Args:
        model: Flax module, called as ``model(images, train=...)`` or ``model(images)``.
        batch_size: images per step; the last step of an epoch takes what is left.
        optimizer: "adam" or "sgd".
        decay_mode: "decoupled" or "l2".
        criterion: "cross_entropy" or "manual".
        transform: "standard" or "augmented".
    """

    model: nn.Module
    batch_size: int = 16
    optimizer: str = "adam"
    decay_mode: str = "decoupled"
    criterion: str = "cross_entropy"
    transform: str = "standard"


class Hyper(NamedTuple):
    """Hyper-parameters that are arrays inside the program (float32 scalars, or [lanes] under vmap)."""

    learning_rate: jax.Array | float
    weight_decay: jax.Array | float = 0.0


class Keys(NamedTuple):
    """One key for each source of randomness: changing one leaves the others untouched."""

    init: jax.Array
    order: jax.Array
    dropout: jax.Array
    augment: jax.Array


def purpose_keys(key: jax.Array) -> Keys:
    """Derive the four keys of a trial from one."""
    return Keys(*(jax.random.fold_in(key, purpose) for purpose in range(len(Keys._fields))))


def epoch_keys(keys: Keys, epoch: jax.Array) -> Keys:
    """The keys of one epoch."""
    return Keys(*(jax.random.fold_in(key, epoch) for key in keys))


def normalise(images: jax.Array) -> jax.Array:
    """uint8 [..., C] in [0, 255] → float32 in [-1, 1]."""
    return (images.astype(jnp.float32) / 255.0 - 0.5) / 0.5


def train_step(
    static: Static,
    carry: tuple[Params, Params, Any],
    images: jax.Array,
    labels: jax.Array,
    keys: Keys,
    index: jax.Array,
    hyper: Hyper,
) -> tuple[tuple[Params, Params, Any], tuple[jax.Array, jax.Array]]:
    """One step of gradient descent.

    Args:
        static: the static part.
        carry: parameters, batch statistics, optimizer state.
        images: uint8 [B, H, W, C].
        labels: int32 [B].
        keys: the epoch's keys; dropout and augmentation fold the step's index in.
        index: the step's number in the epoch.
        hyper: learning rate and weight decay.

    Returns:
        The new carry; the mean loss and the number of images classified correctly.
    """
    params, batch_stats, _ = carry
    count = shard_count(static, batch_stats, labels.shape[0])
    if count > 1:
        parts = shard_gradients(static, params, images, labels, keys, index, 0, count)
        return apply_shards(static, carry, [parts], count, hyper)
    key = jax.random.fold_in(keys.dropout, index)
    batch = normalise(_transformed(static, images, keys, index))
    grads, loss, hits, batch_stats = _gradients(static, params, batch_stats, batch, labels, key)
    params, opt_state = _updated(static, carry, grads, hyper)
    return (params, batch_stats, opt_state), (loss, hits)


def shard_count(static: Static, batch_stats: Params, images: int) -> int:
    """How many shards a batch is computed in: one where a model looks at the whole batch, and off a CPU."""
    return 1 if batch_stats or jax.default_backend() != "cpu" else shards_of(images)


def shard_gradients(
    static: Static,
    params: Params,
    images: jax.Array,
    labels: jax.Array,
    keys: Keys,
    index: jax.Array,
    first: jax.Array | int,
    count: int,
) -> tuple[Params, jax.Array, jax.Array]:
    """Gradients, losses and hits of some shards of a batch, each computed alone, one after the other.

    Args:
        static: the static part.
        params: parameters.
        images: uint8 [B, H, W, C], the whole batch.
        labels: int32 [B].
        keys: the epoch's keys.
        index: the step's number in the epoch.
        first: the first shard.
        count: how many.

    Returns:
        Each with a leading axis [count].
    """
    batch = normalise(_transformed(static, images, keys, index)).reshape(-1, SHARD, *images.shape[1:])
    labels, key = labels.reshape(-1, SHARD), jax.random.fold_in(keys.dropout, index)

    def one(shard: jax.Array) -> tuple[Params, jax.Array, jax.Array]:
        part, answers = (lax.dynamic_index_in_dim(whole, shard, keepdims=False) for whole in (batch, labels))
        return _gradients(static, params, {}, part, answers, jax.random.fold_in(key, shard))[:3]

    found: tuple[Params, jax.Array, jax.Array] = lax.map(one, first + jnp.arange(count))
    return found


def apply_shards(
    static: Static, carry: tuple[Params, Params, Any], parts: Sequence[Any], count: int, hyper: Hyper
) -> tuple[tuple[Params, Params, Any], tuple[jax.Array, jax.Array]]:
    """A step from the gradients of its shards, summed in their order.

    Args:
        static: the static part.
        carry: parameters, batch statistics, optimizer state.
        parts: what :func:`shard_gradients` found, in order; what is left over at the end is ignored.
        count: how many shards the batch has.
        hyper: learning rate and weight decay.

    Returns:
        As :func:`train_step`.
    """

    def total(*stacks: jax.Array) -> jax.Array:
        terms: list[jax.Array] = [term for stack in stacks for term in stack]
        return functools.reduce(jnp.add, terms[:count])

    grads, loss, hits = jax.tree.map(total, *parts)
    params, opt_state = _updated(static, carry, jax.tree.map(lambda grad: grad / count, grads), hyper)
    return (params, carry[1], opt_state), (loss / count, hits)


def _transformed(static: Static, images: jax.Array, keys: Keys, index: jax.Array) -> jax.Array:
    is_augmented = static.transform == "augmented"
    return augment(images, jax.random.fold_in(keys.augment, index)) if is_augmented else images


def _gradients(
    static: Static, params: Params, batch_stats: Params, batch: jax.Array, labels: jax.Array, key: jax.Array
) -> tuple[Params, jax.Array, jax.Array, Params]:
    """Gradients, mean loss and hits of images float32, and the new batch statistics."""

    def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, Params]]:
        logits, updated = static.model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch,
            **mode(static.model, True),
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return CRITERIA[static.criterion](logits, labels).mean(), (logits, updated)

    (loss, (logits, updated)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    hits = (logits.argmax(-1) == labels).sum()
    return grads, loss, hits, updated.get("batch_stats", batch_stats)


def _updated(
    static: Static, carry: tuple[Params, Params, Any], grads: Params, hyper: Hyper
) -> tuple[Params, Any]:
    params, _, opt_state = carry
    updates, opt_state = optimizer_of(static, hyper).update(grads, opt_state, params)
    return jax.tree.map(jnp.add, params, updates), opt_state


def optimizer_of(static: Static, hyper: Hyper) -> Any:
    """The optax transformation of a program for some hyper-parameters."""
    return make_optimizer(static.optimizer, hyper.learning_rate, hyper.weight_decay, static.decay_mode)


@functools.cache
def _accepts_train(call: Callable[..., Any]) -> bool:
    return "train" in inspect.signature(call).parameters


def mode(model: nn.Module, train: bool) -> dict[str, Any]:
    """The argument that tells training from evaluation, for models that take one."""
    return {"train": train} if _accepts_train(type(model).__call__) else {}
