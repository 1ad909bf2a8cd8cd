"""Checks of a data set: imbalance, constant images, duplicates, label conflicts, and a shift between its halves."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlbench import files
from dlbench.data.arrays import Dataset, Images
from dlbench.data.cache import class_counts
from dlbench.data.mapped import blocks, take
from dlbench.data.originals import Faults

#: Sides of the small picture by which the nearest images are found, and of the one by which they are compared.
_SIDE, _LARGE_SIDE = 8, 32
#: Images that are compared with each.
_NEAREST = 3
#: Two images are near-duplicates if the details of their pictures correlate by at least this,
NEAR = 0.6
#: and if what is missing to 1 is at most this share of what is missing for the third nearest image.
STANDS_OUT = 0.4
#: Of more images in a half, the likes of a sample are looked for, drawn with seed 0.
MAX_COMPARED = 10_000
#: Images of each half on which the classifier that tells them apart is fitted and tested.
MAX_TOLD_APART = 5_000
_CHUNK = 1_000

#: An image: its half ("train" or "test") and its index there.
Place = tuple[str, int]


@dataclass(frozen=True)
class Group:
    """Images that are equal, or nearly so.

    Attributes:
        places: where they are, in order.
        labels: their labels, in the same order; numbers where targets are numbers.
    """

    places: tuple[Place, ...]
    labels: tuple[float, ...]

    @property
    def crosses(self) -> bool:
        """Whether both halves have one."""
        return len({half for half, _ in self.places}) > 1

    @property
    def conflicts(self) -> bool:
        """Whether their labels differ."""
        return len({*self.labels}) > 1


@dataclass(frozen=True)
class Quality:
    """What was found in a data set.

    Attributes:
        name: its name.
        digest: its digest.
        num_train: number of training images.
        num_test: number of test images.
        image_shape: height, width, channels.
        class_names: one name per class; none where targets are numbers.
        train_counts: training images of each class.
        test_counts: test images of each class.
        imbalance: images of the most frequent class over those of the rarest, in the training half; ``nan`` where
            targets are numbers.
        value_range: the least and the largest pixel value.
        constant: images whose pixels are all equal.
        duplicates: groups of images that are equal in every pixel.
        near_duplicates: pairs of images that are not equal, but nearly so; the most alike first.
        compared: number of images whose likes were looked for among all others.
        shift_auc: area under the ROC curve of a classifier that tells training from test images, on images that it was
            not fitted on: 0.5 where they cannot be told apart.
        shift_interval: its 95 % interval.
        unreadable: why files of the data set cannot be read, by path. The other findings are about the other files.
    """

    name: str
    digest: str
    num_train: int
    num_test: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]
    test_counts: tuple[int, ...]
    imbalance: float
    value_range: tuple[int, int]
    constant: tuple[Place, ...]
    duplicates: tuple[Group, ...]
    near_duplicates: tuple[Group, ...]
    compared: int
    shift_auc: float
    shift_interval: tuple[float, float]
    unreadable: Mapping[str, str]

    @property
    def shared(self) -> tuple[Group, ...]:
        """The groups of equal images that both halves have."""
        return tuple(group for group in self.duplicates if group.crosses)

    @property
    def conflicts(self) -> tuple[Group, ...]:
        """The groups of equal images whose labels differ."""
        return tuple(group for group in self.duplicates if group.conflicts)


def check_quality(dataset: Dataset, unreadable: Faults | None = None) -> Quality:
    """Check a data set.

    Near-duplicates are searched for each test image in the training half, and for each image in its own half. Of the
    three nearest images, by the correlation of 8x8 colour pictures, the details are compared: grey pictures of at most
    32x32 pixels without what a Gaussian of a sixteenth of the side keeps, shifted against each other by up to a
    sixteenth. A near-duplicate has a correlation of at least 0.6, and stands out: 1 minus its correlation is at most
    0.4 times that of the third, so that images which all look alike, such as strokes, are not taken for copies.

    The shift between the halves is measured by a classifier, as Rabanser et al. (2019) suggest: logistic regression on
    8x8 grey pictures, fitted on half of an equal number of images of each half, and tested on the rest.

    Args:
        dataset: the data set.
        unreadable: why files of it cannot be read, by path (:func:`~dlbench.data.load_readable`).

    References:
        Barz and Denzler (2020), "Do we train on test data? Purging CIFAR of near-duplicates".
        Rabanser et al. (2019), "Failing loudly: an empirical study of methods for detecting dataset shift".
    """
    halves = (("train", dataset.train_images), ("test", dataset.test_images))
    labels = {"train": dataset.train_labels, "test": dataset.test_labels}
    counts = class_counts(dataset)
    train = counts["train"]
    duplicates = duplicate_groups(dataset)
    pictures = {half: small(images) for half, images in halves}
    near, compared = _near_duplicates(dict(halves), labels, duplicates)
    auc, interval = _shift(pictures["train"], pictures["test"])
    return Quality(
        name=dataset.name,
        digest=dataset.digest,
        num_train=len(dataset.train_labels),
        num_test=len(dataset.test_labels),
        image_shape=dataset.image_shape,
        class_names=dataset.class_names or tuple(map(str, range(len(train)))),
        train_counts=tuple(train),
        test_counts=tuple(counts["test"]),
        imbalance=max(train) / max(min(train), 1) if train else float("nan"),
        value_range=(
            min(int(block.min()) for _, images in halves for block in blocks(images)),
            max(int(block.max()) for _, images in halves for block in blocks(images)),
        ),
        constant=tuple((half, int(n)) for half, images in halves for n in _constant(images)),
        duplicates=duplicates,
        near_duplicates=near,
        compared=compared,
        shift_auc=auc,
        shift_interval=interval,
        unreadable={str(path): words for path, words in (unreadable or {}).items()},
    )


def duplicate_groups(dataset: Dataset) -> tuple[Group, ...]:
    """The groups of images that are equal in every pixel, in the order of their first image."""
    places: dict[bytes, list[tuple[Place, float]]] = {}
    for half, images, labels in (
        ("train", dataset.train_images, dataset.train_labels),
        ("test", dataset.test_images, dataset.test_labels),
    ):
        for number, digest in enumerate(_digests(images)):
            places.setdefault(digest, []).append(((half, number), labels[number].item()))
    return tuple(
        Group(tuple(place for place, _ in found), tuple(label for _, label in found))
        for found in places.values()
        if len(found) > 1
    )


def num_shared(dataset: Dataset) -> int:
    """How many test images are equal to a training image in every pixel; counted once, then read from the cache."""
    path = files.cache_root() / "checks" / f"{dataset.digest[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(path.read_text())["num_shared"])
    halves = (dataset.train_images, dataset.test_images)
    (
        train,
        test,
    ) = (  # 64 bits of each digest: a million images of each half are confused with a probability of 1e-7
        np.fromiter((int.from_bytes(each[:8]) for each in _digests(images)), np.uint64, len(images))
        for images in halves
    )
    found = int(np.isin(test, train).sum())
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_whole(path, lambda file: file.write(json.dumps({"num_shared": found}).encode()))
    return found


def _digests(images: Images) -> Iterator[bytes]:
    """A digest of each image."""
    for image in itertools.chain.from_iterable(blocks(images)):
        yield hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def _constant(images: Images) -> NDArray[np.intp]:
    flat = (block.reshape(len(block), -1) for block in blocks(images))
    return np.flatnonzero(np.concatenate([each.min(axis=1) == each.max(axis=1) for each in flat]))


def shrunk(images: Images, side: int) -> NDArray[np.float32]:
    """Pictures of at most ``side`` by ``side`` pixels, each the mean of a block: float32 [N, H, W, C], 0 to 255."""
    edges = [np.linspace(0, size, min(side, size) + 1).astype(int) for size in images.shape[1:3]]
    pixels = np.multiply.outer(*map(np.diff, edges))[:, :, None]
    found = []
    for block in blocks(images):
        sums = block.astype(np.float32)
        for axis, places in enumerate(edges, start=1):
            sums = np.add.reduceat(sums, places[:-1], axis=axis)
        found.append(sums / pixels)
    return np.concatenate(found)


def small(images: Images) -> NDArray[np.float32]:
    """Grey pictures of 8x8 or fewer pixels: float32 [N, pixels], 0 to 255."""
    grey: NDArray[np.float32] = shrunk(images, _SIDE).mean(axis=3).reshape(len(images), -1)
    return grey


def _near_duplicates(
    images: dict[str, Images], labels: dict[str, NDArray[Any]], duplicates: Sequence[Group]
) -> tuple[tuple[Group, ...], int]:
    """Pairs that are nearly equal, without those that are equal; and the number of images whose likes were sought."""
    units = {half: _unit(shrunk(each, _SIDE)) for half, each in images.items()}
    chosen = {half: _sample(len(each)) for half, each in images.items()}
    same = {place: number for number, group in enumerate(duplicates) for place in group.places}
    found: dict[tuple[Place, Place], float] = {}
    for half, other in (("test", "train"), ("train", "train"), ("test", "test")):
        asked = chosen[half]
        nearest = _nearest(units[half], units[other], asked, half == other)
        if nearest.shape[1] < _NEAREST:
            continue
        likeness = _likeness(images[half], images[other], asked, nearest)
        best, order = likeness.max(axis=1), likeness.argmax(axis=1)
        alike = (best >= NEAR) & (1 - best <= STANDS_OUT * (1 - likeness.min(axis=1)))
        for row in np.flatnonzero(alike):
            first, second = (half, int(asked[row])), (other, int(nearest[row, order[row]]))
            pair = (min(first, second, key=_in_order), max(first, second, key=_in_order))
            if first not in same or same[first] != same.get(second):
                found[pair] = float(best[row])
    pairs = sorted(found, key=lambda pair: (-found[pair], *map(_in_order, pair)))
    return (
        tuple(Group(pair, tuple(labels[half][n].item() for half, n in pair)) for pair in pairs),
        sum(map(len, chosen.values())),
    )


def _in_order(place: Place) -> tuple[bool, int]:
    """Training images come before test images."""
    return place[0] == "test", place[1]


def _sample(count: int) -> NDArray[np.intp]:
    if count <= MAX_COMPARED:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MAX_COMPARED, replace=False))


def _unit(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pictures as vectors of length 1 and mean 0, whose products are correlations; 0 for constant ones."""
    flat: NDArray[np.float32] = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    unit: NDArray[np.float32] = np.divide(flat, norms, out=np.zeros_like(flat), where=norms > 1e-3)
    return unit


def _nearest(
    units: NDArray[np.float32], others: NDArray[np.float32], asked: NDArray[np.intp], same: bool
) -> NDArray[np.intp]:
    """The nearest of the others to each image that is asked for, [asked, 3]; fewer where there are fewer."""
    number = min(_NEAREST, len(others) - same)
    found = np.empty((len(asked), number), np.intp)
    for start in range(0, len(asked), _CHUNK):
        which = asked[start : start + _CHUNK]
        rows = np.arange(len(which))
        correlation = units[which] @ others.T
        if same:
            correlation[rows, which] = -np.inf
        for place in range(number):
            found[start : start + _CHUNK, place] = nearest = correlation.argmax(axis=1)
            correlation[rows, nearest] = -np.inf
    return found


def _likeness(
    images: Images, others: Images, asked: NDArray[np.intp], nearest: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The largest correlation of details over all shifts, of each image with those that are nearest to it."""
    found = np.empty(nearest.shape)
    for start in range(0, len(asked), _CHUNK):
        first = _details(take(images, asked[start : start + _CHUNK]))
        margin = max(1, round(min(first.shape[1:]) / 16))
        height, width = (size - 2 * margin for size in first.shape[1:])
        centre = _unit(first[:, margin : margin + height, margin : margin + width])
        for place, column in enumerate(nearest[start : start + _CHUNK].T):
            second = _details(take(others, column))
            shifts = itertools.product(range(2 * margin + 1), repeat=2)
            found[start : start + _CHUNK, place] = np.max(
                [
                    np.einsum("np,np->n", centre, _unit(second[:, y : y + height, x : x + width]))
                    for y, x in shifts
                ],
                axis=0,
            )
    return found


def _details(images: Images) -> NDArray[np.float32]:
    """Grey pictures without what a Gaussian of a sixteenth of the side keeps: float32 [N, H, W]."""
    from scipy.ndimage import gaussian_filter

    grey = shrunk(images, _LARGE_SIDE).mean(axis=3)
    sigma = min(grey.shape[1:]) / 16
    details: NDArray[np.float32] = grey - gaussian_filter(grey, (0, sigma, sigma))
    return details


def _shift(train: NDArray[np.float32], test: NDArray[np.float32]) -> tuple[float, tuple[float, float]]:
    """The area under the ROC curve of logistic regression that tells two sets apart, and its interval (DeLong)."""
    size = min(len(train), len(test), MAX_TOLD_APART)
    if size < 4:
        return float("nan"), (float("nan"), float("nan"))
    generator = np.random.default_rng(0)
    x, y = (each[generator.permutation(len(each))[:size]] for each in (train, test))
    half = size // 2
    fitted = np.concatenate([x[:half], y[:half]])
    mean, deviation = fitted.mean(axis=0), fitted.std(axis=0) + 1e-3
    weights = _logistic((fitted - mean) / deviation, np.repeat([0.0, 1.0], half))
    own, other = (((each[half:] - mean) / deviation) @ weights for each in (x, y))
    return delong(other, own)


def _logistic(x: NDArray[np.floating[Any]], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of logistic regression without intercept, of standardised columns; ridge 1."""
    from scipy.optimize import minimize

    signs = (2 * y - 1)[:, None] * x.astype(float)

    def loss(w: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margins = signs @ w
        gradient = w - signs.T @ (1 / (1 + np.exp(np.clip(margins, -500, 500))))
        return float(np.logaddexp(0, -margins).sum() + w @ w / 2), gradient

    weights: NDArray[np.float64] = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return weights


def delong(
    positive: NDArray[np.floating[Any]], negative: NDArray[np.floating[Any]]
) -> tuple[float, tuple[float, float]]:
    """The area under the ROC curve, and its 95 % interval.

    Args:
        positive: scores of the positive examples, which should be the larger ones.
        negative: scores of the others.

    References:
        DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44(3). Sun and Xu (2014) for the computation by ranks.
    """
    from scipy.stats import rankdata

    m, n = len(positive), len(negative)
    together = rankdata(np.concatenate([positive, negative]))
    v10 = (together[:m] - rankdata(positive)) / n
    v01 = 1 - (together[m:] - rankdata(negative)) / m
    area = float(v10.mean())
    half = 1.959964 * float(np.sqrt(v10.var(ddof=1) / m + v01.var(ddof=1) / n))
    return area, (max(area - half, 0.0), min(area + half, 1.0))
