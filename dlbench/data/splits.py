"""Stratified training and validation splits of a training half.

All images are put in one order, every prefix and suffix of which is stratified. Validation images are
taken from its front, training images from its back. Hence, for one seed, the validation images do not
depend on the training size, and a smaller set is part of every larger one.

The order is a function of labels and seed alone. It uses only raw output of PCG64, whose stream NumPy
guarantees not to change, none of the distributions built on it.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dlbench.errors import SpecError


@dataclass(frozen=True)
class Split:
    """Which images of the training half serve for training and which for validation.

    Attributes:
        train_indices: int32 [train_size], ascending.
        val_indices: int32 [val_size], ascending; none of them in train_indices.
        digest: sha256 (hexadecimal) of both.
    """

    train_indices: NDArray[np.int32] = field(repr=False, compare=False)
    val_indices: NDArray[np.int32] = field(repr=False, compare=False)
    digest: str


def make_split(labels: NDArray[np.integer], train_size: int | None, val_size: int, split_seed: int) -> Split:
    """Draw a training and a validation set, stratified by class.

    In either set the number of images of a class differs by less than one from its share: set size times
    images of the class over images of all classes.

    Args:
        labels: int [N], the labels of the training half.
        train_size: images to train on; None for all that validation leaves.
        val_size: images to validate on, at least 1.
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
    train, val = np.sort(order[total - train_size :]), np.sort(order[:val_size])
    state = hashlib.sha256(f"dlbench split, version 1: {train_size} {val_size}\n".encode())
    for indices in (train, val):
        state.update(indices.astype("<i4").tobytes())
        indices.setflags(write=False)
    return Split(train, val, state.hexdigest())


def _stratified_order(labels: NDArray[np.integer], seed: int) -> NDArray[np.int32]:
    """Order all images so that every prefix holds less than one image too few or too many of each class.

    With n of N images in a class, its image number j (from 1, in random order) may stand no earlier than
    place floor((j-1)N/n) + 1 and no later than ceil(jN/n). Places are filled one by one with the image
    that is allowed there and whose latest place comes first; this always succeeds. Random rank breaks ties.

    References:
        Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980).
        Baruah et al., Proportionate progress, Algorithmica 15 (1996).
    """
    total = len(labels)
    rank = np.argsort(np.argsort(np.random.PCG64(seed).random_raw(total), kind="stable"), kind="stable")
    first, last = np.empty(total, np.int64), np.empty(total, np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(rank[members])]
        number = np.arange(len(members), dtype=np.int64)
        first[members] = number * total // len(members)
        last[members] = -(-(number + 1) * total // len(members))
    by_urgency = np.lexsort((rank, last))
    urgency = np.empty(total, np.int64)
    urgency[by_urgency] = np.arange(total)  # one number per image, so that the heap compares integers
    waiting = np.lexsort((rank, first))
    arriving = urgency[waiting].tolist()
    arrived = np.searchsorted(first[waiting], np.arange(total), side="right").tolist()
    allowed: list[int] = []
    order, start = [], 0
    for end in arrived:
        for image in arriving[start:end]:
            heapq.heappush(allowed, image)
        start = end
        order.append(heapq.heappop(allowed))
    return by_urgency[order].astype(np.int32)
