"""Resolve the trials of a study against their data: sizes and digests made explicit. No jax."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dlbench.errors import Field, SpecError
from dlbench.spec import combinations
from dlbench.spec.parts import Part
from dlbench.spec.study import StudySpec
from dlbench.spec.trial import PARTS, Trial, TrialSpec


class DataSize(Protocol):
    """What planning needs to know of a data set."""

    @property
    def reference(self) -> str:
        """The name by which every process finds it."""

    @property
    def digest(self) -> str:
        """SHA-256 of its arrays."""

    @property
    def num_train(self) -> int:
        """Number of images in its training half."""

    @property
    def num_test(self) -> int:
        """Number of images in its test half."""


def resolve(
    study: StudySpec, info: Callable[[str], DataSize], lanes: Callable[[TrialSpec], int] | None = None
) -> list[Trial]:
    """Check every trial against its data set and make its sizes and digests explicit.

    Args:
        study: what to train.
        info: the size and digest of a data set by its text.
        lanes: the number of lanes of a trial's program; one unless given.

    Raises:
        SpecError: sizes that the data set does not have, or fields that contradict each other.
    """
    known: dict[Part, DataSize] = {}
    source_digest = functools.cache(lambda field, name: PARTS[field].source_digest(name))
    shared: dict[tuple[Any, ...], tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    resolved = []
    for spec in study.trials:
        key = _SHARED(spec)
        if key not in shared:
            named = Part(spec.dataset, spec.dataset_args)
            data = known.get(named) or known.setdefault(named, info(str(named)))
            # A data set is identified by its arrays.
            digests = {
                field: source_digest(field, getattr(spec, field)) for field in PARTS if field != "dataset"
            }
            model_digest = digests.pop("model")
            others = tuple(sorted((field, digest) for field, digest in digests.items() if digest))
            shared[key] = (
                {"dataset": data.reference, "dataset_args": (), **_explicit_sizes(spec, data)},
                {"data_digest": data.digest, "model_digest": model_digest, "part_digests": others},
            )
        explicit, identity = shared[key]
        split_seed = spec.default_split_seed if spec.split_seed is None else spec.split_seed
        resolved.append((spec.model_copy(update={**explicit, "split_seed": split_seed}), identity))
    combinations.check(spec for spec, _ in resolved)
    return [Trial(spec=spec, lanes=lanes(spec) if lanes else 1, **identity) for spec, identity in resolved]


#: The fields on which everything depends that a trial is resolved with, but for the seed of its split.
_SHARED = operator.attrgetter(
    *PARTS, "dataset_args", "train_size", "val_size", "test_size", "batch_size", "folds", "val_from"
)


def _explicit_sizes(spec: TrialSpec, data: DataSize) -> dict[str, int | None]:
    if spec.folds is not None:
        spec = spec.model_copy(update=_fold_sizes(spec, spec.folds, data))
    available = f"the training half of {data.reference} has {data.num_train:,} images"
    from_test = spec.val_from == "test"
    val_size = spec.val_size or (data.num_test if from_test else min(10_000, max(1, data.num_train // 5)))
    if from_test and val_size > data.num_test:
        raise SpecError(
            *(Field("val_size"), f" {val_size:,} is too large: "),
            f"the test half of {data.reference} has {data.num_test:,} images",
            value=val_size,
            remedy="take a smaller one",
        )
    taken = 0 if from_test else val_size
    train_size = spec.train_size or data.num_train - taken
    if train_size < 1:
        raise SpecError(
            *(Field("val_size"), f" {val_size:,} leaves nothing to train on: {available}"),
            value=val_size,
            remedy="take a smaller one",
        )
    if train_size + taken > data.num_train:
        both = (" and ", Field("val_size"), f" {val_size:,}") if taken else ()
        raise SpecError(
            *(Field("train_size"), f" {train_size:,}", *both),
            f" need {train_size + taken:,} images, but {available}",
            value=train_size,
            remedy="take smaller ones",
        )
    if spec.batch_size > train_size:
        raise SpecError(
            *(Field("batch_size"), f" {spec.batch_size:,} is larger than the training set of "),
            f"{train_size:,} images",
            value=spec.batch_size,
            remedy="take a smaller one",
        )
    test_size = spec.test_size
    if test_size is not None and test_size > data.num_test:
        raise SpecError(
            *(Field("test_size"), f" {test_size:,} is too large: "),
            f"the test half of {data.reference} has {data.num_test:,} images",
            value=test_size,
            remedy="take a smaller one",
        )
    whole = test_size == data.num_test
    return {"train_size": train_size, "val_size": val_size, "test_size": None if whole else test_size}


def _fold_sizes(spec: TrialSpec, folds: int, data: DataSize) -> dict[str, int]:
    """The sizes of the training and validation sets of cross-validation, which follow from the images folded.

    Without a size, all images of the training half are folded, except for a rest that is smaller than the folds.
    """
    if spec.val_size is not None:
        if spec.train_size == spec.val_size * (folds - 1):
            return {}  # resolved already
        raise SpecError(
            *(Field("val_size"), f" {spec.val_size:,} contradicts ", Field("folds"), f" {folds}: "),
            "the folds are the validation sets",
            value=spec.val_size,
            remedy=("leave it out; ", Field("train_size"), " images are divided into the folds"),
        )
    size = data.num_train // folds * folds if spec.train_size is None else spec.train_size
    if size % folds or not size:
        nearest = max(1, round(size / folds)) * folds
        raise SpecError(
            *(
                Field("train_size"),
                f" {size:,} is no multiple of ",
                Field("folds"),
                f" {folds}, and folds of ",
            ),
            "unequal size would need a program each",
            value=size,
            remedy=f"take {nearest:,}",
        )
    if size > data.num_train:
        raise SpecError(
            *(Field("train_size"), f" {size:,} images are to be folded, but the training half of "),
            f"{data.reference} has {data.num_train:,}",
            value=size,
            remedy="take fewer",
        )
    return {"train_size": size - size // folds, "val_size": size // folds}
