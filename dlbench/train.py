"""Training as pure functions: init, epoch, evaluate, fit. No I/O and no clocks.

Everything is a function of (static part, state, data, keys, hyper-parameters). The static part is hashable
and makes another XLA program; the rest are arrays, so that trials can be vmapped into lanes.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from dlbench.augment import augment
from dlbench.losses import CRITERIA
from dlbench.optimizers import make_optimizer

Params = Any

#: Images per step of an evaluation; its bits do not depend on the batch size trained with.
EVAL_CHUNK = 100


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


def purpose_keys(key: jax.Array) -> Keys:
    """Derive the four keys of a trial from one."""
    return Keys(*(jax.random.fold_in(key, purpose) for purpose in range(len(Keys._fields))))


def normalise(images: jax.Array) -> jax.Array:
    """uint8 [..., C] in [0, 255] → float32 in [-1, 1]."""
    return (images.astype(jnp.float32) / 255.0 - 0.5) / 0.5


def init(static: Static, data: Data, keys: Keys, hyper: Hyper) -> TrainState:
    """The state before the first epoch."""
    example = normalise(data.train_images[:1])
    variables = static.model.init({"params": keys.init, "dropout": keys.dropout}, example)
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        params=params,
        batch_stats=batch_stats,
        opt_state=_optimizer(static, hyper).init(params),
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
    keys = Keys(*(jax.random.fold_in(key, epoch) for key in keys))
    order = permutation(keys.order, count)
    steps, left = divmod(count, size)
    carry = (state.params, state.batch_stats, state.opt_state)

    def step(carry: Any, xs: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        index, places = xs
        images, labels = data.train_images[places], data.train_labels[places]
        return train_step(static, carry, images, labels, keys, index, hyper)

    full = order[: steps * size].reshape(steps, size)
    carry, (losses, correct) = jax.lax.scan(step, carry, (jnp.arange(steps), full))
    if left:
        carry, (loss, hits) = step(carry, (jnp.asarray(steps), order[steps * size :]))
        losses, correct = jnp.append(losses, loss), jnp.append(correct, hits)
    params, batch_stats, opt_state = carry
    state = state._replace(params=params, batch_stats=batch_stats, opt_state=opt_state, epoch=epoch)
    return state, losses.mean(), correct.sum() / count


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
    params, batch_stats, opt_state = carry
    if static.transform == "augmented":
        images = augment(images, jax.random.fold_in(keys.augment, index))
    batch = normalise(images)
    dropout_key = jax.random.fold_in(keys.dropout, index)

    def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, Params]]:
        logits, updated = static.model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch,
            **_mode(static.model, True),
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        return CRITERIA[static.criterion](logits, labels).mean(), (logits, updated)

    (loss, (logits, updated)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt_state = _optimizer(static, hyper).update(grads, opt_state, params)
    params = jax.tree.map(jnp.add, params, updates)
    hits = (logits.argmax(-1) == labels).sum()
    return (params, updated.get("batch_stats", batch_stats), opt_state), (loss, hits)


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
        return cast(jax.Array, static.model.apply(variables, normalise(chunk), **_mode(static.model, False)))

    logits: jax.Array = jax.lax.map(logits_of, stacked)
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

    return jax.lax.scan(body, init(static, data, keys, hyper), length=num_epochs)


def permutation(key: jax.Array, count: int) -> jax.Array:
    """A random order of ``count`` things, int32: the ranks of 64 random bits each.

    One sort where ``jax.random.permutation`` makes several; two equal draws among 60,000 have odds of 1e-10.
    """
    bits = jax.random.bits(key, (2, count), jnp.uint32)
    return jax.lax.sort((bits[0], bits[1], jnp.arange(count, dtype=jnp.int32)), num_keys=2)[2]


def _optimizer(static: Static, hyper: Hyper) -> Any:
    return make_optimizer(static.optimizer, hyper.learning_rate, hyper.weight_decay, static.decay_mode)


@functools.cache
def _accepts_train(call: Callable[..., Any]) -> bool:
    return "train" in inspect.signature(call).parameters


def _mode(model: nn.Module, train: bool) -> dict[str, Any]:
    """The argument that tells training from evaluation, for models that take one."""
    return {"train": train} if _accepts_train(type(model).__call__) else {}
