"""The commands that show information: results, info, data."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import operator
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dlbench.cli.checks import check
from dlbench.cli.completion import completer
from dlbench.cli.diagnosis import show_by
from dlbench.cli.options import DataDir, Json, Values, takes
from dlbench.cli.reports import refuse_foreign, write_page
from dlbench.cli.studies import WHOLE_TABLE, print_json, show_failures, study_folder
from dlbench.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    from dlbench.storage.results import TrialResult
    from dlbench.studies.result import StudyResult

    #: A condition of ``--filter``: its field, and a test of a trial.
    _Condition = tuple[str, Callable[[TrialResult], bool]]

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="A data set; 'dlbench data' lists all.",
        autocompletion=completer("dataset", ()),
    ),
]


@dataclass(frozen=True, kw_only=True)
class ResultsOptions:
    """The flags of ``results``."""

    study: Annotated[
        str | None, typer.Argument(metavar="[STUDY]", help="A study's folder, or its name in runs/.")
    ] = None
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", metavar="FIELD", help="Sort trials by a field; -FIELD sorts in descending order."
        ),
    ] = None
    filter: Annotated[
        Values,
        typer.Option(
            "--filter",
            metavar="CONDITION...",
            help="Keep trials that meet conditions: model=Baseline 'lr<0.01'.",
        ),
    ] = None
    format: Annotated[
        Literal["table", "markdown", "csv", "json"], typer.Option("--format", help="The output format.")
    ] = "table"
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw learning curves and heat maps instead of tables.")
    ] = False
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="class|brightness|contrast|NAME|FILE.csv:COLUMN",
            help="Show scores by class or by slice of the test images: by a rule, a NAME that the data set carries, "
            "or a file with one row per test image.",
        ),
    ] = None
    check: Annotated[
        bool, typer.Option("--check", help="Check the study for damage; exit code 1 if there is any.")
    ] = False


@takes(ResultsOptions)
def results(options: ResultsOptions) -> int:
    """List the studies in runs/, or show one; rm, mv and gc remove, rename and tidy up.

    The trials of a study can be filtered and sorted. Without STUDY, --filter and --sort list the trials of all studies.
    """
    gc.disable()  # garbage collection takes as long as reading ten thousand records, and the process exits soon
    from dlbench import report
    from dlbench.report import terminal
    from dlbench.spec.trial import TrialSpec
    from dlbench.studies.result import open_study

    style = "json" if options.as_json else options.format
    _refuse_combined(options, style)
    conditions = [_condition(text) for text in options.filter or ()]
    if options.study is None:
        if options.plot or options.check or options.by:
            raise InputError("--plot, --by and --check need a study: dlbench results STUDY --plot")
        if conditions or options.sort:
            _list_trials(conditions, options.sort, style)
        else:
            _list_studies(style)
        return 0
    if options.check:
        return check(study_folder(options.study), style == "json")
    by_result = any(field not in TrialSpec.model_fields for field, _ in conditions)
    history = options.plot or style == "json"
    result = _chosen(open_study(study_folder(options.study), history), conditions, options.sort)
    if len(result) == 1 and not history:  # a single trial is shown with its epochs
        result = _chosen(open_study(result.folder), conditions, options.sort)
    if options.plot:
        terminal.show(report.plots_report(result))
        return 0
    if options.by:
        show_by(result, options.by, style)
        return 0
    _print(
        style,
        lambda: report.records_table(result.trials),
        lambda: _selected(result) if by_result else _report(result, bool(options.sort)),
        lambda: report.study_record(result, chosen=by_result),
    )
    show_failures(result)
    return 0


#: Flags that show something of their own: the flags that would have no effect beside them, and the formats they have.
_ALONE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "--plot": (("--by", "--check"), ("table",)),
    "--check": (("--by", "--filter", "--sort"), ("table", "json")),
}


def _refuse_combined(options: ResultsOptions, style: str) -> None:
    """Refuse flags of which one would have no effect.

    Raises:
        InputError: there are such flags.
    """
    if options.as_json and options.format not in ("table", "json"):
        raise InputError(f"--json cannot be combined with --format {options.format}; give one of them")
    for flag, (others, formats) in _ALONE.items():
        given = [other for other in others if getattr(options, other[2:])]
        given += [] if style in formats else [f"--format {style}"]
        if given and getattr(options, flag[2:]):
            raise InputError(f"{flag} cannot be combined with {given[0]}; give one of them")


def _list_studies(style: str) -> None:
    """Print the studies in runs/."""
    from dlbench import report
    from dlbench.report import terminal
    from dlbench.storage.studies import RUNS
    from dlbench.studies.listing import overviews

    studies = list(overviews())
    if not studies and style == "table":
        terminal.message(f"There are no studies in {RUNS.absolute()}; 'dlbench compare-archs' trains one.")
        return
    records = report.studies_records(studies)
    listed = [dict(zip((c.key for c in records.columns), row, strict=True)) for row in records.rows]
    _print(style, lambda: records, lambda: [report.studies_table(studies)], lambda: {"studies": listed})


def _list_trials(conditions: Sequence[_Condition], sort: str | None, style: str) -> None:
    """Print the trials of all studies that meet every condition."""
    from dlbench import report
    from dlbench.report import terminal
    from dlbench.studies.listing import all_trials

    trials, problems = all_trials()
    trials = [trial for trial in trials if all(keep(trial) for _, keep in conditions)]
    trials = _sorted(trials, sort) if sort else trials
    for problem in problems:
        terminal.message(problem)
    _print(
        style,
        lambda: report.records_table(trials),
        lambda: [report.trials_of_studies(trials, bool(sort))] if trials else ["No trials."],
        lambda: {"trials": [{"study": str(t.study_dir), **t.to_dict(history=False)} for t in trials]},
    )


def _chosen(result: StudyResult, conditions: Sequence[_Condition], sort: str | None) -> StudyResult:
    """The study with only those trials that meet every condition, in the requested order."""
    trials = [trial for trial in result.trials if all(keep(trial) for _, keep in conditions)]
    trials = _sorted(trials, sort) if sort else trials
    spec = result.spec.model_copy(update={"trials": tuple(trial.trial.spec for trial in trials)})
    return dataclasses.replace(result, spec=spec, trials=tuple(trials))


def _report(result: StudyResult, keep_order: bool) -> list[Any]:
    """The study's report with a table of its trials, by accuracy or in the requested order."""
    from dlbench import report
    from dlbench.analysis.answers import correct_answers

    answers = correct_answers(result.complete) if result.spec.design == "comparison" else None
    found = report.study_report(result, answers)
    if result.trials and (keep_order or found.trials is None):
        found = dataclasses.replace(found, trials=report.trial_table(result.trials))
    return found.shown


def _selected(result: StudyResult) -> list[Any]:
    """A report of trials that were selected by their results, from which no conclusions can be drawn."""
    from dlbench import report

    if not result.trials:
        return ["No trials."]
    note = "These trials were selected by their results, so they are shown but not compared."
    return [report.trial_table(result.trials), note]


def _print(
    style: str, table: Callable[[], Any], parts: Callable[[], list[Any]], record: Callable[[], dict[str, Any]]
) -> None:
    """Print a table, a report or a record; only the one that is printed is computed."""
    from dlbench import report
    from dlbench.report import terminal

    match style:
        case "json":
            print_json(record())
        case "csv":
            terminal.text(table().to_csv())
        case "markdown":
            terminal.text(
                report.to_markdown([part for part in parts() if not isinstance(part, report.Strip)])
            )
        case _:
            terminal.show(parts(), WHOLE_TABLE)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"(?P<field>[a-z_0-9/]+)\s*(?P<operator>!=|<=|>=|=|<|>)\s*(?P<value>.*)")


def _condition(text: str) -> _Condition:
    """Parse a condition of ``--filter`` into its field and a test of a trial."""
    from dlbench.spec.registry import label, name_key

    match = _CONDITION.fullmatch(text.strip())
    if match is None or not match["value"]:
        raise InputError(
            f"--filter must be FIELD=VALUE (or !=, <, <=, >, >=); got {text!r}; name the study before --filter"
        )
    field, compare, wanted = _field(match["field"]), _OPERATORS[match["operator"]], match["value"]

    def keep(trial: TrialResult) -> bool:
        value = _value(trial, field)
        if isinstance(value, int | float):
            with contextlib.suppress(ValueError):
                if not math.isnan(number := float(wanted)):
                    return compare(value, number)
            raise InputError(f"--filter {text}: {field} must be compared with a number; got {wanted!r}")
        if match["operator"] not in ("=", "!="):
            if value is None:
                return False
            raise InputError(f"--filter {text}: {field} is not a number; use = or !=")
        known = "none" if value is None else str(value)
        if field == "model" and ":" not in wanted:
            known = label(known)
        return compare(name_key(known), name_key(wanted))

    return field, keep


def _sorted(trials: Sequence[TrialResult], wanted: str) -> list[TrialResult]:
    """Sort by a field; trials without a value for it come last."""
    field = _field(wanted.removeprefix("-"))
    known = [trial for trial in trials if _value(trial, field) is not None]
    known.sort(key=lambda trial: _value(trial, field), reverse=wanted.startswith("-"))
    return known + [trial for trial in trials if _value(trial, field) is None]


def _field(name: str) -> str:
    from dlbench.spec.metrics import is_metric
    from dlbench.spec.naming import ALIASES
    from dlbench.storage.results import TRIAL_FIELDS

    field = ALIASES.get(name, name)
    if field not in TRIAL_FIELDS and not is_metric(field):
        raise UnknownNameError("field", name, TRIAL_FIELDS)
    return field


def _value(trial: TrialResult, field: str) -> Any:
    value = trial.value(field)
    return str(value) if isinstance(value, dict | list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """The flags of ``info``."""

    as_json: Json = False


@takes(InfoOptions)
def info(options: InfoOptions) -> None:
    """Show versions, devices and caches."""
    from dlbench import report
    from dlbench.data import cache_root
    from dlbench.execution.environment_probe import described_by_child
    from dlbench.report import terminal
    from dlbench.storage import manifest

    with terminal.waiting("listing jax's devices"):
        record = {**manifest.environment(), "jax": described_by_child(dict(os.environ))}
    record["caches"] = [
        {"folder": str(path), "bytes": sum(f.stat().st_size for f in path.rglob("*") if f.is_file())}
        for path in sorted(cache_root().glob("*"))
        if path.is_dir()
    ]
    _print("json" if options.as_json else "table", list, lambda: report.info_report(record), lambda: record)


def data(context: typer.Context, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List data sets; show, check or prepare one."""
    if context.invoked_subcommand is not None:
        if given := [flag for flag, value in {"--data-dir": data_dir, "--json": as_json}.items() if value]:
            raise InputError(f"{given[0]} goes after {context.invoked_subcommand}, which it is for")
        return
    from dlbench import report
    from dlbench.data import available

    sets = available(data_dir)
    record = {"datasets": [dataclasses.asdict(each) for each in sets]}
    _print("json" if as_json else "table", list, lambda: [report.datasets_table(sets)], lambda: record)


def show_data(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show the classes, counts and digest of a data set, preparing it first if necessary."""
    from dlbench import data, report
    from dlbench.report import terminal

    with terminal.waiting(f"reading {name}"):
        found = data.info(name, data_dir)
    record = {**dataclasses.asdict(found), "path": str(found.path) if found.path else None}
    _print("json" if as_json else "table", list, lambda: report.data_report(found), lambda: record)


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The flags of ``data check``."""

    name: Name
    study: Annotated[
        str | None,
        typer.Option(
            "--study",
            metavar="STUDY",
            help="A study of this data set with --folds, whose networks judge the labels; needs cleanlab.",
        ),
    ] = None
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="With --study: write likely label errors as CSV, to be edited and given to --dataset.corrections.",
        ),
    ] = None
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page with the images.")
    ] = None
    data_dir: DataDir = None
    as_json: Json = False


@takes(CheckOptions)
def check_data(options: CheckOptions) -> int:
    """Check a data set: its files, imbalance, constant and equal images, labels, and a shift between its halves.

    Exit code 1: files are missing or cannot be read.
    """
    from dlbench import data, files
    from dlbench.data.quality import check_quality
    from dlbench.report import data_quality, terminal
    from dlbench.report.data_page import data_page
    from dlbench.studies.result import open_study

    if options.html:
        refuse_foreign(Path(options.html))
    if options.out and not options.study:
        raise InputError(
            "--out needs --study, which finds label errors", remedy="leave it out, or name a study"
        )
    if options.out:
        files.check_new(Path(options.out))
    dataset, unreadable = data.load_readable(options.name, options.data_dir)
    names = dataset.class_names or tuple(map(str, range(dataset.num_classes)))
    errors = None
    if options.study:
        result = open_study(study_folder(options.study), history=False)
        with terminal.waiting("judging labels", quiet=options.as_json):
            errors = result.label_errors(options.data_dir)
        if errors.digest != dataset.digest:
            raise InputError(
                f"{options.study} was trained on other data than {options.name}",
                field="study",
                remedy="name a study of these data",
            )
    with terminal.waiting(f"checking {options.name}", quiet=options.as_json):
        found = check_quality(dataset, unreadable)
    parts, record = data_quality.quality_report(found), data_quality.quality_record(found)
    if errors is not None:
        parts += data_quality.label_errors_report(errors, names)
        record["label_errors"] = data_quality.label_errors_record(errors, names)
    if options.html:
        command = shlex.join(
            ["dlbench", "data", "check", options.name, *(["--study", options.study] if options.study else [])]
        )
        write_page(Path(options.html), data_page(dataset, found, errors, parts, command))
        parts = [*parts, f"The page is {options.html}"]
    if errors is not None and options.out:
        files.write_new(Path(options.out), data_quality.corrections(errors, names).encode())
        parts.append(f"The likely label errors are in {options.out}.")
    _print("json" if options.as_json else "table", list, lambda: parts, lambda: record)
    return 1 if unreadable else 0


def prepare_data(name: Name, data_dir: DataDir = None) -> None:
    """Download, check and cache a data set, so that studies need no network."""
    from dlbench import data
    from dlbench.report import terminal

    with terminal.waiting(f"preparing {name}"):
        data.load(name, data_dir, verify=True)  # prepares a damaged one anew
        found = data.info(name, data_dir)
    terminal.text(
        f"{found.reference} is ready: {found.num_train:,} + {found.num_test:,} images in {found.path}"
    )
