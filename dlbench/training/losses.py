"""Criteria: one loss per image from logits and labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from dlbench.spec.registry import CRITERIA


@CRITERIA.register("cross_entropy")
def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy of the softmax, computed with log-sum-exp.

    Args:
        logits: float32 [..., num_classes].
        labels: int32 [...].

    Returns:
        float32 [...].
    """
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return losses


@CRITERIA.register("manual")
def manual(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy as DeepLearningPipeline computes it: the logarithm of the softmax at the label.

    Equal to :func:`cross_entropy` as long as no probability underflows; infinite if one does.

    Args:
        logits: float32 [..., num_classes].
        labels: int32 [...].

    Returns:
        float32 [...].
    """
    log_probabilities = jnp.log(jax.nn.softmax(logits, axis=-1))
    return -jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
