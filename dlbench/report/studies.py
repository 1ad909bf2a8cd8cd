"""The report of a study: what was found, by its design, and what every report ends with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from dlbench.analysis.ablation import ablation
from dlbench.analysis.baselines import baselines
from dlbench.analysis.comparison import compare_models
from dlbench.analysis.configurations import (
    Configuration,
    Plane,
    axes_of,
    best_first,
    common,
    configurations,
    planes,
    tally,
)
from dlbench.analysis.convergence import censored_epoch, converged_epoch
from dlbench.analysis.crossings import crossings_of
from dlbench.analysis.datasets import over_datasets
from dlbench.analysis.protocols import components_of
from dlbench.analysis.published import places
from dlbench.analysis.same_images import compare_on_same_images
from dlbench.analysis.search import concluded, search_findings, searches
from dlbench.analysis.selection import select
from dlbench.records import METRICS, TrialStatus
from dlbench.report.ablation import ablation_record, ablation_report
from dlbench.report.baselines import baseline_records, baseline_table
from dlbench.report.comparison import (
    comparison_conclusions,
    comparison_record,
    comparison_strip,
    comparison_table,
    same_images_report,
)
from dlbench.report.crossings import crossings_report
from dlbench.report.datasets import over_datasets_report
from dlbench.report.environments import copied_trials, mixed_trials, superseded_trials
from dlbench.report.protocols import components_report
from dlbench.report.published import published_report
from dlbench.report.search import search_record, search_report, tuning_report
from dlbench.report.selection import selection_report
from dlbench.report.tables import (
    FAILURES_NOTE,
    SPAN,
    TIMES_NOTE,
    Column,
    Made,
    Points,
    Report,
    Strip,
    Table,
    capitalized,
    count,
    duration,
    failure_columns,
    field_columns,
    listed,
    means_note,
    percent,
    plus_minus,
    replicate,
    spread,
    tenth,
    thousands,
    within,
)
from dlbench.report.verdicts import ClaimsReport
from dlbench.spec.metrics import (
    REPORT_METRIC,
    metric,
    metric_key,
    metric_of,
    report_metric,
    selection_metric,
    title,
    words,
)
from dlbench.spec.naming import field_title, setting
from dlbench.spec.trial import REPLICATES
from dlbench.storage.results import StudyRecord, TrialResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class StudyReport:
    """The report of a study, part by part.

    Attributes:
        answer: the answer to the study's question, in a sentence or two; "" where it has none.
        picture: the answer as a chart for a terminal; ``None`` where there is none.
        claims: the claims that the study tests, and their verdicts; ``None`` if it tests none.
        trials: one row per trial; ``None`` where the findings show the trials in groups.
        findings: the tables and sentences that answer the study's question.
        same_images: networks compared on the same test images.
        variation: the variation by source of randomness.
        protocols: validation against test accuracy.
        times: how the workers spent their time.
        published: published runs among one's own.
        origin: where the results are, or what they were computed on.
    """

    answer: str = ""
    picture: Strip | None = None
    claims: ClaimsReport | None = None
    trials: Table | None = None
    findings: Report
    same_images: Report = field(default_factory=list)
    variation: Report = field(default_factory=list)
    protocols: Report = field(default_factory=list)
    published: Report = field(default_factory=list)
    times: Report = field(default_factory=list)
    origin: Report = field(default_factory=list)

    @property
    def parts(self) -> Report:
        """All parts but the picture, in the order in which they are shown: the answer first."""
        return [*([self.answer] if self.answer else []), *self.support]

    @property
    def shown(self) -> list[Table | Strip | Points | str]:
        """All parts as a terminal shows them: the answer, its picture, and what supports it."""
        return [
            *([self.answer] if self.answer else []),
            *([self.picture] if self.picture else []),
            *self.support,
        ]

    @property
    def support(self) -> Report:
        """The parts after the answer and its picture."""
        return [
            *(self.claims.parts if self.claims else []),
            *([self.trials] if self.trials else []),
            *self.findings,
            *self.later,
        ]

    @property
    def later(self) -> Report:
        """The parts after the findings."""
        return [
            *self.published,
            *self.same_images,
            *self.variation,
            *self.protocols,
            *self.times,
            *self.origin,
        ]


def study_report(
    result: StudyRecord,
    answers: Mapping[str, NDArray[np.bool_]] | None = None,
    others: Sequence[float] = (),
) -> StudyReport:
    """What was found, how long it took, and where the results are.

    Args:
        result: the study.
        answers: by trial id, whether each test image was classified correctly. If given, a comparison of models
            also compares their networks image by image.
        others: p-values of the claims that are tested beside the ranking, and share its error rate.
    """
    if not result.trials:
        return StudyReport(findings=["No trials."])
    trials, same_images, picture, answer = None, [], None, ""
    is_comparison = result.spec.design == "comparison"
    if is_comparison:
        comparison = compare_models(result, others=others)
        answer, support = comparison_conclusions(comparison, result.spec.looks)
        picture = comparison_strip(comparison)
        findings = [
            comparison_table(comparison, baselines(result), answers),
            *support,
            *(tuning_report(searches(result)) if result.spec.search else []),
            *over_datasets_report(over_datasets(comparison.trials)),
        ]
        same_images = same_images_report(compare_on_same_images(comparison, answers or {}))
    elif result.spec.design == "ablation":
        answer, findings = ablation_report(ablation(result))
    elif result.spec.design == "search":
        answer, findings = search_report(search_findings(result))
    elif len(result.trials) == 1:
        findings = _single(result.trials[0])
    else:
        answer, trials, findings = _grid(result.trials, others)
    return StudyReport(
        answer=answer,
        picture=picture,
        trials=trials,
        findings=[
            *findings,
            *crossings_report(crossings_of(result)),
            *_baselines(result),
            *_left_out(result),
            *mixed_trials(result),
            *superseded_trials(result),
            *copied_trials(result.trials),
        ],
        same_images=same_images,
        variation=components_report(components_of(concluded(result), known=result.right)),
        published=published_report(places(result)),
        times=times_report(result),
        origin=[_where(result)],
    )


def study_title(result: StudyRecord) -> str:
    """What was studied, as a heading: "Architectures on mnist5k", "Lr and batch size on mnist5k"."""
    varied = [field_title(name) for name in axes_of(result.trials)]
    words = {
        "comparison": "architectures",
        "ablation": f"ablation of {result.trials[0].model}",
        "search": "search",
        "single": str(result.trials[0].model),
    }.get(result.spec.design, listed(varied) or "trials")
    datasets = dict.fromkeys(trial.dataset.partition("@")[0] for trial in result.trials)
    return f"{capitalized(words)} on {listed([*datasets])}"


def study_record(result: StudyRecord, chosen: bool = False) -> dict[str, Any]:
    """A study as a record for JSON.

    Args:
        result: the study.
        chosen: whether its trials were chosen by their results. Then nothing may be concluded from a comparison,
            and the record has no conclusions.
    """
    conclusions: dict[str, Any] = {}
    if not chosen and result.spec.design == "comparison":
        conclusions["comparison"] = comparison_record(compare_models(result), result.spec.looks)
    if result.trials and not chosen and result.spec.design == "comparison" and result.spec.search:
        conclusions["tuning"] = list(map(search_record, searches(result)))
    if result.trials and not chosen and result.spec.design == "ablation":
        conclusions["ablation"] = ablation_record(ablation(result))
    if result.trials and not chosen and result.spec.design == "search":
        conclusions["search"] = search_record(search_findings(result))
    if not chosen and (result.published or result.spec.design == "comparison"):
        conclusions["baselines"] = baseline_records(baselines(result))
    return {"study": result.summary(), "trials": Made(result.trials, TrialResult.to_dict), **conclusions}


def trial_table(trials: Sequence[TrialResult], heading: str = "Trials") -> Table:
    """One row per trial, in the order given."""
    status = Column("status", "status", lambda status: str(status).lower(), left=True)
    axes = axes_of(trials, without=())
    reported = report_metric(trial.trial.spec for trial in trials)
    columns = (
        *field_columns(axes, trials),
        _column(selection_metric(trial.trial.spec for trial in trials)),
        _tested(reported),
        Column("best_epoch", "best epoch"),
        Column("train_time_s", "time s", tenth),
        *([status] if any(trial.status is not TrialStatus.COMPLETE for trial in trials) else []),
        Column("id", "trial", left=True, whole=True),
    )
    rows = Made(trials, lambda trial: tuple(_value(trial, column.key) for column in columns))
    wilson = " Test accuracy with its 95 % Wilson interval." if reported == REPORT_METRIC else ""
    return Table(heading, columns, rows, f"{common(trials, axes)}.{wilson}")


def _column(name: str) -> Column:
    """The column of a metric."""
    return Column(metric_key(name), title(name), metric(name).text)


def _tested(name: str) -> Column:
    """The column of a metric of one trial on test images, with its interval over images where it has one."""
    return Column("test_accuracy", "test acc % [95 %]", within) if name == REPORT_METRIC else _column(name)


def trials_of_studies(trials: Sequence[TrialResult], keep_order: bool) -> Table:
    """One row per trial of several studies, with the name of its study.

    Args:
        trials: the trials.
        keep_order: whether they stay in the order given; otherwise, those with the best validation metric come first
            in each study.
    """
    if not keep_order:
        trials = sorted(trials, key=lambda trial: (_study(trial), _merit(trial)))
    table = trial_table(trials, "Trials of all studies")
    columns = (Column("study", "study", left=True, whole=True), *table.columns)
    rows = Made(range(len(trials)), lambda place: (_study(trials[place]), *table.rows[place]))
    return replace(table, columns=columns, rows=rows)


def _merit(trial: TrialResult) -> float:
    """A number that is lower for a trial with a better validation metric."""
    name = metric_of(trial.trial.spec, "val")
    value = trial.value(name)
    if value is None:
        return math.inf
    return float(value) if metric(name).lower_is_better else -float(value)


def _study(trial: TrialResult) -> str:
    assert trial.study_dir is not None
    return trial.study_dir.name


def _value(trial: TrialResult, key: str) -> Any:
    return trial.test_accuracy_bounds if key == "test_accuracy" else trial.value(key)


def _baselines(result: StudyRecord) -> Report:
    """The table of baselines where published ones are named and no comparison shows them."""
    named = any(each.of is None for each in result.published)
    return [baseline_table(baselines(result))] if named and result.spec.design != "comparison" else []


def _single(trial: TrialResult) -> Report:
    """The epochs of one trial, and its metrics."""
    convergence = converged_epoch(trial) or "not reached before the last epoch"
    own = [
        (f"{words(name)}{metric(name).sign}", value, metric(name).text)
        for name, value in trial.metrics.items()
        if name not in METRICS
    ]
    values: list[tuple[str, Any, Callable[[Any], str]]] = [
        *own,
        ("validation accuracy %", trial.best_val_accuracy, percent),
        ("at epoch", trial.best_epoch, str),
        ("test accuracy % [95 %]", trial.test_accuracy_bounds, within),
        ("test accuracy %, augmented images", trial.test_accuracy_augmented, percent),
        ("test loss", trial.test_loss, _four),
        ("macro precision %", trial.macro_precision, percent),
        ("macro recall %", trial.macro_recall, percent),
        ("macro F1 %", trial.macro_f1, percent),
        ("ROC-AUC, one class against the rest", trial.roc_auc, _four),
        ("convergence epoch", None if trial.convergence_epoch is None else convergence, str),
        ("plateau epoch", _plateau(trial), str),
        ("parameters", trial.num_params, thousands),
        ("training time", trial.train_time_s, duration),
        ("compile time", trial.compile_time_s, duration),
        ("compile time of the program alone", trial.compile_time_alone_s, duration),
        ("evaluation time", trial.eval_time_s, duration),
        ("images per second", trial.images_per_s, lambda value: f"{value:,.0f}"),
        ("status", trial.status, lambda status: str(status).lower()),
        ("trial", trial.id, str),
    ]
    rows = tuple((name, text(value)) for name, value, text in values if value is not None)
    columns = (Column("metric", "", left=True), Column("value", "", left=True))
    return [_epochs(trial), Table("Result", columns, rows, f"{common([trial])}.")]


def _plateau(trial: TrialResult) -> int | str | None:
    found = censored_epoch(trial, "plateau_epoch")
    return None if found is None else found[0] if found[1] else "not reached"


def _epochs(trial: TrialResult) -> Table:
    own = metric_of(trial.trial.spec, "val")
    columns = (
        Column("epoch", "epoch"),
        Column("train_loss", "train loss", _four),
        Column("train_accuracy", "train acc %", percent),
        Column("val_loss", "val loss", _four),
        Column("val_accuracy", "val acc %", percent),
        replace(_column(own), key="val_metric"),
    )
    curves = [(n, *epoch) for n, epoch in enumerate(trial.history, start=1)]
    known = [place for place, values in enumerate(zip(*curves, strict=True)) if any(map(_is_known, values))]
    shown = known if curves else range(len(columns) - 1)
    rows = tuple(tuple(row[place] if _is_known(row[place]) else None for place in shown) for row in curves)
    note = "Training: means over the steps of an epoch, while the parameters change; validation: at its end."
    return Table("Epochs", tuple(columns[place] for place in shown), rows, note)


def _is_known(value: float | None) -> bool:
    """Whether an epoch has a value; accuracies of numbers are nan."""
    return value is not None and not math.isnan(value)


def _four(value: float) -> str:
    return f"{value:.4f}"


def _grid(trials: Sequence[TrialResult], others: Sequence[float]) -> tuple[str, Table | None, Report]:
    """The answer, the table of single trials, unless they are shown by configuration; and what was found."""
    groups = best_first(configurations(trials))
    varied = axes_of(trials, without=())
    axes = [name for name in varied if name not in REPLICATES]
    answer, *support = selection_report(select(groups, others=others), axes)
    said = [*heat_maps(groups, axes), *support]
    if all(len(group.trials) == 1 for group in groups):
        table = trial_table([group.trials[0] for group in groups], f"Trials by {_chosen_by(groups)}")
        return str(answer), table, said
    return str(answer), None, [_configuration_table(groups, axes, common(trials, varied)), *said]


def _chosen_by(groups: Sequence[Configuration]) -> str:
    return words(selection_metric(group.spec for group in groups))


def _configuration_table(groups: Sequence[Configuration], axes: Sequence[str], shared: str) -> Table:
    failed = failure_columns(groups)
    specs = [group.spec for group in groups]
    names = selection_metric(specs), report_metric(specs)
    measured = metric(names[0])
    columns = (
        *field_columns(axes, [trial for group in groups for trial in group.trials]),
        *(Column(metric_key(name), title(name), partial(plus_minus, measured=measured)) for name in names),
        *(column for column, _ in failed),
        Column("best_epoch", "best epoch", tenth),
        Column("train_time_s", "time s", spread),
        Column("seeds", f"{replicate(groups)}s"),
    )
    validated, tested = ([group.summary(name) for group in groups] for name in names)
    rows = tuple(
        (
            *(getattr(group.spec, name) for name in axes),
            validation,
            test,
            *(values[number] for _, values in failed),
            group.mean("best_epoch"),
            group.summary("train_time_s"),
            tally(group),
        )
        for number, (group, validation, test) in enumerate(zip(groups, validated, tested, strict=True))
    )
    caption = (
        f"{shared}. {means_note([*validated, *tested])}{f' {FAILURES_NOTE}' if failed else ''} {TIMES_NOTE}"
    )
    return Table(f"Configurations by {_chosen_by(groups)}", columns, rows, caption)


def heat_maps(groups: Iterable[Configuration], axes: Sequence[str]) -> list[Table]:
    """The validation metric over two numeric axes: one table per combination of the other axes, in the order given."""
    groups = [*groups]
    name = selection_metric(group.spec for group in groups)
    return [_heat_map(plane, name) for plane in planes(groups, axes)]


def _heat_map(plane: Plane, name: str) -> Table:
    measured = metric(name)
    down, across = plane.down, plane.across
    columns = [Column(down, f"{field_title(down)} \\ {field_title(across)}", lambda v: setting(down, v))]
    columns += [
        Column(f"{across}={value}", setting(across, value), measured.text) for value in plane.acrosses
    ]
    means = {place: group.mean(name) for place, group in plane.cells.items()}
    rows = tuple((first, *(means.get((first, second)) for second in plane.acrosses)) for first in plane.downs)
    said = f"{capitalized(words(name))}{measured.sign}, {field_title(down)} by {field_title(across)}"
    said = f"{said}: {plane.label}" if plane.label else said
    return Table(said, tuple(columns), rows, heat=True, span=SPAN if measured.factor == 100 else math.inf)


def _left_out(result: StudyRecord) -> Report:
    """How many trials did not complete, by status."""
    trials = result.trials
    numbers = {
        status: sum(trial.status is status for trial in trials)
        for status in TrialStatus
        if status is not TrialStatus.COMPLETE
    }
    words = [f"{number} {status.lower()}" for status, number in numbers.items() if number]
    if not words:
        return []
    diverged = numbers[TrialStatus.DIVERGED]
    if not diverged or result.spec.design == "ablation":
        return [f"Of {count(len(trials), 'trial')}, {listed(words)}: left out of means and comparisons."]
    rest = " The others are left out of both." if len(words) > 1 else ""
    worst = metric(report_metric(trial.trial.spec for trial in trials)).worst
    value = "an accuracy of 0" if worst == 0 else "the worst value of any trial"
    return [
        f"Of {count(len(trials), 'trial')}, {listed(words)}. Diverged trials are left out of means, and count as "
        f"failures in comparisons, with {value}.{rest}"
    ]


def times_report(result: StudyRecord) -> Report:
    """How the workers spent their time; empty where that was not recorded."""
    total = sum(result.times.values())
    if not total:
        return []
    shares = ", ".join(f"{result.times.get(kind, 0.0) / total:.0%} {name}" for kind, name in _WORDS.items())
    load = "" if result.load is None else f" The machine's load before training was {result.load:.1f}."
    return [f"Workers' time, {duration(total)}: {shares.replace('%', ' %')}.{load}"]


#: The kinds of time in words.
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
