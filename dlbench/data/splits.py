"""Splits into training and validation images, folds for cross-validation, and parts of a test half.

All images are put in an order of which, unless another sampling is asked for, every prefix and every suffix is
stratified. Validation images are taken from its front, training images from its back. Hence, for one seed, the
validation images do not depend on the training size, and a smaller set is part of every larger one. The images that are
folded are taken from the back too. Validation images can also come from the test half, in an order of its own.

The order is a function of the labels, the sampling and the seed alone. It uses only the raw output of PCG64, whose
stream NumPy guarantees not to change, and none of the distributions built on it.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dlbench.errors import SpecError
from dlbench.spec.trial import TrialSpec

_BLOCK = 1 << 16


class Labelled(Protocol):
    """Two halves of labels: int [N] and int [M]."""

    @property
    def train_labels(self) -> Any:
        """Those of the training half."""

    @property
    def test_labels(self) -> Any:
        """Those of the test half."""


class Halves(Labelled, Protocol):
    """Two halves of images, uint8 [N, H, W, C] and [M, H, W, C], with their labels."""

    @property
    def train_images(self) -> Any:
        """Those of the training half."""

    @property
    def test_images(self) -> Any:
        """Those of the test half."""


@dataclass(frozen=True)
class Split:
    """The images that are used for training and for validation.

    Attributes:
        train_indices: int32 [train_size], ascending, in the training half.
        val_indices: int32 [val_size], ascending; disjoint from train_indices if they are in the same half.
        digest: SHA-256 (hexadecimal) of both.
        val_half: the half that the validation images are in, "train" or "test".
    """

    train_indices: NDArray[np.int32] = field(repr=False, compare=False)
    val_indices: NDArray[np.int32] = field(repr=False, compare=False)
    digest: str
    val_half: str = "train"

    def half(self, dataset: Halves) -> tuple[Any, Any]:
        """The images and the labels that the validation images are among."""
        images, labels = f"{self.val_half}_images", f"{self.val_half}_labels"
        return getattr(dataset, images), getattr(dataset, labels)


def make_split(
    labels: NDArray[np.integer],
    train_size: int | None,
    val_size: int,
    split_seed: int,
    sampling: str = "stratified",
    test_labels: NDArray[np.integer] | None = None,
) -> Split:
    """Draw a training and a validation set.

    In a stratified set, the number of images of a class differs by less than one from its share, which is the size of
    the set times the fraction of all images that belong to the class.

    Args:
        labels: [N], the labels of the training half; floats are not stratified.
        train_size: number of training images; None for all that are not used for validation.
        val_size: number of validation images, at least 1.
        split_seed: 0 or more.
        sampling: "stratified", "random", or "first": the images in the order of the data set, those for validation
            before those for training where they are of one half.
        test_labels: [M], the labels of the test half, to take the validation images from there.

    Raises:
        SpecError: a size or the seed is out of range.
    """
    total = len(labels)
    if split_seed < 0:
        raise SpecError(f"split_seed must be 0 or more; found {split_seed}.")
    if val_size < 1:
        raise SpecError(f"val_size must be at least 1; found {val_size}.")
    if test_labels is not None and val_size > len(test_labels):
        raise SpecError(
            f"val_size must be at most {len(test_labels)}, all of the test half; found {val_size}."
        )
    taken = val_size if test_labels is None else 0
    if train_size is None:
        train_size = total - taken
        if train_size < 1:
            raise SpecError(
                f"val_size {val_size} leaves nothing to train on: the training half has {total} images. "
                f"Use at most {total - 1}."
            )
    if train_size < 1:
        raise SpecError(f"train_size must be at least 1; found {train_size}.")
    if train_size + taken > total:
        raise SpecError(
            f"train_size {train_size} and val_size {val_size} need {train_size + taken} images; "
            f"the training half has {total}. Lower one of them by {train_size + taken - total}."
        )
    order = _order(labels, split_seed, sampling)
    after = taken if sampling == "first" else total - train_size
    train = order[after : after + train_size]
    if test_labels is None:
        return _split(train, order[:val_size])
    return _split(train, _order(test_labels, split_seed, sampling)[:val_size], "test")


def make_folds(labels: NDArray[np.integer], num_folds: int, size: int, split_seed: int) -> tuple[Split, ...]:
    """Divide images into folds of equal size; each is the validation set of one split, the others its training set.

    The images of a class are dealt to the folds in turn, so the numbers of a class in two folds differ by one at
    most.

    Args:
        labels: int [N], the labels of the training half.
        num_folds: number of folds, at least 2.
        size: number of images that are folded: a multiple of ``num_folds``, at most N.
        split_seed: 0 or more.

    Returns:
        One split per fold.

    Raises:
        SpecError: a number or the seed is out of range.
    """
    if split_seed < 0:
        raise SpecError(f"split_seed must be 0 or more; found {split_seed}.")
    if num_folds < 2 or size % num_folds or not num_folds <= size <= len(labels):
        raise SpecError(
            f"{size} images cannot be divided into {num_folds} folds of equal size; the training half has "
            f"{len(labels)} images."
        )
    order = _stratified_order(labels, split_seed)[len(labels) - size :]
    by_class = order[np.argsort(labels[order], kind="stable")]
    fold_of = np.arange(size) % num_folds
    return tuple(_split(by_class[fold_of != fold], by_class[fold_of == fold]) for fold in range(num_folds))


def split_of(dataset: Labelled, spec: TrialSpec) -> Split:
    """The training and validation images of a trial whose sizes and split seed are explicit.

    Args:
        dataset: its data set.
        spec: the trial, resolved against its data.
    """
    assert spec.train_size is not None
    assert spec.val_size is not None
    assert spec.split_seed is not None
    labels = np.asarray(dataset.train_labels)
    if spec.folds is None:
        test_labels = np.asarray(dataset.test_labels) if spec.val_from == "test" else None
        return make_split(labels, spec.train_size, spec.val_size, spec.split_seed, spec.sampling, test_labels)
    return make_folds(labels, spec.folds, spec.train_size + spec.val_size, spec.split_seed)[spec.fold]


def _split(train: NDArray[np.int32], val: NDArray[np.int32], val_half: str = "train") -> Split:
    train, val = np.sort(train), np.sort(val)
    elsewhere = "" if val_half == "train" else f" {val_half}"
    state = hashlib.sha256(f"dlbench split, version 1: {len(train)} {len(val)}{elsewhere}\n".encode())
    for indices in (train, val):
        state.update(indices.astype("<i4").tobytes())
        indices.setflags(write=False)
    return Split(train, val, state.hexdigest(), val_half)


def test_indices(labels: NDArray[np.integer], test_size: int) -> NDArray[np.int32]:
    """The test images that a trial is tested on: stratified by class, and the same for every trial and seed.

    A smaller set is part of every larger one.

    Args:
        labels: int [M], the labels of the test half.
        test_size: number of images, at least 1.

    Returns:
        int32 [test_size], ascending.

    Raises:
        SpecError: the size is out of range.
    """
    if not 1 <= test_size <= len(labels):
        raise SpecError(f"test_size must lie between 1 and {len(labels):,}; found {test_size:,}.")
    return np.sort(_stratified_order(labels, 0)[:test_size])


def _order(labels: NDArray[np.integer], seed: int, sampling: str) -> NDArray[np.int32]:
    """All images, in the order of a sampling."""
    if sampling == "stratified":
        return _stratified_order(labels, seed)
    if sampling == "first":
        return np.arange(len(labels), dtype=np.int32)
    return np.argsort(np.random.PCG64(seed).random_raw(len(labels)), kind="stable").astype(np.int32)


def _stratified_order(labels: NDArray[np.integer], seed: int) -> NDArray[np.int32]:
    """Order all images so that in every prefix each class has less than one image too few or too many.

    If n of N images belong to a class, then its image number j (from 1, in random order) may take no position before
    floor((j-1)N/n) + 1 and none after ceil(jN/n). The positions are filled one by one with the allowed image whose
    last possible position comes first; this always succeeds. Ties are broken by the random rank.

    References:
        Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980).
        Baruah et al., Proportionate progress, Algorithmica 15 (1996).
    """
    if labels.dtype.kind == "f":  # numbers as targets have no classes
        labels = np.zeros(len(labels), np.int32)
    total = len(labels)
    drawn = np.argsort(np.random.PCG64(seed).random_raw(total), kind="stable")
    rank = _inverse(drawn)
    first, last = np.empty(total, np.int32), np.empty(total, np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(rank[members])]
        number = np.arange(len(members), dtype=np.int64)
        first[members] = number * total // len(members)
        last[members] = -(-(number + 1) * total // len(members))
    by_urgency = np.lexsort((rank, last)).astype(np.int32)
    waiting = np.lexsort((rank, first))
    arriving = _listed(
        _inverse(by_urgency)[waiting]
    )  # one number per image, so that the heap compares integers
    arrived = _listed(np.searchsorted(first[waiting], np.arange(total), side="right"))

    def order() -> Iterator[int]:
        allowed: list[int] = []
        start = 0
        for end in arrived:
            for image in itertools.islice(arriving, end - start):
                heapq.heappush(allowed, image)
            start = end
            yield heapq.heappop(allowed)

    return by_urgency[np.fromiter(order(), np.int32, total)]


def _inverse(order: NDArray[np.integer]) -> NDArray[np.int32]:
    """The place of each number in an order."""
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places


def _listed(array: NDArray[np.integer]) -> Iterator[int]:
    """The numbers of an array, made a block at a time: as a list, they take eight times the memory."""
    for start in range(0, len(array), _BLOCK):
        yield from array[start : start + _BLOCK].tolist()
