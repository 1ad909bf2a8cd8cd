"""Training as pure functions: initialisation, step, epoch, and a whole training run. No I/O and no clocks.

Everything is a function of the static part, the state, the data, the keys and the hyper-parameters. The static part is
hashable, and each value of it needs its own XLA program. Everything else is an array, so trials can be vmapped.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from dlbench.models.mode import initial_mode, mode
from dlbench.spec.registry import CRITERIA, TRANSFORMS
from dlbench.training.evaluation import normalize_images, validate
from dlbench.training.optimizers import make_optimizer
from dlbench.training.state import Data, EpochMetrics, Hyper, Keys, Params, Static, TrainState


def purpose_keys(key: jax.Array) -> Keys:
    """Derive the four keys of a trial from one key."""
    return Keys(*(jax.random.fold_in(key, purpose) for purpose in range(len(Keys._fields))))


def init(static: Static, data: Data, keys: Keys, hyper: Hyper) -> TrainState:
    """The state before the first epoch."""
    example = normalize_images(data.train_images[:1])
    rngs = {"params": keys.init, "dropout": keys.dropout}
    variables = static.model.init(rngs, example, **initial_mode(static.model))
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
    """Train for one epoch, evaluate on the validation images, and keep the best parameters."""
    state, train_loss, train_accuracy = train_epoch(static, state, data, keys, hyper)
    state, val_loss, val_accuracy = validate(static, state, data)
    return state, EpochMetrics(train_loss, train_accuracy, val_loss, val_accuracy)


def train_epoch(
    static: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper
) -> tuple[TrainState, jax.Array, jax.Array]:
    """Train on every training image once, in a random order.

    Returns:
        The new state, the mean loss over the steps, and the accuracy over the images of the epoch.
    """
    count, size = data.train_size, static.batch_size
    epoch = state.epoch + 1
    keys = Keys(*(jax.random.fold_in(key, epoch) for key in keys))
    order = permutation(keys.order, count)
    if data.train_indices is not None:
        order = data.train_indices[order]
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
        keys: the keys of the epoch; those of dropout and augmentation are combined with ``index``.
        index: the number of the step in the epoch, from 0.
        hyper: learning rate and weight decay.

    Returns:
        The new carry; the mean loss and the number of images classified correctly.
    """
    params, batch_stats, opt_state = carry
    images = TRANSFORMS.load(static.transform)(images, jax.random.fold_in(keys.augment, index))
    batch = normalize_images(images)
    dropout_key = jax.random.fold_in(keys.dropout, index)

    def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, Params]]:
        logits, updated = static.model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch,
            **mode(static.model, True),
            rngs={"dropout": dropout_key},
            mutable=["batch_stats"],
        )
        return CRITERIA.load(static.criterion)(logits, labels).mean(), (logits, updated)

    (loss, (logits, updated)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
    updates, opt_state = _optimizer(static, hyper).update(grads, opt_state, params)
    params = jax.tree.map(jnp.add, params, updates)
    hits = (logits.argmax(-1) == labels).sum()
    return (params, updated.get("batch_stats", batch_stats), opt_state), (loss, hits)


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
        num_epochs: number of epochs.

    Returns:
        The final state, and the metrics with a leading axis [num_epochs].
    """
    keys = purpose_keys(key)

    def body(state: TrainState, _: None) -> tuple[TrainState, EpochMetrics]:
        return run_epoch(static, state, data, keys, hyper)

    return jax.lax.scan(body, init(static, data, keys, hyper), length=num_epochs)


def permutation(key: jax.Array, count: int) -> jax.Array:
    """A random permutation, int32 [count]: the order of ``count`` random numbers of 64 bits.

    It needs one sort, where ``jax.random.permutation`` needs several. The probability of a tie among 60,000 numbers is
    1e-10.
    """
    bits = jax.random.bits(key, (2, count), jnp.uint32)
    return jax.lax.sort((bits[0], bits[1], jnp.arange(count, dtype=jnp.int32)), num_keys=2)[2]


def _optimizer(static: Static, hyper: Hyper) -> Any:
    return make_optimizer(
        static.optimizer, hyper.learning_rate, hyper.weight_decay, static.decay_mode, static.optimizer_args
    )
