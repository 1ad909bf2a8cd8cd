"""Training as pure functions: initialisation, step, epoch, and a whole training run. No I/O and no clocks.

Everything is a function of the static part, the state, the data, the keys and the hyper-parameters. The static part is
hashable, and each value of it needs its own XLA program. Everything else is an array, so trials can be vmapped.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dlbench import ops
from dlbench.models.network import Variables, network_of
from dlbench.spec.registry import SCHEDULES
from dlbench.training import mixup
from dlbench.training.augmentation import transform_images
from dlbench.training.evaluation import network_input, validate
from dlbench.training.losses import losses_of, mean_loss, single_precision
from dlbench.training.metrics import IN_PROGRAM, hits
from dlbench.training.optimizers import make_optimizer
from dlbench.training.state import Data, EpochMetrics, Hyper, Keys, Params, Static, TrainState

Steps = tuple[jax.Array, jax.Array]
"""The loss and the number of correct answers, of one step or of each of several."""


def purpose_keys(key: jax.Array) -> Keys:
    """Derive the four keys of a trial from one key."""
    return Keys(*(jax.random.fold_in(key, purpose) for purpose in range(len(Keys._fields))))


def init(static: Static, data: Data, keys: Keys, hyper: Hyper) -> TrainState:
    """The state before the first epoch."""
    example = network_input(static, data.train_images[:1])
    rngs = {"params": keys.init, "dropout": keys.dropout}
    params, batch_stats = network_of(static.model).init(rngs, example, hyper.of_part("model"))
    return TrainState(
        params=params,
        batch_stats=batch_stats,
        opt_state=_optimizer(static, hyper).init(params),
        epoch=jnp.zeros((), jnp.int32),
        best_params=params,
        best_batch_stats=batch_stats,
        best_val_accuracy=jnp.full((), -1.0, jnp.float32),
        best_epoch=jnp.zeros((), jnp.int32),
        best_val_loss=jnp.full((), jnp.inf, jnp.float32),
        ema_params=params if "ema_decay" in hyper.others else (),
        best_metric=() if static.metric in IN_PROGRAM else jnp.full((), -jnp.inf, jnp.float32),
    )


def run_epoch(
    static: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper
) -> tuple[TrainState, EpochMetrics]:
    """Train for one epoch, evaluate on the validation images, and keep the best parameters."""
    state, train_loss, train_accuracy = train_epoch(static, state, data, keys, hyper)
    state, val_loss, val_accuracy = validate(static, state, data, hyper)
    return state, EpochMetrics(train_loss, train_accuracy, val_loss, val_accuracy)


def train_epoch(
    static: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper
) -> tuple[TrainState, jax.Array, jax.Array]:
    """Train on every training image once, in a random order.

    Returns:
        The new state, the mean loss over the steps, and the accuracy over the images of the epoch.
    """
    order = epoch_order(state.epoch, data, keys)
    before = Carry.of(state)
    carry, full, last = train_steps(static, before, state.epoch, data, order, 0, keys, hyper)
    return carry.put(state)._replace(epoch=state.epoch + 1), *summary(data, full, last)


def epoch_order(epoch: jax.Array, data: Data, keys: Keys) -> jax.Array:
    """Where the images of an epoch lie in the training half, in the order of training: int32 [training size].

    Args:
        epoch: the number of epochs before this one.
        data: training and validation images; the images themselves are not read.
        keys: the keys of the trial.
    """
    order = permutation(jax.random.fold_in(keys.order, epoch + 1), data.train_size)
    return order if data.train_indices is None else data.train_indices[order]


def train_steps(
    static: Static,
    carry: Carry,
    epoch: jax.Array,
    data: Data,
    places: jax.Array,
    first: jax.Array | int,
    keys: Keys,
    hyper: Hyper,
) -> tuple[Carry, Steps, Steps | None]:
    """Train on images of an epoch, batch after batch: on all of them, or on a part whose images lie in memory.

    Args:
        static: the static part.
        carry: what steps change.
        epoch: the number of epochs before this one.
        data: training and validation images.
        places: int32 [M], where the images lie in ``data.train_images``, in the order of training; whole batches,
            except at the end of the epoch.
        first: the number of steps of the epoch before these.
        keys: the keys of the trial.
        hyper: the hyper-parameters.

    Returns:
        The new carry; what the steps on full batches gave; and what a step on fewer images at the end gave, if any.
    """
    size = static.batch_size
    steps, left = divmod(len(places), size)
    steps_per_epoch = -(-data.train_size // size)
    keys = Keys(*(jax.random.fold_in(key, epoch + 1) for key in keys))

    def step(carry: Any, xs: tuple[jax.Array, jax.Array]) -> tuple[Any, tuple[jax.Array, jax.Array]]:
        index, batch = xs
        images, labels = data.train_images[batch], data.train_labels[batch]
        past = epoch * steps_per_epoch + index
        scheduled = hyper._replace(learning_rate=scheduled_rate(static, hyper, past, steps_per_epoch))
        return train_step(static, carry, images, labels, keys, index, scheduled, past, data.class_weights)

    full = places[: steps * size].reshape(steps, size)
    carry, values = jax.lax.scan(step, carry, (first + jnp.arange(steps), full))
    if not left:
        return carry, values, None
    carry, last = step(carry, (jnp.asarray(first + steps), places[steps * size :]))
    return carry, values, last


def last_step(
    static: Static,
    carry: Carry,
    epoch: jax.Array,
    data: Data,
    places: jax.Array,
    first: jax.Array,
    full: Steps | None,
    keys: Keys,
    hyper: Hyper,
) -> tuple[Carry, jax.Array, jax.Array]:
    """Make the step on the images that are left, and summarise the epoch, with the bits of :func:`train_epoch`.

    The two are one program, because there the compiler does not round the last loss before it is added. Nor does it
    round the first of two, so an epoch of two steps is trained as a whole: ``full`` is then ``None``.

    The arguments are those of :func:`train_steps` and :func:`summary`.
    """
    carry, own, last = train_steps(static, carry, epoch, data, places, first, keys, hyper)
    return carry, *summary(data, full or own, last)


def summary(data: Data, full: Steps, last: Steps | None = None) -> tuple[jax.Array, jax.Array]:
    """The mean of the losses of an epoch's steps, and the accuracy over its images.

    Args:
        data: training and validation images; the images themselves are not read.
        full: what the steps on full batches gave, [steps].
        last: what the step on the images that are left gave, if there is one.
    """
    losses, correct = full
    if last is not None:
        losses, correct = jnp.append(losses, last[0]), jnp.append(correct, last[1])
    return losses.mean(), correct.sum() / data.train_size


class Carry(NamedTuple):
    """What a step of training changes: fields of :class:`~dlbench.training.state.TrainState`."""

    params: Params
    batch_stats: Params
    opt_state: Any
    ema_params: Params = ()

    @classmethod
    def of(cls, state: TrainState) -> Carry:
        """What steps change of a state."""
        return cls(state.params, state.batch_stats, state.opt_state, state.ema_params)

    def put(self, state: TrainState) -> TrainState:
        """The state with this in it."""
        return state._replace(**self._asdict())


def train_step(
    static: Static,
    carry: Carry | tuple[Params, Params, Any],
    images: jax.Array,
    labels: jax.Array,
    keys: Keys,
    index: jax.Array,
    hyper: Hyper,
    past: jax.Array | int = 0,
    class_weights: jax.Array | None = None,
) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
    """One step of gradient descent.

    Args:
        static: the static part.
        carry: parameters, batch statistics, optimizer state, average of the parameters.
        images: uint8 [B, H, W, C].
        labels: int32 [B].
        keys: the keys of the epoch; those of dropout and augmentation are combined with ``index``.
        index: the number of the step in the epoch, from 0.
        hyper: the hyper-parameters, with the learning rate of this step.
        past: the number of steps before this one in the whole training; the average of the parameters needs it.
        class_weights: float32 [num_classes]; ``None`` where all classes count alike.

    Returns:
        The new carry; the mean loss and the number of images classified correctly. With mixup, an image counts by the
        share of the image that it is mixed from.
    """
    carry = Carry(*carry)
    network, numbers = network_of(static.model), hyper.of_part("model")
    augment_key = jax.random.fold_in(keys.augment, index)
    images = transform_images(
        static.transform, dict(static.transform_args) | hyper.arrays("transform"), images, augment_key
    )
    batch, targets = mixup.mixed(network_input(static, images), labels, augment_key, hyper.value("mixup"))
    dropout_key = jax.random.fold_in(keys.dropout, index)

    def loss_of(params: Params) -> tuple[jax.Array, tuple[jax.Array, Params]]:
        def apply(variables: Variables, images: jax.Array) -> tuple[jax.Array, Params]:
            return network.apply(variables, images, numbers, dropout_key)

        logits, updated = ops.accelerate(apply)(Variables(params, carry.batch_stats), batch)
        logits = single_precision(logits)
        if class_weights is None:
            losses = mixup.weighted(lambda labels: losses_of(static, logits, labels, hyper), targets)
            return losses.mean(), (logits, updated)
        loss = mixup.weighted(lambda labels: mean_loss(static, logits, labels, hyper, class_weights), targets)
        return loss, (logits, updated)

    (loss, (logits, batch_stats)), grads = jax.value_and_grad(loss_of, has_aux=True)(carry.params)
    updates, opt_state = _optimizer(static, hyper).update(grads, carry.opt_state, carry.params)
    params = jax.tree.map(jnp.add, carry.params, updates)
    ema_params = averaged(carry.ema_params, params, hyper, past)
    correct = mixup.weighted(lambda labels: hits(logits, labels), targets).sum()
    return jax.tree.map(_as, Carry(params, batch_stats, opt_state, ema_params), carry), (loss, correct)


def _as(new: jax.Array, old: jax.Array) -> jax.Array:
    """In the type that it had before the step: those of a bfloat16 model are updated in float32."""
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def scheduled_rate(static: Static, hyper: Hyper, past: jax.Array, steps_per_epoch: int) -> jax.Array | float:
    """The learning rate of a step.

    Args:
        static: the static part.
        hyper: the hyper-parameters.
        past: the number of steps before this one, int32.
        steps_per_epoch: number of steps of an epoch.
    """
    numbers = hyper.arrays("schedule")
    if static.schedule == "constant" and not numbers:
        return hyper.learning_rate
    factor: jax.Array = SCHEDULES.load(static.schedule)(
        past.astype(jnp.float32),
        steps_per_epoch,
        hyper.value("num_epochs"),
        **dict(static.schedule_args),
        **numbers,
    )
    return hyper.learning_rate * factor


def averaged(average: Params, params: Params, hyper: Hyper, past: jax.Array | int) -> Params:
    """The exponential moving average of the parameters after a step: ``decay`` of the old, the rest of the new.

    It begins as the parameters after the first step, as ``torch.optim.swa_utils.AveragedModel``. Nothing if there is no
    average.
    """
    decay = hyper.others.get("ema_decay")
    if decay is None:
        return ()

    def blend(old: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.where(past == 0, new, old + (1 - decay) * (new - old))

    return jax.tree.map(blend, average, params)


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
    arguments = (*static.optimizer_args, *hyper.of_part("optimizer").items())
    return make_optimizer(
        static.optimizer,
        hyper.learning_rate,
        hyper.weight_decay,
        static.decay_mode,
        arguments,
        decay_on=static.decay_on,
        clip_norm=hyper.value("clip_norm"),
    )
