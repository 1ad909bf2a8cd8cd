"""Diagnoses as tables, sentences and records: scores by class, calibration, over- and underfitting, cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dlbench.analysis.by_class import ByClass
from dlbench.analysis.by_slice import MIN_IMAGES, BySlice
from dlbench.analysis.calibration import Calibration, ReliabilityBin
from dlbench.analysis.cost import Costs
from dlbench.analysis.generalization import LOW_TRAINING, Fit
from dlbench.analysis.predictions import Predictions
from dlbench.analysis.robustness import Robustness
from dlbench.report.tables import (
    Column,
    Points,
    Report,
    Table,
    count,
    duration,
    listed,
    percent,
    replicate,
    signed_interval,
    thousands,
    within,
)
from dlbench.spec.metrics import metric
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
    """A share with its interval in percent: 97.40 [96.22, 98.21]."""
    return within((interval.estimate, interval.low, interval.high))


def measured(predictions: Predictions) -> str:
    """What the intervals of a table are about, for its caption."""
    images, trials = count(len(predictions.labels), "test image"), _trials(predictions)
    if len(predictions.trials) == 1:
        return f"{trials.capitalize()}, {images}: 95 % intervals over images alone, because one shows no variation."
    over = f"{replicate([predictions.configuration])}s and images"
    folds = ", corrected because training sets of folds overlap" if predictions.configuration.overlap else ""
    return f"Means of {trials} on {images}, with 95 % intervals over {over}{folds}."


def _trials(predictions: Predictions) -> str:
    """5 seeds, or 15 trials where images are folded."""
    return count(len(predictions.trials), replicate([predictions.configuration]))


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
    summed = f", summed over {_trials(found.predictions)}" if len(found.predictions.trials) > 1 else ""
    return Table("Confusion matrix", tuple(columns), rows, f"Predictions on test images{summed}.")


def _confusions(confusion: NDArray[np.int64], names: Sequence[str]) -> tuple[str, ...]:
    wrong = confusion.copy()
    wrong[range(len(names)), range(len(names))] = 0
    largest = [
        divmod(int(place), len(names)) for place in wrong.ravel().argsort(kind="stable")[::-1][:_LISTED]
    ]
    return tuple(
        f"{names[i]} predicted as {names[j]}: {count(int(wrong[i, j]), 'time')}, "
        f"{percent(wrong[i, j] / confusion[i].sum())} % of the predictions for {names[i]}"
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


def by_slice_report(label: str, found: BySlice) -> Report:
    """The accuracy of each slice, the worst of them, and the gaps between slices."""
    columns = (
        Column("slice", found.by, left=True),
        Column("support", "images", thousands),
        Column("accuracy", "accuracy % [95 %]", share),
    )
    rows = tuple((each.name, each.support, each.accuracy) for each in found.slices)
    words = (
        f"Worst slice: {found.worst.name}, {share(found.worst.accuracy)} %. Gap between the best and the worst: "
        f"{signed_interval(found.gap)} points, biased upwards because both are chosen by it. "
    )
    words += (
        f"Equalised-odds difference: {share(found.equalized_odds)} points."
        if found.equalized_odds
        else f"No equalised-odds difference: no two slices have {MIN_IMAGES} images of a class, or of the others."
    )
    return [Table(f"By {found.by}: {label}", columns, rows, measured(found.predictions)), words]


def by_slice_record(label: str, found: BySlice) -> Mapping[str, Any]:
    """The accuracy of each slice for JSON."""
    return {
        **predictions_record(label, found.predictions),
        "by": found.by,
        "slices": [
            {"slice": each.name, "support": each.support, "accuracy": interval_record(each.accuracy)}
            for each in found.slices
        ],
        "worst": found.worst.name,
        "gap": interval_record(found.gap),
        "equalized_odds_difference": interval_record(found.equalized_odds),
    }


_MEASURES = {
    "nll": "NLL (nats)",
    "brier": "Brier score",
    "ece": "ECE, equal width",
    "ece_equal_mass": "ECE, equal mass",
    "classwise_ece": "class-wise ECE, equal width",
    "classwise_ece_equal_mass": "class-wise ECE, equal mass",
}
#: Characters of a bar of the reliability diagram.
_BAR = 20


def number(interval: Interval) -> str:
    """A number that is not negative, with its interval: 0.0412 [0.0377, 0.0447]."""
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def calibration_report(label: str, found: Calibration) -> Report:
    """Calibration before and after temperature scaling, and the reliability diagram.

    Args:
        label: the configuration in words.
        found: its calibration.
    """
    columns = [Column("measure", "", left=True), Column("before", "as trained [95 %]", number)]
    rows: list[tuple[Any, ...]] = [(name, found.before[key]) for key, name in _MEASURES.items()]
    if found.after is not None and found.change is not None:
        columns += [
            Column("after", "with temperature [95 %]", number),
            Column("change", "change [95 %]", partial(signed_interval, measured=metric("test/loss"))),
        ]
        rows = [
            (name, found.before[key], found.after[key], found.change[key]) for key, name in _MEASURES.items()
        ]
    caption = f"{measured(found.predictions)} Lower is better."
    return [
        Table(f"Calibration: {label}", tuple(columns), tuple(rows), caption),
        _temperature_words(found),
        _reliability_table("Reliability, as trained", found.reliability),
        *(
            [_reliability_table("Reliability, with temperature", found.reliability_after)]
            if found.reliability_after
            else []
        ),
    ]


def _temperature_words(found: Calibration) -> str:
    if found.after is None or found.change is None:
        return f"No temperature is fitted: {found.problem}."
    temperatures = found.temperatures
    mean = sum(temperatures) / len(temperatures)
    kind = "overconfident" if mean > 1 else "underconfident"
    spread = f" ({min(temperatures):.2f} to {max(temperatures):.2f})" if len(temperatures) > 1 else ""
    nll = found.change["nll"]
    gain = "lowers" if nll.high < 0 else "raises" if nll.low > 0 else "does not measurably change"
    return (
        f"Temperature {mean:.2f}{spread}, fitted on validation images, on which the networks are {kind}. It {gain} "
        "the NLL on test images; predicted classes stay the same."
    )


def _reliability_table(title: str, bins: Sequence[ReliabilityBin]) -> Table:
    columns = (
        Column("confidence", "confidence", left=True),
        Column("count", "predictions", thousands),
        Column("mean", "mean confidence %", percent),
        Column("accuracy", "accuracy %", percent),
        Column("bar", "accuracy (█) against confidence (|)", _bar, left=True),
    )
    rows = tuple(
        (
            f"{each.low:.2f} to {each.high:.2f}",
            each.count,
            each.confidence,
            each.accuracy,
            (each.accuracy, each.confidence),
        )
        for each in bins
        if each.count
    )
    return Table(title, columns, rows)


def _bar(pair: tuple[float, float]) -> str:
    """The share of right answers as a bar, and the mean confidence as a mark."""
    full, mark = (round(value * _BAR) for value in pair)
    cells = ["█"] * full + [" "] * (_BAR + 1 - full)
    cells[mark] = "|"
    return "".join(cells).rstrip()


def calibration_record(label: str, found: Calibration) -> Mapping[str, Any]:
    """The calibration of a configuration for JSON."""

    def records(of: Mapping[str, Interval] | None) -> dict[str, Any] | None:
        return None if of is None else {name: interval_record(interval) for name, interval in of.items()}

    return {
        **predictions_record(label, found.predictions),
        "before": records(found.before),
        "after": records(found.after),
        "change": records(found.change),
        "temperatures": list(found.temperatures),
        "problem": found.problem or None,
        "reliability": [_bin_record(each) for each in found.reliability],
        "reliability_after": [_bin_record(each) for each in found.reliability_after],
    }


def _bin_record(each: ReliabilityBin) -> dict[str, Any]:
    known = each.count > 0
    return {
        "low": each.low,
        "high": each.high,
        "count": each.count,
        "confidence": each.confidence if known else None,
        "accuracy": each.accuracy if known else None,
    }


def fit_report(found: Mapping[str, Fit]) -> Report:
    """Training, validation and test accuracy side by side, and what the gap between them says."""
    columns = (
        Column("configuration", "configuration", left=True),
        Column("train", "train (running) %", _mean),
        Column("val", "val %", _mean),
        Column("test", "test % [95 %]", share),
        Column("gap", "train - test, points [95 %]", signed_interval),
        Column("train_loss", "train loss", lambda value: f"{value:.4f}"),
        Column("val_loss", "val loss", lambda value: f"{value:.4f}"),
    )
    rows = tuple(
        (label, each.train, each.val, each.test, each.gap, each.train_loss, each.val_loss)
        for label, each in found.items()
    )
    on = " ".join(dict.fromkeys(measured(each.predictions) for each in found.values()))
    caption = (
        f"{on} Training accuracy and loss are the running ones of the best epoch: means over its steps, while the "
        "parameters change, with dropout, mixup and transformed images where a configuration has them. The accuracy of "
        "the trained network on its training images was not measured; it is mostly higher, and so is the gap."
    )
    return [
        Table("Over- and underfitting", columns, rows, caption),
        *(Points(f"{label}:", fit_words(each)) for label, each in found.items()),
    ]


def _mean(interval: Interval) -> str:
    return percent(interval.estimate)


def fit_words(fit: Fit) -> tuple[str, ...]:
    """What the gap, the training accuracy and the course of the losses say of a configuration."""
    trials, said = _trials(fit.predictions), []
    running = f"running training accuracy {percent(fit.train.estimate)} %"
    if fit.underfits:
        said.append(
            f"{running} and validation accuracy {percent(fit.val.estimate)} % are below {100 * LOW_TRAINING:.0f} %: it "
            "does not fit the images that it trains on (underfitting)"
        )
    elif fit.is_low:
        said.append(
            f"{running} is below {100 * LOW_TRAINING:.0f} %, but is lowered by {listed([*fit.lowered_by])}, so it does "
            "not show whether the network underfits"
        )
    if fit.overfits:
        said.append(
            f"even the running training accuracy is {signed_interval(fit.gap)} points above test accuracy: it fits the "
            "images that it trains on better than others (overfitting)"
        )
    if fit.is_averaged:
        said.append(
            "what is tested is an average of the parameters, so the gap to training accuracy shows no overfitting"
        )
    if fit.rising:
        said.append(
            f"the validation loss ends at least a tenth above its minimum in {fit.rising} of {trials} (overfitting)"
        )
    if fit.unfinished:
        said.append(f"the best epoch is the last in {fit.unfinished} of {trials}: more epochs may help")
    return tuple(said) or ("neither overfitting nor underfitting is apparent",)


def fit_record(found: Mapping[str, Fit]) -> list[dict[str, Any]]:
    """Over- and underfitting of every configuration for JSON."""
    return [
        {
            **predictions_record(label, each.predictions),
            **{name: interval_record(getattr(each, name)) for name in ("train", "val", "test", "gap")},
            "train_loss": each.train_loss,
            "val_loss": each.val_loss,
            "overfits": each.overfits,
            "underfits": each.underfits,
            "lowered_by": list(each.lowered_by),
            "rising": each.rising,
            "unfinished": each.unfinished,
            "words": list(fit_words(each)),
        }
        for label, each in found.items()
    ]


_COSTS = {"parameters": "parameters", "flops": "operations per image", "memory_bytes": "memory"}


def cost_report(found: Costs) -> Report:
    """What each configuration costs, the Pareto fronts, and who costs more without being shown better."""
    columns = (
        Column("configuration", "configuration", left=True),
        Column("accuracy", "test % [95 %]", share),
        Column("parameters", "parameters", thousands),
        Column("size_bytes", "MB", lambda value: f"{value / 1e6:.2f}"),
        Column("memory_bytes", "MB in training", lambda value: f"{value / 1e6:.0f}"),
        Column("flops", "MFLOP per image", lambda value: f"{value / 1e6:.2f}"),
        Column("train_s", "training time", duration),
        Column("images_per_s", "images/s", lambda value: f"{value:,.0f}"),
        Column("energy_j", "energy Wh", lambda value: _significant(value / 3600)),
        Column("carbon_g", "CO2e g", _significant),
        Column("price", "price", _significant),
    )
    known = [
        column
        for column in columns
        if column.key == "configuration"
        or any(getattr(cost, column.key) is not None for cost in found.costs.values())
    ]
    rows = tuple(
        (label, *(getattr(cost, column.key) for column in known[1:])) for label, cost in found.costs.items()
    )
    caption = (
        "Bytes of the parameters in float32, and what training needs at once; operations of a forward pass; time and "
        "energy, and what follows from them, of one trial."
    )
    parts: Report = [Table("Cost", tuple(known), rows, caption), _study_words(found), _energy_words(found)]
    if len(found.costs) > 1 and found.fronts:
        fronts = tuple(f"{_COSTS[name]}: {listed(list(front))}" for name, front in found.fronts.items())
        parts.append(Points("Pareto fronts of the means (no other is as cheap and more accurate):", fronts))
    if found.not_better:
        parts.append(
            Points(
                f"Not shown to be better than a cheaper one (by {_COSTS[found.measure]}):",
                tuple(
                    f"{each.costlier} costs {each.ratio:.1f} times as much as {each.cheaper}: "
                    f"{signed_interval(each.difference)} points"
                    for each in found.not_better
                ),
            )
        )
    return parts


def _significant(value: float) -> str:
    """A number with three significant digits, without exponent unless it is small."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _study_words(found: Costs) -> str:
    """What the whole study took."""
    energy_j = found.power.energy_j(found.worker_s)
    carbon_g, price = found.rates.carbon_of(energy_j), found.rates.price_of(found.worker_s)
    said = [
        f"The study took {duration(found.worker_s)} of its workers' time (waiting and compiling included)"
    ]
    if energy_j is not None and carbon_g is not None:
        said += [f"{_significant(energy_j / 3600)} Wh", f"{_significant(carbon_g)} g of CO2 equivalent"]
    if price is not None:
        said.append(f"a price of {_significant(price)} at {found.rates.price:g} for an hour of a worker")
    return f"{listed(said)}."


def _energy_words(found: Costs) -> str:
    """Where energy and carbon dioxide come from."""
    if found.power.watts is None:
        return f"The energy is not known: {found.power.assumption}."
    counted = " and ".join(name.upper() for name in found.power.counters)
    source = (
        f"Energy was measured by {counted}, which count all that runs on the machine: {found.power.watts:.3g} W for "
        "each worker on average"
        if counted
        else f"Energy is estimated, not measured: it assumes {found.power.assumption}"
    )
    return f"{source}. CO2 equivalents take {found.rates.carbon:g} g per kWh, {found.rates.origin}."


def cost_record(found: Costs) -> dict[str, Any]:
    """The costs of every configuration for JSON."""
    return {
        "configurations": [
            {"configuration": label, **vars(cost), "accuracy": interval_record(cost.accuracy)}
            for label, cost in found.costs.items()
        ],
        "study": {
            "worker_s": found.worker_s,
            "energy_j": (energy_j := found.power.energy_j(found.worker_s)),
            "carbon_g": found.rates.carbon_of(energy_j),
            "price": found.rates.price_of(found.worker_s),
        },
        "power": vars(found.power) | {"measured": bool(found.power.counters)},
        "rates": vars(found.rates),
        "fronts": {name: list(front) for name, front in found.fronts.items()},
        "not_better": [
            {**vars(each), "measure": found.measure, "difference": interval_record(each.difference)}
            for each in found.not_better
        ],
    }


def robustness_report(found: Mapping[str, Robustness]) -> Report:
    """Accuracies on corrupted images: by configuration, then by corruption and severity."""
    first = next(iter(found.values()))
    columns = [Column("configuration", "configuration", left=True), Column("clean", "clean % [95 %]", share)]
    columns += [Column(name, name, _mean) for name in first.means]
    columns.append(Column("mean", "mean % [95 %]", share))
    rows = tuple((label, each.clean, *each.means.values(), each.mean) for label, each in found.items())
    caption = (
        f"Accuracy % on {count(first.num_images, 'test image')}: each corruption a mean over its severities, each "
        "number a mean over seeds, with 95 % intervals over seeds and images."
    )
    parts: Report = [Table("Robustness under corruptions", tuple(columns), rows, caption)]
    for label, each in found.items():
        levels = [Column("corruption", "corruption", left=True)]
        levels += [
            Column(str(n), f"severity {n}", share) for n in range(1, len(each.by_severity["noise"]) + 1)
        ]
        graded = tuple((name, *values) for name, values in each.by_severity.items())
        parts.append(Table(f"By severity: {label}", tuple(levels), graded))
    return parts


def robustness_record(label: str, found: Robustness) -> Mapping[str, Any]:
    """Accuracies on corrupted images for JSON."""
    return {
        **predictions_record(label, found.predictions),
        "num_corrupted": found.num_images,
        "clean": interval_record(found.clean),
        "mean": interval_record(found.mean),
        "corruptions": {
            name: {
                "mean": interval_record(found.means[name]),
                "by_severity": [interval_record(each) for each in values],
            }
            for name, values in found.by_severity.items()
        },
    }
