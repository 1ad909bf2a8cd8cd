"""Criteria: one loss per image from logits and labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from dlbench.errors import InputError
from dlbench.spec.registry import CRITERIA
from dlbench.spec.trial import TrialSpec
from dlbench.training.metrics import loss
from dlbench.training.state import Hyper, Static


@CRITERIA.register(
    "cross_entropy", targets="classes", dynamic=("label_smoothing",), ranges={"label_smoothing": "[0, 1)"}
)
def cross_entropy(
    logits: jax.Array,
    labels: jax.Array,
    label_smoothing: float | jax.Array = 0.0,
    class_weights: jax.Array | None = None,
) -> jax.Array:
    """Cross-entropy of the softmax, computed with log-sum-exp, as ``torch.nn.CrossEntropyLoss``.

    Args:
        logits: float32 [..., num_classes].
        labels: int32 [...].
        label_smoothing: the share of the target that is spread evenly over all classes (Szegedy et al., "Rethinking
            the Inception architecture for computer vision", 2016). Validation and test losses include it.
        class_weights: float32 [num_classes]; each class's share of the target counts by its weight.

    Returns:
        float32 [...].
    """
    losses: jax.Array = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if class_weights is not None:
        losses = losses * class_weights[labels]
    if isinstance(label_smoothing, float) and label_smoothing == 0:
        return losses
    logs = jax.nn.log_softmax(logits, axis=-1)
    even = -(logs if class_weights is None else logs * class_weights).mean(axis=-1)
    return (1 - label_smoothing) * losses + label_smoothing * even


@CRITERIA.register("manual", targets="classes")
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


@CRITERIA.register("mse", targets="numbers")
def mse(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Squared error, as ``torch.nn.MSELoss``.

    Args:
        logits: float32 [..., 1].
        labels: float32 [...].

    Returns:
        float32 [...].
    """
    return (logits[..., 0] - labels) ** 2


@CRITERIA.register("mae", targets="numbers")
def mae(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Absolute error, as ``torch.nn.L1Loss``."""
    return jnp.abs(logits[..., 0] - labels)


@CRITERIA.register("huber", targets="numbers", dynamic=("delta",), ranges={"delta": "(0, inf)"})
def huber(logits: jax.Array, labels: jax.Array, delta: float | jax.Array = 1.0) -> jax.Array:
    """Squared error near zero and absolute error beyond, as ``torch.nn.HuberLoss``.

    Args:
        logits: float32 [..., 1].
        labels: float32 [...].
        delta: the error from which it is linear.
    """
    error = jnp.abs(logits[..., 0] - labels)
    return jnp.where(error <= delta, 0.5 * error**2, delta * (error - 0.5 * delta))


def losses_of(
    static: Static,
    logits: jax.Array,
    labels: jax.Array,
    hyper: Hyper | None = None,
    class_weights: jax.Array | None = None,
) -> jax.Array:
    """The losses of a program's criterion.

    Args:
        static: the static part.
        logits: float32 [..., num_classes].
        labels: int32 [...].
        hyper: the hyper-parameters, for a criterion that has dynamic arguments.
        class_weights: float32 [num_classes]. A criterion that takes none has its losses multiplied by them.

    Returns:
        float32 [...].
    """
    numbers = {} if hyper is None else hyper.arrays("criterion")
    weighs = "class_weights" in CRITERIA.signature(static.criterion).arguments
    given = {"class_weights": class_weights} if weighs and class_weights is not None else {}
    losses: jax.Array = CRITERIA.load(static.criterion)(
        logits, labels, **dict(static.criterion_args), **numbers, **given
    )
    return losses if weighs or class_weights is None else losses * class_weights[labels]


def mean_loss(
    static: Static,
    logits: jax.Array,
    labels: jax.Array,
    hyper: Hyper | None = None,
    class_weights: jax.Array | None = None,
) -> jax.Array:
    """The mean of :func:`losses_of`; with class weights, as in PyTorch, their sum divided by that of the weights."""
    losses = losses_of(static, logits, labels, hyper, class_weights)
    total: jax.Array = loss(losses)
    return total if class_weights is None else losses.sum() / class_weights[labels].sum()


def weights_of_classes(spec: TrialSpec, labels: NDArray[Any], num_classes: int) -> NDArray[np.float32] | None:
    """The class weights of a trial, float32 [num_classes]; ``None`` where all classes count alike.

    Args:
        spec: the trial.
        labels: int32, those of its training images. Balanced weights are, as in scikit-learn, their number divided by
            that of the classes times that of the images of the class.
        num_classes: number of classes.

    Raises:
        InputError: a class has no training image to be balanced by.
    """
    if spec.class_weights is None:
        return None
    if spec.class_weights == "balanced":
        counts = np.bincount(labels, minlength=num_classes)
        if not counts.all():
            raise InputError(
                f"class {int(counts.argmin())} has no training image, so it has no balanced weight",
                field="class_weights",
                value="balanced",
                remedy="train on more images, or name the weights",
            )
        return (len(labels) / (num_classes * counts)).astype(np.float32)
    weights = np.ones(num_classes, np.float32)
    for label, weight in spec.class_weights:
        weights[label] = weight
    return weights


def single_precision(logits: jax.Array) -> jax.Array:
    """Logits as float32 at least: those of a bfloat16 model would lose digits in the loss."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
