"""Training as pure functions: init, epoch, evaluate, fit. No I/O and no clocks.

Everything is a function of (static part, state, data, keys, hyper-parameters). The static part is hashable
and makes another XLA program; the rest are arrays, so that trials can be vmapped into lanes.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax import lax

from dlbench.augment import augment
from dlbench.losses import CRITERIA
from dlbench.steps import (
    Hyper,
    Keys,
    Params,
    Static,
    epoch_keys,
    mode,
    normalise,
    optimizer_of,
    purpose_keys,
    train_step,
)

#: Images per step of an evaluation; its bits do not depend on the batch size trained with.
EVAL_CHUNK = 100


class Data(NamedTuple):
    """Images uint8 [N, H, W, C] and labels int32 [N] of the two splits that training sees."""

    train_images: jax.Array
    train_labels: jax.Array
    val_images: jax.Array
    val_labels: jax.Array


class TrainState(NamedTuple):
    """Everything that training carries from epoch to epoch.

    ``best_*`` belong to the first epoch (counted from 1; 0 before any) of the highest validation accuracy.
    """

    params: Params
    batch_stats: Params
    opt_state: Any
    epoch: jax.Array
    best_params: Params
    best_batch_stats: Params
    best_val_accuracy: jax.Array
    best_epoch: jax.Array


class EpochMetrics(NamedTuple):
    """float32 scalars: losses in nats, accuracies in [0, 1].

    The training loss is the mean of the steps' mean losses, as PyTorch loops report it; the training
    accuracy is taken while the parameters move; the validation figures are means over images.
    """

    train_loss: jax.Array
    train_accuracy: jax.Array
    val_loss: jax.Array
    val_accuracy: jax.Array


def init(static: Static, data: Data, keys: Keys, hyper: Hyper) -> TrainState:
    """The state before the first epoch."""
    example = normalise(data.train_images[:1])
    variables = static.model.init({"params": keys.init, "dropout": keys.dropout}, example)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer_of(static, hyper).init(params),
        epoch=jnp.zeros((), jnp.int32),
        best_params=params,
        best_batch_stats=batch_stats,
        best_val_accuracy=jnp.full((), -1.0, jnp.float32),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def run_epoch(
    static: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper
) -> tuple[TrainState, EpochMetrics]:
    """Train for one epoch, evaluate on the validation images, keep the best parameters."""
    state, train_loss, train_accuracy = train_epoch(static, state, data, keys, hyper)
    state, val_loss, val_accuracy = validate(static, state, data)
    return state, EpochMetrics(train_loss, train_accuracy, val_loss, val_accuracy)


def train_epoch(
    static: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper
) -> tuple[TrainState, jax.Array, jax.Array]:
    """Every training image once, in an order drawn anew.

    Returns:
        The new state, the mean of the steps' losses, and the accuracy over the epoch's images.
    """
    count, size = data.train_labels.shape[0], static.batch_size
    epoch = state.epoch + 1
    keys = epoch_keys(keys, epoch)
    order = permutation(keys.order, count)
    steps, left = divmod(count, size)
    carry = (state.params, state.batch_stats, state.opt_state)

    def step(carry: Any, xs: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        index, places = xs
        images, labels = data.train_images[places], data.train_labels[places]
        return train_step(static, carry, images, labels, keys, index, hyper)

    full = order[: steps * size].reshape(steps, size)
    carry, (losses, correct) = lax.scan(step, carry, (jnp.arange(steps), full))
    if left:
        carry, (loss, hits) = step(carry, (jnp.asarray(steps), order[steps * size :]))
        losses, correct = jnp.append(losses, loss), jnp.append(correct, hits)
    params, batch_stats, opt_state = carry
    state = state._replace(params=params, batch_stats=batch_stats, opt_state=opt_state, epoch=epoch)
    return state, losses.mean(), correct.sum() / count


def validate(static: Static, state: TrainState, data: Data) -> tuple[TrainState, jax.Array, jax.Array]:
    """Evaluate on the validation images and keep the parameters if they are the best so far.

    Returns:
        The new state, the mean loss, the accuracy.
    """
    loss, accuracy = evaluate(static, state.params, state.batch_stats, data.val_images, data.val_labels)
    better = accuracy > state.best_val_accuracy
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(better, new, old))
    state = state._replace(
        best_params=keep(state.params, state.best_params),
        best_batch_stats=keep(state.batch_stats, state.best_batch_stats),
        best_val_accuracy=jnp.where(better, accuracy, state.best_val_accuracy),
        best_epoch=jnp.where(better, state.epoch, state.best_epoch),
    )
    return state, loss, accuracy


def predict(
    static: Static,
    params: Params,
    batch_stats: Params,
    images: jax.Array,
    augment_key: jax.Array | None = None,
) -> jax.Array:
    """Logits in evaluation mode, in chunks of fixed size.

    Args:
        static: the static part.
        params: parameters.
        batch_stats: running statistics; empty where the model has none.
        images: uint8 [N, H, W, C].
        augment_key: augment the images with this key; clean unless given.

    Returns:
        float32 [N, num_classes].
    """
    count = images.shape[0]
    if augment_key is not None:
        images = augment(images, augment_key)
    chunks = -(-count // EVAL_CHUNK)
    padding = [(0, chunks * EVAL_CHUNK - count)] + [(0, 0)] * (images.ndim - 1)
    stacked = jnp.pad(images, padding).reshape(chunks, EVAL_CHUNK, *images.shape[1:])

    def logits_of(chunk: jax.Array) -> jax.Array:
        variables = {"params": params, "batch_stats": batch_stats}
        return cast(jax.Array, static.model.apply(variables, normalise(chunk), **mode(static.model, False)))

    logits: jax.Array = lax.map(logits_of, stacked)
    return logits.reshape(chunks * EVAL_CHUNK, -1)[:count]


def evaluate(
    static: Static, params: Params, batch_stats: Params, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over images, in evaluation mode."""
    logits = predict(static, params, batch_stats, images)
    return CRITERIA[static.criterion](logits, labels).mean(), (logits.argmax(-1) == labels).mean()


@functools.partial(jax.jit, static_argnames=("static", "num_epochs"))
def fit(
    static: Static, data: Data, key: jax.Array, hyper: Hyper, num_epochs: int
) -> tuple[TrainState, EpochMetrics]:
    """A whole training run as one pure function, for use inside a caller's own ``jit`` and ``vmap``.

    Args:
        static: the static part.
        data: training and validation images.
        key: one key; initialisation, order, dropout and augmentation each derive their own from it.
        hyper: learning rate and weight decay, scalars.
        num_epochs: how many epochs.

    Returns:
        The final state, and the metrics with a leading axis [num_epochs].
    """
    keys = purpose_keys(key)

    def body(state: TrainState, _: None) -> tuple[TrainState, EpochMetrics]:
        return run_epoch(static, state, data, keys, hyper)

    return lax.scan(body, init(static, data, keys, hyper), length=num_epochs)


def permutation(key: jax.Array, count: int) -> jax.Array:
    """A random order of ``count`` things, int32: the ranks of 64 random bits each.

    One sort where ``jax.random.permutation`` makes several; two equal draws among 60,000 have odds of 1e-10.
    """
    bits = jax.random.bits(key, (2, count), jnp.uint32)
    return lax.sort((bits[0], bits[1], jnp.arange(count, dtype=jnp.int32)), num_keys=2)[2]
