"""Evaluation as pure functions: logits, losses and accuracies, and the best epoch so far."""

from __future__ import annotations

import functools
from typing import cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from dlbench.models.mode import mode
from dlbench.spec.registry import CRITERIA
from dlbench.training.augmentation import augment
from dlbench.training.state import Data, Params, Static, TrainState

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


def validate(static: Static, state: TrainState, data: Data) -> tuple[TrainState, jax.Array, jax.Array]:
    """Evaluate on the validation images and keep the parameters if they are the best so far.

    Returns:
        The new state, the mean loss, the accuracy.
    """
    images, labels = data.val_images, data.val_labels
    if data.val_indices is not None:
        images, labels = images[data.val_indices], labels[data.val_indices]
    loss, accuracy = evaluate(static, state.params, state.batch_stats, images, labels)
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
        batch_stats: batch statistics; empty if the model has none.
        images: uint8 [N, H, W, C].
        augment_key: if given, the images are augmented with this key.

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
        return cast(
            jax.Array, static.model.apply(variables, normalize_images(chunk), **mode(static.model, False))
        )

    logits: jax.Array = jax.lax.map(logits_of, stacked)
    return logits.reshape(chunks * EVAL_CHUNK, -1)[:count]


def evaluate(
    static: Static, params: Params, batch_stats: Params, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy over images, in evaluation mode."""
    logits = predict(static, params, batch_stats, images)
    return CRITERIA.load(static.criterion)(logits, labels).mean(), (logits.argmax(-1) == labels).mean()
