"""The commands that train: train, grid, compare-archs and run; and plan, which shows what they would train."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import shutil
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dlbench.cli.options import (
    DEFAULTS,
    FLAGS,
    AblateOptions,
    CompareOptions,
    GrowingOptions,
    SearchOptions,
    StudyOptions,
    TargetOptions,
    flag_of,
    takes,
)
from dlbench.errors import FailedTrialsWarning, InputError, UnknownNameError
from dlbench.spec.registry import MODELS
from dlbench.spec.seeds import RANDOM

if TYPE_CHECKING:
    from dlbench.execution.plan import Plan
    from dlbench.spec.config import Config
    from dlbench.spec.study import Design, StudySpec
    from dlbench.studies.options import RunOptions
    from dlbench.studies.result import StudyResult

#: The defaults of compare-archs, with which it takes less than a minute. In a pilot of 20 other seeds, three of the ten
#: differences were of 2.3 points or more, with standard deviations of 0.7 to 1.0 points: five seeds find each of them
#: with a power of 85 % or more at the first, strictest level of Holm's correction.
COMPARE_DEFAULTS: dict[str, Any] = {
    "model": [*MODELS.compared],
    "learning_rate": [1e-3],
    "optimizer": ["adam"],
    "batch_size": [16],
    "schedule": ["cosine"],
    "num_epochs": [3],
    "dataset": ["mnist5k"],
    "train_size": [1000],
    "val_size": [500],
    "seed": [0, 1, 2, 3, 4],
}
#: Where comparisons in files have other defaults: those of 0.1.0, so that their trials keep their ids.
COMPARE_DEFAULTS_IN_FILES = {"schedule": ["constant"], "train_size": [2000]}
_COMPARE_SHOWN = DEFAULTS | {
    name: " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    for name, values in COMPARE_DEFAULTS.items()
}
#: The hint below a table that is too long to be shown in full.
WHOLE_TABLE = "'dlbench results STUDY --format csv' prints all of them."
#: Studies with a longer estimated time need a confirmation.
LONG_S = 2 * 3600.0


@takes(StudyOptions, DEFAULTS)
def train(options: StudyOptions) -> int:
    """Train one trial and test it."""
    return _perform(*_study(options, "single"), options, options.run_options())


@takes(StudyOptions, DEFAULTS)
def grid(options: StudyOptions) -> int:
    """Train every combination of the values given.

    Flags take several values: --lr 1e-3 1e-2, --lr 1e-3,1e-2, or --lr 1e-3 --lr 1e-2.
    """
    return _perform(*_study(options, "grid"), options, options.run_options())


@takes(CompareOptions, _COMPARE_SHOWN)
def compare_archs(options: CompareOptions) -> int:
    """Compare models over several seeds and show which differences the data support.

    All models are trained in the same way; with --tune, each with the best settings of a search of its own. With
    --until-separated, seeds are added until the best model is separated from all others.
    """
    return _perform(*_study(options, "comparison"), options, options.run_options())


@takes(AblateOptions, DEFAULTS)
def ablate(options: AblateOptions) -> int:
    """Change one setting of a base at a time, or several in every combination, and show the effect of each change.

    Give several --seeds: effects cannot be tested without repetitions.
    """
    return _perform(*_study(options, "ablation"), options, options.run_options())


@takes(SearchOptions, DEFAULTS)
def search(options: SearchOptions) -> int:
    """Search a space of settings for the best configuration, and confirm it on new seeds.

    Configurations are proposed by Optuna and chosen on validation images. The same command continues an interrupted
    search with the same trials.
    """
    return _perform(*_study(options, "search"), options, options.run_options())


@takes(TargetOptions)
def run(options: TargetOptions) -> int:
    """Run the study of a YAML file, or continue the study in a folder.

    Flags override the values in the file.
    """
    if not (options.target or options.config):
        raise InputError("run needs the YAML file or the folder of a study: dlbench run CONFIG.yaml")
    study, read, how = _target(options)
    return _perform(study, read, options, how)


@takes(TargetOptions, DEFAULTS)
def plan(options: TargetOptions) -> int:
    """Show the number of trials and the estimated time of a study, and train nothing.

    Also shows the programs, and how many trials are already done. Writes nothing.
    """
    study, read, how = _target(options)
    return _show_plan(_planned(study, read, options, how), options)


def _target(options: TargetOptions) -> tuple[StudySpec, Config | None, RunOptions]:
    """The study in a file or folder, the file, and the options for running it."""
    from dlbench.spec import config
    from dlbench.spec.trial import PARTS
    from dlbench.studies import growing
    from dlbench.studies.result import open_study

    how = options.run_options()
    if options.target and options.config:
        raise InputError(
            f"{options.target} and --config {options.config} both name the study; give one of them"
        )
    file = options.target or options.config
    if file is None:
        return *_study(options, "grid"), how
    if Path(file).is_file() or Path(file).suffix in (".yaml", ".yml"):
        read = config.read(Path(file))
        return _expand(read, read.design, options), read, how
    fields = options.fields_given()
    for field, parts in PARTS.items():  # by naming a part of their own, users allow its code to run
        own = [parts.users(parts.resolve(name)) for name in fields.get(field, ())]
        if all(own) or field == "model":
            fields.pop(field, None)
    given = [flag_of(name) for name in fields]
    given += [FLAGS[name] for name in ("out", "name", "until_separated") if getattr(options, name)]
    if given:
        raise InputError(f"{file} already holds a study, which {given[0]} cannot change; leave it out")
    folder = study_folder(file)
    study = open_study(folder).spec
    return growing.grown(study) if study.looks else study, None, dataclasses.replace(how, out=folder)


def study_folder(name: str) -> Path:
    """The folder of a study, given as a path or as a name in runs/.

    Raises:
        UnknownNameError: there is no such study.
    """
    from dlbench.storage.store import FILE_NAME
    from dlbench.storage.studies import RUNS

    for folder in (Path(name), RUNS / name):
        if (folder / FILE_NAME).is_file():
            return folder
    known = sorted(path.parent.name for path in RUNS.glob(f"*/{FILE_NAME}"))
    raise UnknownNameError("study", name, known or ["none yet"])


def _study(options: StudyOptions, design: Design) -> tuple[StudySpec, Config | None]:
    """The study described by the flags, and the file whose values they override."""
    from dlbench.spec import config

    options.run_options()  # raises if a flag is wrong, before any file is read
    read = config.read(Path(options.config).expanduser()) if options.config else None
    return _expand(read, design, options), read


def _expand(read: Config | None, design: Design, options: StudyOptions) -> StudySpec:
    """Merge the command's defaults, the file and the flags; flags override the file, which overrides the defaults."""
    from dlbench.spec import claims
    from dlbench.spec.designs import check_comparison, union
    from dlbench.spec.layouts import lay_out
    from dlbench.spec.search import TUNED, varied
    from dlbench.studies import growing

    flags = options.fields_given()
    defaults = (
        COMPARE_DEFAULTS | (COMPARE_DEFAULTS_IN_FILES if read else {}) if design == "comparison" else {}
    )
    if "folds" in flags or any("folds" in part for part in (read.grids if read else ())):
        defaults.pop("val_size", None)  # the folds validate
    own_options = dict(read.options) if read else {}
    all_options = {**own_options, **options.design_options()}
    if "tune" in all_options:
        defaults = {k: v for k, v in defaults.items() if k not in varied(all_options.get("space", TUNED))}
    axes = [{**defaults, **part, **flags} for part in (read.grids if read else [{}])]
    if design == "single":
        if read and len(axes) > 1:
            raise InputError(
                f"{read.path} has {len(axes)} grids, but train trains a single trial; use 'dlbench grid'"
            )
        axes = [_first(axes[0])]
    if read and len(axes) > 1 and (all_options or design in ("ablation", "search")):
        raise InputError(
            f"{read.path} has {len(axes)} grids, but {next(iter(all_options), f'the design {design}')} takes one"
        )
    parts = [lay_out(design, part, all_options) for part in axes]
    study = union(parts)
    if read and (
        read.claims or read.published
    ):  # these are about the trials of the file, regardless of the flags
        own = union([lay_out(design, {**defaults, **part}, own_options) for part in read.grids])
        trials = own.search.base if own.search else own.trials
        claims.check(read.claims, trials)
        for each in read.published:
            if each.of is not None:
                claims.selected(each.of, trials)
    repeated = sum(len(part.trials) for part in parts) - len(study.trials)
    if repeated:
        from dlbench.report import count, terminal

        terminal.message(
            f"Warning: the grids overlap in {count(repeated, 'trial')}; each trial is trained once"
        )
    if design == "comparison":
        check_comparison(study)
    budget = options.budget() if isinstance(options, GrowingOptions) else None
    return study if budget is None else growing.grown(study, budget)


def _first(axes: dict[str, Any]) -> dict[str, Any]:
    """The first value of each field, with a warning if there are more."""
    from dlbench.report import terminal

    for name, values in axes.items():
        if len(values) > 1:
            listed = " ".join(str(value)[:100] for value in values[:5]) + (" ..." if len(values) > 5 else "")
            terminal.message(
                f"Warning: train uses only the first value of {FLAGS.get(name, name)} {listed}, which is "
                f"{str(values[0])[:100]}; 'dlbench grid' trains all of them"
            )
    return {name: values[:1] for name, values in axes.items()}


def _planned(study: StudySpec, read: Config | None, options: StudyOptions, how: RunOptions) -> Plan:
    from dlbench.report import terminal
    from dlbench.studies import growing, planning, searching

    make = planning.plan
    if study.search:
        make = searching.plan_search
    elif study.looks:
        make = growing.plan_until_separated
    try:
        with terminal.waiting("checking the study and its data", options.quiet):
            return make(study, how)
    except InputError as error:
        if read and error.place is None:
            in_file = [name for name in error.fields if name not in options.fields_given()]
            error.place = next((read.places[name] for name in in_file if name in read.places), None)
        raise


def _show_plan(planned: Plan, options: StudyOptions) -> int:
    from dlbench import report
    from dlbench.report import terminal

    if options.as_json:
        print_json(report.plan_record(planned))
    else:
        terminal.show(report.plan_report(planned))
    return 0


def _perform(study: StudySpec, read: Config | None, options: StudyOptions, how: RunOptions) -> int:
    """Run a study and print its report.

    Returns:
        The exit code: 1 if a trial failed.
    """
    from dlbench.execution import cluster

    with cluster.opened(how.cluster, how.device) as site:
        return _perform_on(study, read, options, dataclasses.replace(how, cluster=site))


def _perform_on(study: StudySpec, read: Config | None, options: StudyOptions, how: RunOptions) -> int:
    from dlbench import report
    from dlbench.report import terminal
    from dlbench.report.progress import StudyProgress

    planned = _planned(study, read, options, how)
    if options.dry_run:
        return _show_plan(planned, options)
    _confirm(planned, options.yes)
    command = ["dlbench", *sys.argv[1:]]
    progress = StudyProgress(options.quiet)
    how = dataclasses.replace(how, command=command, config=read.text if read else "", on_event=progress)
    try:
        with progress, warnings.catch_warnings():
            warnings.simplefilter("ignore", FailedTrialsWarning)  # they are listed below the results
            result = _trained(study, how)
    except KeyboardInterrupt as interrupt:
        most = "at most " if study.looks or study.search else ""
        number = study.search.most_trials if study.search else len(planned.trials)
        terminal.message(
            f"Interrupted: {progress.finished} of {most}{number} trials are done and kept in "
            f"{planned.folder}\nTo continue: {shlex.join(_continuing(command, read, planned))}"
        )
        return getattr(interrupt, "exit_code", 130)
    if options.as_json:
        print_json(report.study_record(result))
    else:
        terminal.show(report.study_report(result).shown, WHOLE_TABLE)
    show_failures(result)
    return 1 if result.failed else 0


def _trained(study: StudySpec, how: RunOptions) -> StudyResult:
    """Train a study in the way of its design."""
    from dlbench.studies import growing, running, searching

    if study.search:
        return searching.run_search(study, how)
    return growing.run_until_separated(study, options=how) if study.looks else running.run(study, how)


def _continuing(command: list[str], read: Config | None, planned: Plan) -> list[str]:
    """The command that continues a study: the same, unless it would draw other seeds."""
    draws = any(RANDOM in text for text in (*command, read.text if read else ""))
    return ["dlbench", "run", str(planned.folder)] if draws else command


def _confirm(planned: Plan, yes: bool) -> None:
    """Ask for confirmation if a study takes long, or needs more disk space than is free.

    Raises:
        InputError: confirmation is needed, but there is no terminal.
    """
    from dlbench.execution.costs import disk_bytes
    from dlbench.report import count, duration

    estimates = []
    if planned.estimate_s > LONG_S:
        estimates.append(f"take about {duration(planned.estimate_s)}")
    place = planned.folder.absolute()
    place = next(folder for folder in (place, *place.parents) if folder.exists())
    needed, free = disk_bytes(planned.missing, planned.workers), shutil.disk_usage(place).free
    if planned.missing and needed > free:
        estimates.append(f"write about {needed / 1e6:,.0f} MB where {free / 1e6:,.0f} MB are free ({place})")
    if yes or not estimates:
        return
    about = f"{count(len(planned.missing), 'trial')} would {' and '.join(estimates)}"
    about = ". ".join([*planned.trained_again, about])
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"{about}; add --yes to start, or remove some values")
    if not typer.confirm(f"{about}. Start?", err=True):
        raise typer.Exit(2)


def show_failures(result: StudyResult) -> None:
    """List the trials that failed, on standard error."""
    from dlbench.report import count, terminal

    if not result.failed:
        return
    failed = count(len(result.failed), "trial")
    lines = [f"{failed} failed; 'dlbench run {result.folder} --retry-failed' trains them again:"]
    for trial in result.failed:
        reason = trial.failure or "unknown"
        lines.append(f"  {trial.id}  {trial.trial.spec.model} seed {trial.seed}: {reason}")
    terminal.message("\n".join(lines))


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object.

    It is encoded as a whole. For ten thousand trials of 20 epochs, this gives 52 MB of text in 1.7 s, with a peak of
    250 MB of memory. `json.dump`, which writes incrementally, takes three times as long, because only the encoder of
    `json.dumps` is compiled.
    """
    print(to_json(record))


def to_json(value: Any) -> str:
    """Encode a value as JSON. Numbers that are not finite become null; paths and times become text."""
    try:
        return _JSON.encode(value)
    except ValueError:  # a number is not finite
        return _JSON.encode(_with_null(value))


def _plain(value: Any) -> Any:
    """Convert a value of a type that `json` does not support: sequences to lists, anything else to text."""
    return list(value) if isinstance(value, Sequence) else str(value)


_JSON = json.JSONEncoder(allow_nan=False, default=_plain)


def _with_null(value: Any) -> Any:
    """A copy of a value with None in place of each number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _with_null(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_with_null(item) for item in value]
    return value
