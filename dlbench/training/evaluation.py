"""Evaluation as pure functions: logits, losses and accuracies, and the best epoch so far."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench import ops
from dlbench.errors import InputError
from dlbench.models.network import Variables, network_of
from dlbench.training import metrics
from dlbench.training.losses import mean_loss, single_precision
from dlbench.training.metrics import IN_PROGRAM
from dlbench.training.state import Data, Hyper, Params, Static, TrainState

#: Images per step of an evaluation. It is fixed, so that bits do not depend on the batch size of training.
EVAL_CHUNK = 100


def normalize_images(images: jax.Array, mean: ArrayLike = 0.5, std: ArrayLike = 0.5) -> jax.Array:
    """Subtract a mean from images and divide them by a standard deviation.

    Args:
        images: uint8 [..., C], 0 to 255.
        mean: float32 [C] or a scalar, on the scale [0, 1], such as :func:`dlbench.data.channel_statistics` returns.
        std: likewise; not 0.

    Returns:
        float32 [..., C]; in [-1, 1] with the default mean and standard deviation.
    """
    return (images.astype(jnp.float32) / 255.0 - mean) / std


def network_input(static: Static, images: jax.Array) -> jax.Array:
    """What the network is given of uint8 images [N, H, W, C]: float32, of the range that the static part names."""
    pixels = (jnp.asarray(values, jnp.float32) for values in static.pixels or ())
    return normalize_images(images, *pixels)


def validate(
    static: Static, state: TrainState, data: Data, hyper: Hyper
) -> tuple[TrainState, jax.Array, jax.Array]:
    """Evaluate on the validation images and keep the parameters if they are the best so far.

    Returns:
        The new state, the mean loss, the accuracy.

    Raises:
        InputError: the metric of the best epoch is computed on the host.
    """
    if static.metric not in IN_PROGRAM:
        raise InputError(
            f"the metric {static.metric} is computed outside the compiled program",
            field="metric",
            value=static.metric,
            remedy=f"take one of {', '.join(IN_PROGRAM)}",
        )
    params = evaluated_params(state, hyper)
    loss, accuracy = evaluate(
        static, params, state.batch_stats, *_validation(data), hyper, data.class_weights
    )
    by_accuracy = static.metric == "val/accuracy"
    better = accuracy > state.best_val_accuracy if by_accuracy else loss < state.best_val_loss
    return keep_best(state, params, better, loss, accuracy), loss, accuracy


def predict_validation(
    static: Static, state: TrainState, data: Data, hyper: Hyper
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """What a metric that is computed on the host needs.

    Returns:
        The logits of the validation images, their labels, the mean loss, the accuracy.
    """
    images, labels = _validation(data)
    logits = predict(static, evaluated_params(state, hyper), state.batch_stats, images, hyper)
    loss = mean_loss(static, logits, labels, hyper, data.class_weights)
    return logits, labels, loss, metrics.accuracy(logits, labels)


def choose(
    state: TrainState, hyper: Hyper, value: jax.Array, loss: jax.Array, accuracy: jax.Array
) -> TrainState:
    """Keep the parameters if a metric that is computed on the host is the best so far.

    Args:
        state: the state.
        hyper: the hyper-parameters.
        value: the metric, times -1 where lower values are better.
        loss: the mean loss.
        accuracy: the accuracy.
    """
    better = value > state.best_metric
    state = keep_best(state, evaluated_params(state, hyper), better, loss, accuracy)
    return state._replace(best_metric=jnp.where(better, value, state.best_metric))


def keep_best(
    state: TrainState, params: Params, better: jax.Array, loss: jax.Array, accuracy: jax.Array
) -> TrainState:
    """The state with the parameters of this epoch as the best ones, if they are."""
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(better, new, old))
    return state._replace(
        best_params=keep(params, state.best_params),
        best_batch_stats=keep(state.batch_stats, state.best_batch_stats),
        best_val_accuracy=jnp.where(better, accuracy, state.best_val_accuracy),
        best_epoch=jnp.where(better, state.epoch, state.best_epoch),
        best_val_loss=jnp.where(better, loss, state.best_val_loss),
    )


def evaluated_params(state: TrainState, hyper: Hyper) -> Params:
    """The parameters that are evaluated: their average, if there is one."""
    return state.ema_params if "ema_decay" in hyper.others else state.params


def _validation(data: Data) -> tuple[jax.Array, jax.Array]:
    if data.val_indices is None:
        return data.val_images, data.val_labels
    return data.val_images[data.val_indices], data.val_labels[data.val_indices]


def predict(
    static: Static,
    params: Params,
    batch_stats: Params,
    images: jax.Array,
    hyper: Hyper | None = None,
) -> jax.Array:
    """Logits in evaluation mode, in chunks of fixed size.

    Args:
        static: the static part.
        params: parameters.
        batch_stats: batch statistics; empty if the model has none.
        images: uint8 [N, H, W, C].
        hyper: the hyper-parameters, for a model that has dynamic arguments.

    Returns:
        float32 [N, num_classes].
    """
    count = images.shape[0]
    chunks = -(-count // EVAL_CHUNK)
    padding = [(0, chunks * EVAL_CHUNK - count)] + [(0, 0)] * (images.ndim - 1)
    stacked = jnp.pad(images, padding).reshape(chunks, EVAL_CHUNK, *images.shape[1:])
    network, numbers = network_of(static.model), {} if hyper is None else hyper.of_part("model")

    @ops.accelerate
    def logits_of(chunk: jax.Array) -> jax.Array:
        variables = Variables(params, batch_stats)
        return single_precision(network.apply(variables, network_input(static, chunk), numbers)[0])

    logits: jax.Array = jax.lax.map(logits_of, stacked)
    return logits.reshape(chunks * EVAL_CHUNK, -1)[:count]


def evaluate(
    static: Static,
    params: Params,
    batch_stats: Params,
    images: jax.Array,
    labels: jax.Array,
    hyper: Hyper | None = None,
    class_weights: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over images, in evaluation mode."""
    logits = predict(static, params, batch_stats, images, hyper)
    loss = mean_loss(static, logits, labels, hyper, class_weights)
    return loss, metrics.accuracy(logits, labels)
