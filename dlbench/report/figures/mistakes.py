"""The errors of the selected configuration: its confusion matrix, and the images it misclassifies."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from dlbench import data, files
from dlbench.analysis.configurations import Configuration
from dlbench.analysis.mistakes import most_frequent
from dlbench.data import cache
from dlbench.errors import DataError, InputError, StoreError
from dlbench.report.figures.canvas import WIDE, Drawing, View, canvas
from dlbench.report.figures.vector import OVER_DARK, OVER_LIGHT
from dlbench.report.page import Figure
from dlbench.report.tables import count, replicate
from dlbench.storage.results import TrialResult

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas
    from numpy.typing import NDArray

#: With more classes than this, the cells have no numbers.
MAX_WRITTEN = 20
COLUMNS, _ROWS = 8, 3


def mistakes(view: View) -> list[Drawing]:
    """The confusion matrix and the misclassified images of the configuration with the best validation accuracy."""
    if not view.groups:
        return []
    label, group = next(iter(view.groups.items()))
    if all(trial.confusion_matrix is None for trial in group.complete):
        return []
    chosen = f"{label}, chosen on validation images" if len(view.groups) > 1 else label
    dataset = _data_set(group.complete[0])
    names = dataset.class_names if dataset else None
    return [*_confusion(chosen, group, names), *(_images(chosen, group, dataset) if dataset else [])]


def _data_set(trial: TrialResult) -> data.Dataset | None:
    """The data set that a trial was tested on, if it is in the cache: nothing is downloaded for a figure."""
    name, digest = trial.dataset.partition("@")[0], trial.trial.data_digest
    if name != data.DEFAULT and all(meta.digest != digest for _, meta in cache.entries()):
        return None
    try:
        return data.load(f"{name}@{digest[:12]}", test_size=trial.trial.spec.test_size)
    except (DataError, InputError):
        return None


def _confusion(chosen: str, group: Configuration, names: tuple[str, ...] | None) -> list[Drawing]:
    import numpy as np
    from matplotlib.colors import PowerNorm

    matrices = [np.array(t.confusion_matrix) for t in group.complete if t.confusion_matrix is not None]
    if not matrices or len({matrix.shape for matrix in matrices}) > 1:
        return []
    total = np.sum(matrices, axis=0)
    classes = len(total)
    names = names if names and len(names) == classes else tuple(map(str, range(classes)))
    share = 100 * total / np.maximum(total.sum(axis=1, keepdims=True), 1)
    size = min(WIDE, 1.6 + 0.4 * classes)
    figure = canvas(size, size * 0.86)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.4, 0, 100))
    bar = figure.colorbar(image, ax=axes, shrink=0.8, ticks=[0, 1, 5, 20, 50, 100])
    bar.set_label("share of the true class (%)")
    if classes <= MAX_WRITTEN:
        for row, column in np.argwhere(total):
            colour = OVER_DARK if share[row, column] > 45 else OVER_LIGHT
            text = f"{total[row, column]:,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    every = slice(None, None, -(-classes // MAX_WRITTEN))  # names of more would overlap
    axes.set_xticks(range(classes)[every], names[every])
    if max(map(len, names)) > 3:
        for tick in axes.get_xticklabels():
            tick.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes)[every], names[every])
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return [Drawing(_confusion_words(chosen, total, names, count(len(matrices), replicate([group]))), figure)]


def _confusion_words(chosen: str, total: NDArray[Any], names: tuple[str, ...], trials: str) -> Figure:
    wrong = total.copy()
    wrong[range(len(names)), range(len(names))] = 0
    often = [divmod(int(place), len(names)) for place in wrong.ravel().argsort(kind="stable")[::-1][:3]]
    said = [
        f"{names[i]} predicted as {names[j]}, {count(int(wrong[i, j]), 'time')}"
        for i, j in often
        if wrong[i, j]
    ]
    confused = f"Most often confused: {'; '.join(said)}." if said else "No image is misclassified."
    summed = "" if trials.startswith("1 ") else f", summed over {trials}"
    return Figure(
        "confusion",
        "Confusion matrix",
        f"Confusion matrix: {int(total.trace()):,} of {int(total.sum()):,} predictions are correct. {confused}",
        f"Predictions on the test images of {chosen}{summed}. Rows: true class; columns: predicted class. {confused}",
    )


def _images(chosen: str, group: Configuration, dataset: data.Dataset) -> list[Drawing]:
    import numpy as np

    labels = np.asarray(dataset.test_labels)
    found = [_logits(trial, (len(labels), dataset.num_classes)) for trial in group.complete]
    logits = [each for each in found if each is not None]
    shown, wrong = (
        most_frequent(np.stack(logits), labels, COLUMNS * _ROWS) if len(logits) == len(found) else ((), 0)
    )
    if not shown:
        return []
    names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
    figure = canvas(WIDE, 1.22 * -(-len(shown) // COLUMNS))
    said = []
    for axes, mistake in zip(grid(figure, len(shown)), shown, strict=True):
        picture(axes, dataset.test_images[mistake.index])
        verdict = f"{names[mistake.label]} → {names[mistake.answer]}"
        often = f"{mistake.times} of {len(logits)}" if len(logits) > 1 else ""
        axes.set_title(textwrap.fill(verdict, 16) + f"\n{often}".rstrip(), fontsize=7.5, linespacing=1.2)
        said.append(f"{verdict.replace('→', 'predicted as')}{often and f' by {often} networks'}")
    return [Drawing(_images_words(chosen, said, wrong, len(logits)), figure, vector=False)]


def grid(figure: Canvas, number: int) -> list[Axes]:
    """Axes for so many pictures, in rows of eight."""
    found = [*figure.subplots(-(-number // COLUMNS), COLUMNS, squeeze=False).flat]
    for axes in found:
        axes.set_axis_off()
    return found[:number]


def picture(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Show an image; one of a single channel as ink on paper."""
    axes.imshow(image if image.shape[-1] == 3 else 255 - image[..., 0], cmap="gray", vmin=0, vmax=255)


def _logits(trial: TrialResult, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """The logits of a trial for the test images, if the file is there and intact."""
    import numpy as np

    if trial.study_dir is None:
        return None
    try:
        logits = files.read_array(trial.folder / "test_logits.npy")
    except (OSError, ValueError, StoreError):
        return None
    sound = logits.shape == shape and logits.dtype == np.float32 and bool(np.isfinite(logits).all())
    return logits if sound else None


def _images_words(chosen: str, said: list[str], wrong: int, trials: int) -> Figure:
    below = "most frequent wrong prediction" + (
        f", and how many of the {trials} networks are wrong" if trials > 1 else ""
    )
    order = (
        "those that most networks misclassify first, then the most confident errors"
        if trials > 1
        else "the most confident errors first"
    )
    return Figure(
        "misclassified",
        "Misclassified test images",
        f"{count(len(said), 'test image')} with the classes that are predicted: {'; '.join(said)}.",
        f"Test images that {chosen} misclassifies: {len(said)} of {wrong:,}, {order}. Above each: true class → "
        f"{below}.",
    )
