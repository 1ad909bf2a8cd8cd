"""The reports of one trial and of a grid, and what every report ends with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dlbench.analysis.configurations import (
    REPLICATES,
    Configuration,
    Plane,
    axes_of,
    common,
    configurations,
    planes,
    tally,
)
from dlbench.records import TrialStatus
from dlbench.report.comparison import comparison_record, comparison_report
from dlbench.report.selection import selection
from dlbench.report.tables import (
    Column,
    Made,
    Report,
    Table,
    count,
    duration,
    field_column,
    listed,
    percent,
    plus_minus,
    tenth,
    thousands,
    within,
)
from dlbench.spec.naming import field_title, setting
from dlbench.storage.results import StudyRecord, TrialResult

#: The title of the table that a grid of single trials ends with.
BY_ACCURACY = "Trials by validation accuracy"


def study_report(result: StudyRecord) -> Report:
    """What a study's command prints: what was found, and where it lies."""
    return [*findings(result), *([*times_report(result), _where(result)] if result.trials else [])]


def findings(result: StudyRecord) -> Report:
    """What was found, by the design of the study."""
    if not result.trials:
        return ["No trials."]
    if result.spec.design == "comparison":
        parts = comparison_report(result)
    elif len(result.trials) == 1:
        parts = _single(result.trials[0])
    else:
        parts = _grid(result.trials)
    return [*parts, *_left_out(result.trials)]


def study_record(result: StudyRecord, chosen: bool = False) -> dict[str, Any]:
    """The same as a record for JSON; of a comparison with what may be concluded, unless its trials were chosen."""
    judged = result.spec.design == "comparison" and not chosen
    return {
        "study": result.summary(),
        "trials": Made(result.trials, TrialResult.to_dict),
        **({"comparison": comparison_record(result)} if judged else {}),
    }


def trial_table(trials: Sequence[TrialResult], title: str = "Trials") -> Table:
    """One row a trial, in the order given."""
    status = Column("status", "status", lambda status: str(status).lower(), left=True)
    axes = axes_of(trials, without=())
    columns = (
        *map(field_column, axes),
        Column("best_val_accuracy", "val acc %", percent),
        Column("test_accuracy", "test acc % [95 %]", within),
        Column("best_epoch", "best epoch"),
        Column("train_time_s", "time s", tenth),
        *([status] if any(trial.status is not TrialStatus.COMPLETE for trial in trials) else []),
        Column("id", "trial", left=True),
    )
    rows = Made(trials, lambda trial: tuple(_figure(trial, column.key) for column in columns))
    return Table(
        title, columns, rows, f"{common(trials, axes)}. Test accuracy with its 95 % Wilson interval."
    )


def _figure(trial: TrialResult, key: str) -> Any:
    return trial.test_accuracy_bounds if key == "test_accuracy" else trial.value(key)


# One trial.


def _single(trial: TrialResult) -> Report:
    figures: list[tuple[str, Any, Callable[[Any], str]]] = [
        ("validation accuracy %", trial.best_val_accuracy, percent),
        ("at epoch", trial.best_epoch, str),
        ("test accuracy % [95 %]", _figure(trial, "test_accuracy"), within),
        ("test accuracy %, augmented images", trial.test_accuracy_augmented, percent),
        ("test loss", trial.test_loss, _four),
        ("macro precision %", trial.macro_precision, percent),
        ("macro recall %", trial.macro_recall, percent),
        ("macro F1 %", trial.macro_f1, percent),
        ("ROC-AUC, one against rest", trial.roc_auc, _four),
        ("convergence epoch", trial.convergence_epoch, str),
        ("parameters", trial.num_params, thousands),
        ("training time", trial.train_time_s, duration),
        ("compile time", trial.compile_time_s, duration),
        ("compile time, the program alone", trial.compile_time_alone_s, duration),
        ("evaluation time", trial.eval_time_s, duration),
        ("images per second", trial.images_per_s, lambda value: f"{value:,.0f}"),
        ("status", trial.status, lambda status: str(status).lower()),
        ("trial", trial.id, str),
    ]
    rows = tuple((name, text(value)) for name, value, text in figures if value is not None)
    columns = (Column("figure", "", left=True), Column("value", "", left=True))
    return [_epochs(trial), Table("Result", columns, rows, f"{common([trial])}.")]


def _epochs(trial: TrialResult) -> Table:
    columns = (
        Column("epoch", "epoch"),
        Column("train_loss", "train loss", _four),
        Column("train_accuracy", "train acc %", percent),
        Column("val_loss", "val loss", _four),
        Column("val_accuracy", "val acc %", percent),
    )
    return Table("Epochs", columns, tuple((n, *epoch) for n, epoch in enumerate(trial.history, start=1)))


def _four(value: float) -> str:
    return f"{value:.4f}"


# A grid.


def _grid(trials: Sequence[TrialResult]) -> Report:
    groups = sorted(configurations(trials), key=lambda group: group.merit)
    varied = axes_of(trials, without=())
    axes = [name for name in varied if name not in REPLICATES]
    if all(len(group.trials) == 1 for group in groups):
        table = trial_table([group.trials[0] for group in groups], BY_ACCURACY)
    else:
        table = _configuration_table(groups, axes, common(trials, varied))
    return [table, *heat_maps(groups, axes), *selection(groups, axes)]


def _configuration_table(groups: Sequence[Configuration], axes: Sequence[str], shared: str) -> Table:
    columns = (
        *map(field_column, axes),
        Column("best_val_accuracy", "val acc %", plus_minus),
        Column("test_accuracy", "test acc %", plus_minus),
        Column("best_epoch", "best epoch", tenth),
        Column("train_time_s", "time s", tenth),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            *(_value(group, name) for name in axes),
            group.interval("best_val_accuracy"),
            group.interval("test_accuracy"),
            group.mean("best_epoch"),
            group.mean("train_time_s"),
            tally(group),
        )
        for group in groups
    )
    caption = f"{shared}. Means over seeds ± their 95 % Student t intervals."
    return Table("Configurations by validation accuracy", columns, rows, caption)


def _value(group: Configuration, name: str) -> Any:
    return getattr(group.spec, name)


def heat_maps(groups: Iterable[Configuration], axes: Sequence[str]) -> list[Table]:
    """Validation accuracy over two numeric axes, once for each combination of the others, in the order given."""
    return list(map(_heat_map, planes(groups, axes)))


def _heat_map(plane: Plane) -> Table:
    down, across = plane.down, plane.across
    columns = [Column(down, f"{field_title(down)} \\ {field_title(across)}", lambda v: setting(down, v))]
    columns += [Column(f"{across}={value}", setting(across, value), percent) for value in plane.acrosses]
    means = {place: group.mean("best_val_accuracy") for place, group in plane.cells.items()}
    rows = tuple((first, *(means.get((first, second)) for second in plane.acrosses)) for first in plane.downs)
    title = f"Validation accuracy %, {field_title(down)} by {field_title(across)}"
    return Table(f"{title}: {plane.label}" if plane.label else title, tuple(columns), rows, heat=True)


# What every report ends with.


def _left_out(trials: Sequence[TrialResult]) -> list[str]:
    """The trials without a result, and that they are missing above."""
    tally = [
        f"{sum(trial.status is status for trial in trials)} {status.lower()}"
        for status in TrialStatus
        if status is not TrialStatus.COMPLETE and any(trial.status is status for trial in trials)
    ]
    return (
        [f"Of {count(len(trials), 'trial')}, {listed(tally)}: left out of means and comparisons."]
        if tally
        else []
    )


def times_report(result: StudyRecord) -> list[str]:
    """What the workers' time went into; nothing where that was not recorded."""
    whole = sum(result.times.values())
    if not whole:
        return []
    shares = ", ".join(f"{result.times.get(kind, 0.0) / whole:.0%} {name}" for kind, name in _WORDS.items())
    return [f"Workers' time, {duration(whole)}: {shares.replace('%', ' %')}."]


#: The kinds of time, in the words of a report.
_WORDS = {
    "train": "training",
    "eval": "evaluation",
    "compile": "compiling",
    "io": "I/O",
    "wait": "waiting and start-up",
}


def _where(result: StudyRecord) -> str:
    took = (
        f"{count(len(result.trials), 'trial')} in {duration(result.wall_time_s)}. "
        if result.wall_time_s
        else ""
    )
    return f"{took}Results, checkpoints and TensorBoard files are in {result.folder}"
