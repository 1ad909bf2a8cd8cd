"""Evaluation as pure functions: logits, losses and accuracies, and the best epoch so far."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench import ops
from dlbench.models.network import Variables, network_of
from dlbench.training.losses import losses_of, single_precision
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
    """
    images, labels = data.val_images, data.val_labels
    if data.val_indices is not None:
        images, labels = images[data.val_indices], labels[data.val_indices]
    params = state.ema_params if "ema_decay" in hyper.others else state.params
    loss, accuracy = evaluate(static, params, state.batch_stats, images, labels, hyper)
    by_accuracy = static.metric == "val/accuracy"
    better = accuracy > state.best_val_accuracy if by_accuracy else loss < state.best_val_loss
    keep = functools.partial(jax.tree.map, lambda new, old: jnp.where(better, new, old))
    state = state._replace(
        best_params=keep(params, state.best_params),
        best_batch_stats=keep(state.batch_stats, state.best_batch_stats),
        best_val_accuracy=jnp.where(better, accuracy, state.best_val_accuracy),
        best_epoch=jnp.where(better, state.epoch, state.best_epoch),
        best_val_loss=jnp.where(better, loss, state.best_val_loss),
    )
    return state, loss, accuracy


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

    def logits_of(chunk: jax.Array) -> jax.Array:
        variables = Variables(params, batch_stats)
        with ops.accelerated():
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
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over images, in evaluation mode."""
    logits = predict(static, params, batch_stats, images, hyper)
    return losses_of(static, logits, labels, hyper).mean(), (logits.argmax(-1) == labels).mean()
