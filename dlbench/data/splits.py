"""Stratified splits of a training half into training and validation images.

All images are put in an order of which every prefix and every suffix is stratified. Validation images are taken from
its front, training images from its back. Hence, for one seed, the validation images do not depend on the training
size, and a smaller set is part of every larger one.

The order is a function of the labels and the seed alone. It uses only the raw output of PCG64, whose stream NumPy
guarantees not to change, and none of the distributions built on it.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench.errors import SpecError


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


def make_split(labels: NDArray[Any], train_size: int | None, val_size: int, split_seed: int) -> Split:
    """Draw a training and a validation set, stratified by class; at random where targets are numbers.

    In either set, the number of images of a class differs by less than one from its share, which is the size of the
    set times the fraction of all images that belong to the class.

    Args:
        labels: [N], the labels of the training half.
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
    classes = np.zeros(total, int) if labels.dtype.kind == "f" else labels
    order = _stratified_order(classes, split_seed)
    train, val = np.sort(order[total - train_size :]), np.sort(order[:val_size])
    state = hashlib.sha256(f"dlbench split, version 1: {train_size} {val_size}\n".encode())
    for indices in (train, val):
        state.update(indices.astype("<i4").tobytes())
        indices.setflags(write=False)
    return Split(train, val, state.hexdigest())


def _stratified_order(labels: NDArray[np.integer], seed: int) -> NDArray[np.int32]:
    """Order all images so that in every prefix each class has less than one image too few or too many.

    If n of N images belong to a class, then its image number j (from 1, in random order) may take no position before
    floor((j-1)N/n) + 1 and none after ceil(jN/n). The positions are filled one by one with the allowed image whose
    last possible position comes first; this always succeeds. Ties are broken by the random rank.

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
