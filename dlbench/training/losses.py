"""Criteria: one loss per image from logits and labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from dlbench.spec.registry import CRITERIA
from dlbench.training.state import Hyper, Static


@CRITERIA.register("cross_entropy", dynamic=("label_smoothing",), ranges={"label_smoothing": "[0, 1)"})
def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: float | jax.Array = 0.0
) -> jax.Array:
    """Cross-entropy of the softmax, computed with log-sum-exp, as ``torch.nn.CrossEntropyLoss``.

    Args:
        logits: float32 [..., num_classes].
        labels: int32 [...].
        label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al., "Rethinking
            the Inception architecture for computer vision", 2016). Validation and test losses include it.

    Returns:
        float32 [...].
    """
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if isinstance(label_smoothing, float) and label_smoothing == 0:
        return losses
    even = -jax.nn.log_softmax(logits, axis=-1).mean(axis=-1)
    return (1 - label_smoothing) * losses + label_smoothing * even


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


def losses_of(static: Static, logits: jax.Array, labels: jax.Array, hyper: Hyper | None = None) -> jax.Array:
    """The losses of a program's criterion.

    Args:
        static: the static part.
        logits: float32 [..., num_classes].
        labels: int32 [...].
        hyper: the hyper-parameters, for a criterion that has dynamic arguments.

    Returns:
        float32 [...].
    """
    numbers = {} if hyper is None else hyper.arrays("criterion")
    losses: jax.Array = CRITERIA.load(static.criterion)(
        logits, labels, **dict(static.criterion_args), **numbers
    )
    return losses


def single_precision(logits: jax.Array) -> jax.Array:
    """Logits as float32 at least: those of a bfloat16 model would lose digits in the loss."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
