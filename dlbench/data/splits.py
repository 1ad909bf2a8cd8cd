"""Stratified splits into training and validation images, folds for cross-validation, and parts of a test half.

All images are put in an order of which every prefix and every suffix is stratified. Validation images are taken from
its front, training images from its back. Hence, for one seed, the validation images do not depend on the training
size, and a smaller set is part of every larger one. The images that are folded are taken from the back too.

The order is a function of the labels and the seed alone. It uses only the raw output of PCG64, whose stream NumPy
guarantees not to change, and none of the distributions built on it.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dlbench.errors import SpecError
from dlbench.spec.trial import TrialSpec

_BLOCK = 1 << 16


@dataclass(frozen=True)
class Split:
    """The images of the training half that are used for training and for validation.

    Attributes:
        train_indices: int32 [train_size], ascending.
        val_indices: int32 [val_size], ascending; disjoint from train_indices.
        digest: SHA-256 (hexadecimal) of both.
    """

    train_indices: NDArray[np.int32] = field(repr=False, compare=False)
    val_indices: NDArray[np.int32] = field(repr=False, compare=False)
    digest: str


def make_split(labels: NDArray[np.integer], train_size: int | None, val_size: int, split_seed: int) -> Split:
    """Draw a training and a validation set, stratified by class.

    In either set, the number of images of a class differs by less than one from its share, which is the size of the
    set times the fraction of all images that belong to the class.

    Args:
        labels: [N], the labels of the training half; floats are not stratified.
        train_size: number of training images; None for all that are not used for validation.
        val_size: number of validation images, at least 1.
        split_seed: 0 or more.

    Raises:
        SpecError: a size or the seed is out of range.
    """
    total = len(labels)
    if split_seed < 0:
        raise SpecError(f"split_seed must be 0 or more; found {split_seed}.")
    if val_size < 1:
        raise SpecError(f"val_size must be at least 1; found {val_size}.")
    if train_size is None:
        train_size = total - val_size
        if train_size < 1:
            raise SpecError(
                f"val_size {val_size} leaves nothing to train on: the training half has {total} images. "
                f"Use at most {total - 1}."
            )
    if train_size < 1:
        raise SpecError(f"train_size must be at least 1; found {train_size}.")
    if train_size + val_size > total:
        raise SpecError(
            f"train_size {train_size} and val_size {val_size} need {train_size + val_size} images; "
            f"the training half has {total}. Lower one of them by {train_size + val_size - total}."
        )
    order = _stratified_order(labels, split_seed)
    return _split(order[total - train_size :], order[:val_size])


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


def split_of(labels: NDArray[np.integer], spec: TrialSpec) -> Split:
    """The training and validation images of a trial whose sizes and split seed are explicit.

    Args:
        labels: int [N], the labels of the training half.
        spec: the trial, resolved against its data.
    """
    assert spec.train_size is not None
    assert spec.val_size is not None
    assert spec.split_seed is not None
    if spec.folds is None:
        return make_split(labels, spec.train_size, spec.val_size, spec.split_seed)
    return make_folds(labels, spec.folds, spec.train_size + spec.val_size, spec.split_seed)[spec.fold]


def _split(train: NDArray[np.int32], val: NDArray[np.int32]) -> Split:
    train, val = np.sort(train), np.sort(val)
    state = hashlib.sha256(f"dlbench split, version 1: {len(train)} {len(val)}\n".encode())
    for indices in (train, val):
        state.update(indices.astype("<i4").tobytes())
        indices.setflags(write=False)
    return Split(train, val, state.hexdigest())


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
