"""The types of training: static part, hyper-parameters, keys, data and state."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dlbench.data import Split
from dlbench.spec.parts import Arguments
from dlbench.spec.trial import Trial

Params = Any
Pixels = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True, eq=False)
class Static:
    """The static part of training; each value of it needs its own XLA program.

    Arguments of parts are those whose values make another program; the others are in :class:`Hyper`.

    Args:
        model: Flax module, called as ``model(images, train=...)``, or with whichever of the arguments in
            :data:`dlbench.spec.switches.SPELLINGS` it takes; or a :class:`~dlbench.models.network.Network`.
        batch_size: images per step; the last step of an epoch takes the remaining ones.
        optimizer: the optimizer, by name or reference.
        decay_mode: "decoupled" or "l2".
        criterion: the loss.
        transform: what happens to the training images; several transforms are joined by "+".
        optimizer_args: what the optimizer is made with, where that is not its default.
        schedule: how the learning rate changes.
        schedule_args: as ``optimizer_args``.
        criterion_args: as ``optimizer_args``.
        transform_args: as ``optimizer_args``.
        decay_on: which parameters decay: "all" or "weights".
        metric: the validation metric of the best epoch; :func:`dlbench.fit` takes "val/accuracy" and "val/loss".
        pixels: mean and standard deviation of each channel of the images, whose values are in [0, 1]; ``None`` maps
            them to [-1, 1].
        metric_args: as ``optimizer_args``.
    """

    model: Any
    batch_size: int = 16
    optimizer: str = "adam"
    decay_mode: str = "decoupled"
    criterion: str = "cross_entropy"
    transform: str = "standard"
    optimizer_args: Arguments = ()
    schedule: str = "constant"
    schedule_args: Arguments = ()
    criterion_args: Arguments = ()
    transform_args: Arguments = ()
    decay_on: str = "all"
    metric: str = "val/accuracy"
    pixels: Pixels | None = None
    metric_args: Arguments = ()

    @functools.cached_property
    def _key(self) -> tuple[object, ...]:
        others = (getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "model")
        try:
            hash(self.model)
        except (TypeError, ValueError):  # it holds a list, a dictionary or an array
            return (_frozen(self.model), *others)
        return (self.model, *others)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and self._key == other._key


def _frozen(value: Any) -> object:
    """Something that can be hashed, equal for values of equal content."""
    if isinstance(value, nn.Module):
        kept = (each.name for each in dataclasses.fields(value) if each.name != "parent")
        return (type(value), *((name, _frozen(getattr(value, name, None))) for name in kept))
    if isinstance(value, Mapping):
        return "mapping", tuple((key, _frozen(each)) for key, each in value.items())
    if isinstance(value, list | tuple):
        return "sequence", *map(_frozen, value)
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.dtype.str, array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Coefficient:
    """A number as an array in a compiled program, in operations as a float would be.

    A float ``b`` is rounded to float32 where it meets an array, and so is ``1 - b``: the complement is not the
    difference of rounded numbers. With both as arrays, a program gives the bits that it gives for a constant.

    Attributes:
        value: float32.
        complement: ``1 - value``, computed in float64 and rounded to float32.
    """

    value: jax.Array
    complement: jax.Array

    @classmethod
    def of(cls, number: float) -> Coefficient:
        """The coefficient of a number."""
        return cls(jnp.float32(number), jnp.float32(1 - number))

    def __rsub__(self, other: Any) -> Any:
        return self.complement if isinstance(other, int | float) and other == 1 else other - self.value

    def __mul__(self, other: Any) -> Any:
        return self.value * other

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        return self.value + other

    __radd__ = __add__

    def __pow__(self, other: Any) -> Any:
        return self.value**other

    def __lt__(self, other: Any) -> Any:
        return self.value < other

    def __gt__(self, other: Any) -> Any:
        return self.value > other


class Hyper(NamedTuple):
    """Hyper-parameters that are arrays in the program: float32 scalars, or [lanes] under vmap.

    Attributes:
        learning_rate: the learning rate, at its highest where a schedule changes it.
        weight_decay: weight decay.
        others: whatever else a trial has on (see :meth:`dlbench.spec.trial.TrialSpec.dynamic`): arguments of parts by
            their path ("optimizer.momentum"), "clip_norm", "ema_decay", "mixup", "num_epochs".
    """

    learning_rate: jax.Array | float
    weight_decay: jax.Array | float = 0.0
    others: Mapping[str, Coefficient] = {}

    def arrays(self, part: str) -> dict[str, jax.Array]:
        """The dynamic arguments of a part, by name, as plain arrays."""
        return {name: number.value for name, number in self.of_part(part).items()}

    def of_part(self, part: str) -> dict[str, Coefficient]:
        """The dynamic arguments of a part, by name."""
        start = f"{part}."
        return {
            name.removeprefix(start): value for name, value in self.others.items() if name.startswith(start)
        }

    def only(self, *names: str) -> Hyper:
        """The same without other numbers and parts than these, for a function that uses no more."""
        kept = {name: value for name, value in self.others.items() if name.partition(".")[0] in names}
        return self._replace(others=kept)

    def value(self, name: str) -> jax.Array | None:
        """A number by name; ``None`` where it is off."""
        return self.others[name].value if name in self.others else None


class Keys(NamedTuple):
    """One key per source of randomness, so that each source can be changed without changing the others."""

    init: jax.Array
    order: jax.Array
    dropout: jax.Array
    augment: jax.Array


class TrainingHalf(Protocol):
    """The half of a data set from which a split is drawn: images uint8 [N, H, W, C] and labels int32 [N]."""

    @property
    def train_images(self) -> Any:
        """The images."""

    @property
    def train_labels(self) -> Any:
        """Their labels."""


class Data(NamedTuple):
    """The images and labels for training and validation.

    With indices, the images of a split are rows of arrays that other splits can share:
    ``train_images[train_indices]`` and ``val_images[val_indices]``. Under ``vmap``, only the indices and the class
    weights need a lane axis. Without indices, every image is used.

    Attributes:
        train_images: uint8 [N, H, W, C].
        train_labels: int32 [N].
        val_images: uint8 [M, H, W, C].
        val_labels: int32 [M].
        train_indices: int32 [train size], or ``None`` for all.
        val_indices: int32 [validation size], or ``None`` for all.
        class_weights: float32 [num_classes], or ``None`` where all classes count alike in the loss.
    """

    train_images: jax.Array
    train_labels: jax.Array
    val_images: jax.Array
    val_labels: jax.Array
    train_indices: jax.Array | None = None
    val_indices: jax.Array | None = None
    class_weights: jax.Array | None = None

    @classmethod
    def from_split(cls, dataset: TrainingHalf, split: Split) -> Data:
        """A split of a data set's training half, on the default device.

        Args:
            dataset: a :class:`~dlbench.data.Dataset`, or another object with ``train_images`` and ``train_labels``;
                arrays that are already on the device are not copied.
            split: which of the images are for training, and which for validation.
        """
        images, labels = jnp.asarray(dataset.train_images), jnp.asarray(dataset.train_labels)
        return cls(
            images, labels, images, labels, *map(jnp.asarray, (split.train_indices, split.val_indices))
        )

    @property
    def train_size(self) -> int:
        """Number of images in an epoch."""
        return len(self.train_labels if self.train_indices is None else self.train_indices)


class TrainState(NamedTuple):
    """The state of training between epochs.

    The fields ``best_*`` belong to the first epoch with the best validation metric. Epochs are counted from 1; 0 stands
    for the state before the first. ``ema_params`` is the exponential moving average of the parameters, if there is one.
    ``best_metric`` is the best value of a metric that is computed on the host, if there is one, times -1 where lower
    values are better.
    """

    params: Params
    batch_stats: Params
    opt_state: Any
    epoch: jax.Array
    best_params: Params
    best_batch_stats: Params
    best_val_accuracy: jax.Array
    best_epoch: jax.Array
    best_val_loss: jax.Array | float = math.inf
    ema_params: Params = ()
    best_metric: Any = ()


class EpochMetrics(NamedTuple):
    """float32 scalars: losses, and accuracies in [0, 1].

    The training loss is the mean over steps of the mean loss of each batch, as usual in PyTorch loops. The training
    accuracy is measured during the epoch, while the parameters change. Validation metrics are means over images.
    """

    train_loss: jax.Array
    train_accuracy: jax.Array
    val_loss: jax.Array
    val_accuracy: jax.Array


def static_part(model: Any, trial: Trial, pixels: Pixels | None = None) -> Static:
    """The static part of a trial's program.

    Args:
        model: a Flax module or a network.
        trial: the trial.
        pixels: mean and standard deviation of each channel, where the trial normalizes by them.
    """
    spec = trial.spec
    dynamic = spec.dynamic()

    def arguments(part: str) -> Arguments:
        return tuple(each for each in spec.arguments(part) if f"{part}.{each[0]}" not in dynamic)

    return Static(
        model,
        spec.batch_size,
        spec.optimizer,
        spec.decay_mode,
        spec.criterion,
        spec.transform,
        arguments("optimizer"),
        spec.schedule,
        arguments("schedule"),
        arguments("criterion"),
        arguments("transform"),
        spec.decay_on,
        spec.selection_metric,
        pixels,
        arguments("selection_metric"),
    )
