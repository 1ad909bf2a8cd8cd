"""What the accuracy hides, as tables, sentences and records: scores by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dlbench.analysis.by_class import ByClass
from dlbench.analysis.predictions import Predictions
from dlbench.report.tables import Column, Points, Report, Table, count, percent, thousands, within
from dlbench.stats import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: With more classes than this, the confusion matrix is too wide for a terminal; its largest cells are listed anyway.
MAX_CELLS = 20
#: Confusions that are listed.
_LISTED = 5


def interval_record(interval: Interval | None) -> dict[str, Any] | None:
    """An interval for JSON."""
    if interval is None:
        return None
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "method": interval.method,
    }


def share(interval: Interval) -> str:
    """A share with its interval in percent, within 0 and 100: 97.40 [96.22, 98.21]."""
    return within((interval.estimate, max(interval.low, 0.0), min(interval.high, 1.0)))


def measured(predictions: Predictions) -> str:
    """What the intervals of a table are about, for its caption."""
    images, seeds = count(len(predictions.labels), "test image"), len(predictions.trials)
    if seeds == 1:
        return f"One seed, {images}: 95 % intervals over images alone, because one seed shows no variation of seeds."
    return f"Means of {seeds} seeds on {images}, with 95 % intervals over seeds and images."


def predictions_record(label: str, predictions: Predictions) -> dict[str, Any]:
    """What every record of a configuration's predictions begins with."""
    return {
        "configuration": label,
        "trials": [trial.id for trial in predictions.trials],
        "num_images": len(predictions.labels),
    }


def by_class_report(label: str, found: ByClass) -> Report:
    """The scores of each class, the confusion matrix, and the confusions that occur most often.

    Args:
        label: the configuration in words.
        found: its scores.
    """
    names = found.predictions.class_names
    columns = (
        Column("class", "class", left=True),
        Column("support", "images", thousands),
        Column("precision", "precision % [95 %]", share),
        Column("recall", "recall % [95 %]", share),
        Column("f1", "F1 % [95 %]", share),
    )
    rows: list[tuple[Any, ...]] = [
        (each.name, each.support, each.precision, each.recall, each.f1) for each in found.classes
    ]
    rows.append(("macro mean", len(found.predictions.labels), *found.macro.values()))
    tops = ", ".join(
        f"{'Accuracy' if k == 1 else f'top {k}'} {share(interval)} %" for k, interval in found.top_k.items()
    )
    worst = min((each for each in found.classes if each.support), key=lambda each: each.recall.estimate)
    lowest = f"Lowest recall: {worst.name}, {share(worst.recall)} %."
    caption = f"{measured(found.predictions)} The recall of a class is the accuracy on its images."
    parts: Report = [Table(f"By class: {label}", columns, tuple(rows), caption), f"{tops}. {lowest}"]
    if len(names) <= MAX_CELLS:
        parts.append(_confusion_table(found))
    if confusions := _confusions(found.confusion, names):
        parts.append(Points("Most often confused:", confusions))
    return parts


def _confusion_table(found: ByClass) -> Table:
    names = found.predictions.class_names
    columns = (
        Column("true", "true \\ predicted", left=True),
        *(Column(f"as {name}", name, thousands) for name in names),
    )
    rows = tuple((name, *map(int, row)) for name, row in zip(names, found.confusion, strict=True))
    seeds = len(found.predictions.trials)
    summed = f", summed over {seeds} seeds" if seeds > 1 else ""
    return Table("Confusion matrix", tuple(columns), rows, f"Answers on test images{summed}.")


def _confusions(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[str, ...]:
    wrong = confusion.copy()
    wrong[range(len(names)), range(len(names))] = 0
    largest = [
        divmod(int(place), len(names)) for place in wrong.ravel().argsort(kind="stable")[::-1][:_LISTED]
    ]
    return tuple(
        f"{names[i]} taken for {names[j]}: {count(int(wrong[i, j]), 'time')}, "
        f"{percent(wrong[i, j] / confusion[i].sum())} % of its answers"
        for i, j in largest
        if wrong[i, j]
    )


def by_class_record(label: str, found: ByClass) -> Mapping[str, Any]:
    """The scores of each class for JSON."""
    return {
        **predictions_record(label, found.predictions),
        "top_k": {str(k): interval_record(interval) for k, interval in found.top_k.items()},
        "macro": {name: interval_record(interval) for name, interval in found.macro.items()},
        "classes": [
            {
                "class": each.name,
                "support": each.support,
                "accuracy": interval_record(each.recall),
                "precision": interval_record(each.precision),
                "recall": interval_record(each.recall),
                "f1": interval_record(each.f1),
            }
            for each in found.classes
        ],
        "confusion_matrix": found.confusion.tolist(),
    }
