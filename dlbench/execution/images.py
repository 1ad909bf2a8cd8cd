"""How images reach the device: all of them at once, or streamed from their files part by part, with the same bits.

:class:`InMemory` and :class:`Streamed` compile the same functions of training. Where images are streamed, an epoch is
cut into parts of whole batches: the images of a part are gathered on the host, in the order of the epoch, and the same
steps are made on them. Lanes have orders of their own, so each has its own images in a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from dlbench.data import Dataset, Split
from dlbench.data.mapped import take
from dlbench.data.splits import test_indices
from dlbench.errors import InputError
from dlbench.execution.compiling import Build
from dlbench.training import evaluation, loop
from dlbench.training.state import Data, Hyper, Keys, Static, TrainState

#: A part takes this fraction of the memory for images: one is on the device while the next is gathered, and the process
#: needs memory for other things too.
PARTS = 64

Rows = NDArray[np.integer] | None
"""Which of some images count; ``None`` for all."""


@dataclass(frozen=True)
class DeviceData:
    """A data set as training takes it: on the device, or with images that are streamed to it.

    Attributes:
        train_images: uint8 [N, H, W, C]; on the host where they are streamed.
        test_images: uint8 [M, H, W, C]; likewise.
        train_labels: int32 [N].
        test_labels: int32; of the test images that count.
        num_classes: number of classes.
        test_rows: which test images count; ``None`` for all.
        part_bytes: bytes of images that are streamed to the device at a time; ``None`` where all are there.
    """

    train_images: Any
    test_images: Any
    train_labels: jax.Array
    test_labels: jax.Array
    num_classes: int
    test_rows: Rows = None
    part_bytes: int | None = None

    @classmethod
    def of(cls, dataset: Dataset, test_size: int | None = None, memory_bytes: float = math.inf) -> DeviceData:
        """Put a data set on the default device, but for images that take more memory than they may.

        Args:
            dataset: the data set.
            test_size: number of test images that count; all unless given.
            memory_bytes: the memory that images may take.
        """
        train, test, labels = dataset.train_images, dataset.test_images, dataset.test_labels
        rows = np.arange(len(labels)) if test_size is None else test_indices(labels, test_size)
        shared = jnp.asarray(dataset.train_labels), jnp.asarray(labels[rows]), dataset.num_classes
        if dataset.images_bytes > memory_bytes:
            return cls(train, test, *shared, rows, int(memory_bytes) // PARTS)
        return cls(jnp.asarray(train), jnp.asarray(test if test_size is None else test[rows]), *shared)

    def split(self, split: Split) -> Data:
        """The images for training and validation."""
        indices = map(jnp.asarray, (split.train_indices, split.val_indices))
        return Data(self.train_images, self.train_labels, *split.half(self), *indices)

    def tested(self) -> jax.Array:
        """The test images that count, all of them on the device."""
        images, rows = self.test_images, self.test_rows
        return jnp.asarray(images if rows is None else take(images, rows))


#: Under vmap, trials share images and labels; each has a split, class weights and a key of its own.
LANES_OF_DATA = Data(None, None, None, None, 0, 0, 0, 0)  # type: ignore[arg-type]
#: The same with the images of a part, of which each trial has its own.
LANES_OF_PART = LANES_OF_DATA._replace(train_images=0, train_labels=0)  # type: ignore[arg-type]


class Images(Protocol):
    """The functions that read images. Each method but the first compiles one; see the modules of training."""

    def example(self, data: Data) -> Data:
        """What initialisation is given of the data."""

    def train_epoch(self, part: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper) -> Any:
        """:func:`dlbench.training.loop.train_epoch`."""

    def validate(self, part: Static, state: TrainState, data: Data, hyper: Hyper) -> Any:
        """:func:`dlbench.training.evaluation.validate`."""

    def predict_validation(self, part: Static, state: TrainState, data: Data, hyper: Hyper) -> Any:
        """:func:`dlbench.training.evaluation.predict_validation`."""

    def predict(self, part: Static, state: TrainState, hyper: Hyper) -> Any:
        """:func:`dlbench.training.evaluation.predict`, of those rows of images that count, on the host."""


def images_of(build: Build, dataset: DeviceData) -> Images:
    """The functions that read the images of a data set."""
    return InMemory(build, dataset) if dataset.part_bytes is None else Streamed(build, dataset)


class InMemory:
    """Functions that read images, where all of them are on the device; see :class:`Images`."""

    def __init__(self, build: Build, dataset: DeviceData) -> None:
        self._build, self._test_images = build, dataset.test_images

    def example(self, data: Data) -> Data:
        """See :class:`Images`."""
        return data

    def train_epoch(self, part: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        return self._build(loop.train_epoch, part, (0, LANES_OF_DATA, 0, 0), state, data, keys, hyper)

    def validate(self, part: Static, state: TrainState, data: Data, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        return self._build(evaluation.validate, part, (0, LANES_OF_DATA, 0), state, data, hyper)

    def predict_validation(self, part: Static, state: TrainState, data: Data, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        return self._build(evaluation.predict_validation, part, (0, LANES_OF_DATA, 0), state, data, hyper)

    def predict(self, part: Static, state: TrainState, hyper: Hyper) -> Any:
        """See :class:`Images`; compiled for as many images as the test half has, and used for others in blocks."""
        size, variables = len(self._test_images), (state.best_params, state.best_batch_stats)
        call = self._build(evaluation.predict, part, (0, 0, None, 0), *variables, self._test_images, hyper)

        def predict(params: Any, stats: Any, images: jax.Array, rows: Rows, hyper: Hyper) -> NDArray[Any]:
            if rows is None:
                return np.asarray(call(params, stats, images, hyper))
            read = lambda block: images[jnp.asarray(block)]  # noqa: E731
            return _in_blocks(read, lambda images: call(params, stats, images, hyper), rows, size)

        return predict


class Streamed:
    """Functions that read images, where these are streamed; see :class:`Images`."""

    def __init__(self, build: Build, dataset: DeviceData) -> None:
        assert dataset.part_bytes is not None
        self._build, self._num_test = build, len(dataset.test_labels)
        self._lanes = (build.lanes,) if build.lanes > 1 else ()
        self._shape = dataset.train_images.shape[1:]
        self._label_type = dataset.train_labels.dtype
        self._room = dataset.part_bytes // math.prod(self._shape)

    def example(self, data: Data) -> Data:
        """See :class:`Images`."""
        return _part(data, jnp.asarray(data.train_images[:1]))

    def train_epoch(self, part: Static, state: TrainState, data: Data, keys: Keys, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        count, batch_size = _size(data.train_indices), part.batch_size
        left = count % batch_size
        whole = count - left if count // batch_size > 1 or not left else 0  # an epoch of two steps is not cut
        size = max(1, self._room // (batch_size * self._build.lanes)) * batch_size
        carry, others = loop.Carry.of(state), _part(data)
        order_of = self._build(loop.epoch_order, None, (0, LANES_OF_DATA, 0), state.epoch, others, keys)

        def compiled(function: Callable[..., Any], number: int, *full: Any) -> Any:
            images, labels = self._images(number), self._array(self._label_type, number)
            places, first = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in ((number,), ()))
            axes = (0, 0, LANES_OF_PART, None, None, *(0 for _ in full), 0, 0)
            arrays = (carry, state.epoch, _part(data, images, labels), places, first, *full, keys, hyper)
            return self._build(function, part, axes, *arrays)

        sizes = {min(size, whole - start) for start in range(0, whole, size)}
        train_on = {number: compiled(loop.train_steps, number) for number in sorted(sizes)}
        steps = [call.out_info[1] for call in train_on.values()]
        full = tuple(self._array(each.dtype, whole // batch_size) for each in steps[0]) if steps else None
        if left:
            end = compiled(loop.last_step, count - whole, full)
        else:
            end = self._build(loop.summary, None, (LANES_OF_DATA, 0), others, full)

        def train_epoch(state: TrainState, data: Data, keys: Keys, hyper: Hyper) -> Any:
            labels = np.asarray(data.train_labels)
            order = np.asarray(order_of(state.epoch, _part(data), keys))
            carry: Any = loop.Carry.of(state)
            values: list[Any] = []

            def inputs(start: int, stop: int) -> tuple[Any, ...]:
                rows = order[..., start:stop]
                images = jnp.asarray(take(np.asarray(data.train_images), rows))
                places, first = np.arange(stop - start, dtype=np.int32), np.int32(start // batch_size)
                return state.epoch, _part(data, images, labels[rows]), places, first

            for start in range(0, whole, size):
                given = inputs(start, min(start + size, whole))
                jax.block_until_ready(carry)  # this part was read while the one before was trained on
                carry, made, _ = train_on[len(given[2])](carry, *given, keys, hyper)
                values.append(made)
            full = tuple(np.concatenate(each, axis=-1) for each in zip(*values, strict=True)) or None
            if left:
                carry, loss, accuracy = end(carry, *inputs(whole, count), full, keys, hyper)
            else:
                loss, accuracy = end(_part(data), full)
            return carry.put(state)._replace(epoch=state.epoch + 1), loss, accuracy

        return train_epoch

    def validate(self, part: Static, state: TrainState, data: Data, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        return self._after_prediction(_judged, part, state, data, hyper)

    def predict_validation(self, part: Static, state: TrainState, data: Data, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        return self._after_prediction(_measured, part, state, data, hyper)

    def predict(self, part: Static, state: TrainState, hyper: Hyper) -> Any:
        """See :class:`Images`."""
        size = self._block(self._num_test, 1)
        images = jax.ShapeDtypeStruct((size, *self._shape), jnp.uint8)
        variables = state.best_params, state.best_batch_stats
        call = self._build(evaluation.predict, part, (0, 0, None, 0), *variables, images, hyper)

        def predict(params: Any, stats: Any, images: Any, rows: Rows, hyper: Hyper) -> NDArray[Any]:
            held = np.asarray(images)
            rows = np.arange(len(held)) if rows is None else rows
            return _in_blocks(
                lambda block: take(held, block), lambda images: call(params, stats, images, hyper), rows, size
            )

        return predict

    def _after_prediction(
        self, function: Callable[..., Any], part: Static, state: TrainState, data: Data, hyper: Hyper
    ) -> Any:
        """A function of logits and labels of validation images, which are predicted in blocks before."""
        if part.val_transform != "standard":
            raise InputError(
                f"the transform {part.val_transform} of validation images needs them in memory, which they exceed",
                field="val_transform",
                value=part.val_transform,
                remedy="leave it out",
            )
        count, by_model = _size(data.val_indices), Static(part.model, pixels=part.pixels)
        size = self._block(count, self._build.lanes)
        variables, axes = (state.best_params, state.best_batch_stats), (0, 0, 0, 0)
        call = self._build(
            evaluation.predict, by_model, axes, *variables, self._images(size), hyper.only("model")
        )
        logits = self._array(call.out_info.dtype, count, call.out_info.shape[-1])
        labels = self._array(self._label_type, count)
        axes_of = (0, LANES_OF_DATA, 0, 0, 0)
        finish = self._build(function, part, axes_of, state, _part(data), logits, labels, hyper)

        def evaluate(state: TrainState, data: Data, hyper: Hyper) -> Any:
            variables = evaluation.evaluated_params(state, hyper), state.batch_stats
            rows = np.asarray(data.val_indices)
            logits = _in_blocks(
                lambda block: take(np.asarray(data.val_images), block),
                lambda images: call(*variables, images, hyper.only("model")),
                rows,
                size,
            )
            return finish(state, _part(data), logits, np.asarray(data.val_labels)[rows], hyper)

        return evaluate

    def _block(self, count: int, lanes: int) -> int:
        """The images of a block for evaluation."""
        chunk = evaluation.EVAL_CHUNK
        chunks: int = min(max(1, self._room // (chunk * lanes)), -(-count // chunk))
        return chunks * chunk

    def _images(self, number: int) -> jax.ShapeDtypeStruct:
        return self._array(jnp.uint8, number, *self._shape)

    def _array(self, dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        """An array that each lane has."""
        return jax.ShapeDtypeStruct((*self._lanes, *shape), dtype)


def _part(data: Data, images: Any = None, labels: Any = None) -> Data:
    """The data with the images and labels of a part, or with none."""
    nothing: Any = None
    return data._replace(train_images=images, train_labels=labels, val_images=nothing, val_labels=nothing)


def _size(indices: jax.Array | None) -> int:
    """Number of images of a lane."""
    assert indices is not None
    return int(indices.shape[-1])


def _judged(
    static: Static, state: TrainState, data: Data, logits: jax.Array, labels: jax.Array, hyper: Hyper
) -> tuple[TrainState, jax.Array, jax.Array]:
    loss, accuracy = evaluation.measure(static, logits, labels, hyper, data.class_weights)
    return evaluation.judge(static, state, hyper, loss, accuracy), loss, accuracy


def _measured(
    static: Static, _: TrainState, data: Data, logits: jax.Array, labels: jax.Array, hyper: Hyper
) -> tuple[jax.Array, ...]:
    return logits, labels, *evaluation.measure(static, logits, labels, hyper, data.class_weights)


def _in_blocks(
    read: Callable[[NDArray[np.integer]], Any],
    logits_of: Callable[[Any], jax.Array],
    rows: NDArray[np.integer],
    size: int,
) -> NDArray[Any]:
    """Logits of images in blocks of one size; the last one is filled up with other images.

    Args:
        read: returns the images in some rows [..., size].
        logits_of: returns the logits [..., size, C] of images.
        rows: [..., N].
        size: images of a block.

    Returns:
        [..., N, C].
    """
    made: list[jax.Array] = []
    for start in range(0, rows.shape[-1], size):
        images = read(np.take(rows, range(start, start + size), axis=-1, mode="wrap"))
        jax.block_until_ready(made[-1:])  # the block before was computed meanwhile
        made.append(logits_of(images))
    return np.concatenate(made, axis=-2)[..., : rows.shape[-1], :]
