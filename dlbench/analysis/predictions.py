"""What a configuration's networks answered, read from the logits that its study keeps. No jax."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlbench import data, files
from dlbench.analysis.configurations import Configuration
from dlbench.errors import DataError, Field, StoreError
from dlbench.stats import Interval
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Predictions:
    """The logits of a configuration's networks for the test images, which they share.

    Attributes:
        configuration: the configuration.
        trials: its trials that have logits; S of them.
        logits: float32 [S, N, C].
        labels: int32 [N].
        class_names: one name per class; its number where the data set names none.
        dataset: the data set, with the test images that the trials were tested on.
    """

    configuration: Configuration
    trials: tuple[TrialResult, ...]
    logits: NDArray[np.float32] = field(repr=False, compare=False)
    labels: NDArray[np.int32] = field(repr=False, compare=False)
    class_names: tuple[str, ...]
    dataset: data.Dataset = field(repr=False, compare=False)

    @property
    def right(self) -> NDArray[np.float32]:
        """Whether each answer is right, as 1 or 0: [S, N]."""
        import numpy as np

        right: NDArray[np.float32] = (self.logits.argmax(axis=2) == self.labels).astype(np.float32)
        return right

    def over_seeds(self, values: Iterable[float]) -> Interval:
        """The mean of one value per trial with its interval over seeds, as the configuration's design needs it."""
        return self.configuration.over_seeds(self.trials, values)


def predictions_of(group: Configuration, data_dir: str | None = None) -> Predictions:
    """The predictions of a configuration's completed trials for the test images.

    Args:
        group: the configuration.
        data_dir: folder of the user's data sets.

    Raises:
        StoreError: no trial has completed, or one has no logits that can be read.
        DataError: the data set is not the one that the trials were tested on, or its targets are numbers.
    """
    import numpy as np

    if not group.complete:
        raise StoreError("no trial of this configuration has completed, so there are no predictions")
    dataset = dataset_of(group.complete[0], data_dir)
    if dataset.targets == "numbers":
        raise DataError(f"the targets of {dataset.name} are numbers, so no classes were predicted")
    labels = np.asarray(dataset.test_labels)
    logits = [read_logits(trial, "test", (len(labels), dataset.num_classes)) for trial in group.complete]
    names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
    return Predictions(group, tuple(group.complete), np.stack(logits), labels, names, dataset)


def validation_of(trial: TrialResult, dataset: data.Dataset) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The logits of a trial's best epoch for its validation images, float32 [M, C], and their labels, int32 [M].

    Raises:
        StoreError: the study was trained by a release that did not keep them, or they are damaged.
    """
    import numpy as np

    split = data.split_of(dataset, trial.trial.spec)
    labels = np.asarray(split.half(dataset)[1])[split.val_indices]
    return read_logits(trial, "val", (len(labels), dataset.num_classes)), labels


def dataset_of(trial: TrialResult, data_dir: str | None = None) -> data.Dataset:
    """The data set of a trial, with the digest that it was trained with and the test images that it was tested on.

    Raises:
        DataError: it is missing, or has changed since.
    """
    name, digest = trial.dataset.partition("@")[0], trial.trial.data_digest
    dataset = data.load(trial.dataset, data_dir, test_size=trial.trial.spec.test_size)
    if dataset.digest != digest:
        raise DataError(
            f"data set {name!r} has digest {dataset.digest[:12]} here; trial {trial.id} was trained with {digest[:12]}",
            remedy="supply the original files",
        )
    return dataset


def read_logits(trial: TrialResult, half: str, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The logits of a trial for the images of a half, "test" or "val".

    Raises:
        StoreError: there are none, or they have another shape or numbers that are not finite.
    """
    import numpy as np

    path = trial.folder / f"{half}_logits.npy"
    again = ("train the trial again with ", Field("retry_failed"))
    try:
        logits: NDArray[Any] = files.read_array(path)
    except FileNotFoundError:
        older = ", which earlier releases of dlbench did not keep" if half == "val" else ""
        raise StoreError(
            f"there is no file {path}{older}",
            remedy=(*again, ", or a study of such a release in another folder") if older else again,
        ) from None
    except (OSError, StoreError, ValueError) as error:
        raise StoreError(f"{path} cannot be read: {error}", remedy=again) from None
    if logits.shape != shape or logits.dtype.kind != "f" or not np.isfinite(logits).all():
        raise StoreError(
            f"{path} is damaged: it holds {logits.dtype} {logits.shape}, expected finite {shape}",
            remedy=again,
        )
    return np.asarray(logits, np.float32)
