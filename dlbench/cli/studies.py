"""The commands that train: train, grid, compare-archs, run, and plan, which only says what they would do."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dlbench.cli.options import DEFAULTS, CompareOptions, StudyOptions, TargetOptions, takes
from dlbench.errors import InputError, UnknownNameError
from dlbench.spec.registry import MODELS

if TYPE_CHECKING:
    from dlbench.execution.plan import Plan
    from dlbench.spec.config import Config, Kind
    from dlbench.spec.study import StudySpec
    from dlbench.studies.result import StudyResult

#: What compare-archs takes where neither flags nor file say otherwise: worth reading, and done in a minute.
COMPARE_DEFAULTS: dict[str, Any] = {
    "model": [*MODELS.compared],
    "learning_rate": [1e-3],
    "optimizer": ["adam"],
    "batch_size": [16],
    "num_epochs": [3],
    "dataset": ["mnist5k"],
    "train_size": [2000],
    "val_size": [500],
    "seed": [0, 1, 2, 3, 4],
}
_COMPARE_SHOWN = DEFAULTS | {
    name: " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
    for name, values in COMPARE_DEFAULTS.items()
}
#: Longer studies are started only on a yes.
LONG_S = 2 * 3600.0


@takes(StudyOptions, DEFAULTS)
def train(options: StudyOptions) -> int:
    """Train one trial and test it."""
    return _perform(*_study(options, "train"), options, options.settings())


@takes(StudyOptions, DEFAULTS)
def grid(options: StudyOptions) -> int:
    """Train every combination of the values given.

    Flags take several values: --lr 1e-3 1e-2, --lr 1e-3,1e-2, or --lr 1e-3 --lr 1e-2.
    """
    return _perform(*_study(options, "grid"), options, options.settings())


@takes(CompareOptions, _COMPARE_SHOWN)
def compare_archs(options: CompareOptions) -> int:
    """Compare models: which differences do the data support?

    All are trained alike, each with several seeds; with --until-separated, with as many as it takes.
    """
    return _perform(*_study(options, "compare-archs"), options, options.settings())


@takes(TargetOptions)
def run(options: TargetOptions) -> int:
    """Run the study of a YAML file, or go on with a folder's.

    Flags override the file and come after it.
    """
    if not (options.target or options.config):
        raise InputError("run needs the file of a study, or the folder of one: dlbench run CONFIG.yaml")
    study, settings, config = _target(options)
    return _perform(study, config, options, settings)


@takes(TargetOptions, DEFAULTS)
def plan(options: TargetOptions) -> int:
    """Say what a study comes to, and train nothing.

    Trials, programs, estimated time, and what is done already. Writes nothing.
    """
    options.persistence()
    study, settings, _ = _target(options)
    return _show_plan(_planned(study, options, settings), options)


def _target(options: TargetOptions) -> tuple[StudySpec, dict[str, Any], str]:
    """The study that a file or folder holds, how to run it, and the file's text."""
    from dlbench.spec import config
    from dlbench.spec.registry import resolve_model
    from dlbench.spec.trial import FLAGS
    from dlbench.studies import growing
    from dlbench.studies.result import open_study

    settings = options.settings()
    if options.target and options.config:
        raise InputError(f"{options.target} and --config {options.config} both name the study; give one")
    file = options.target or options.config
    if file is None:
        return _study(options, "grid")[0], settings, ""
    if Path(file).is_file() or Path(file).suffix in (".yaml", ".yml"):
        read = config.read(Path(file))
        return _expand(read, read.kind, options), settings, read.text
    for name in options.model or ():
        resolve_model(name)  # naming a model of one's own says that its code may run
    given = [FLAGS.get(name, f"--{name}") for name in options.fields_given() if name != "model"]
    given += [f"--{name}" for name in ("out", "name") if getattr(options, name)]
    given += ["--until-separated"] if options.until_separated else []
    if given:
        raise InputError(f"{file} holds a study already, which {given[0]} cannot change; leave it out")
    folder = study_folder(file)
    study = open_study(folder).spec
    return growing.grown(study) if study.looks else study, settings | {"out": folder}, ""


def study_folder(name: str) -> Path:
    """The folder of a study: a path, or a name below runs/.

    Raises:
        UnknownNameError: there is none.
    """
    from dlbench.storage.store import FILE_NAME
    from dlbench.storage.studies import RUNS

    for folder in (Path(name), RUNS / name):
        if (folder / FILE_NAME).is_file():
            return folder
    known = sorted(path.parent.name for path in RUNS.glob(f"*/{FILE_NAME}"))
    raise UnknownNameError("study", name, known or ["none yet"])


def _study(options: StudyOptions, kind: Kind) -> tuple[StudySpec, str]:
    """The study that the flags ask for, and the text of the file that they override."""
    from dlbench.spec import config

    options.settings()  # what is wrong with them is said before any file is read
    read = config.read(Path(options.config)) if options.config else None
    return _expand(read, kind, options), read.text if read else ""


def _expand(read: Config | None, kind: Kind, options: StudyOptions) -> StudySpec:
    """Merge the command's defaults, the file and the flags, the later over the earlier."""
    from dlbench.spec import claims
    from dlbench.spec.designs import expand, union
    from dlbench.studies import growing

    defaults = COMPARE_DEFAULTS if kind == "compare-archs" else {}
    flags = options.fields_given()
    axes = [{**defaults, **part, **flags} for part in (read.grids if read else [{}])]
    if kind == "train":
        if read and len(axes) > 1:
            raise InputError(
                f"{read.path} has {len(axes)} grids, and train takes one trial; 'dlbench grid' takes them"
            )
        axes = [_first(axes[0])]
    with _flags_named():
        parts = [expand(part, kind) for part in axes]
    study = union(parts)
    if read and read.claims:  # they are about the file's own trials, whatever the flags leave of them
        own = union([expand({**defaults, **part}, kind) for part in read.grids])
        claims.check(read.claims, own.trials)
    repeated = sum(len(part.trials) for part in parts) - len(study.trials)
    if repeated:
        from dlbench.report import count, terminal

        terminal.message(
            f"Warning: {count(repeated, 'trial')} of one grid are in another too; each is trained once"
        )
    if kind == "compare-archs" and len({(trial.model, trial.model_args) for trial in study.trials}) < 2:
        name = study.trials[0].model
        raise InputError(f"compare-archs needs two models or more; got --model {name}. See 'dlbench train'")
    budget = options.budget() if isinstance(options, CompareOptions) else None
    return study if budget is None else growing.grown(study, budget)


def _first(axes: dict[str, Any]) -> dict[str, Any]:
    """One value of each, with a warning where there were more."""
    from dlbench.report import terminal
    from dlbench.spec.trial import FLAGS

    for name, values in axes.items():
        if len(values) > 1:
            listed = " ".join(str(value)[:100] for value in values[:5]) + (" ..." if len(values) > 5 else "")
            terminal.message(
                f"Warning: one trial takes one value, so of {FLAGS.get(name, name)} {listed} it is "
                f"{str(values[0])[:100]}; "
                "'dlbench grid' trains them all"
            )
    return {name: values[:1] for name, values in axes.items()}


def _planned(study: StudySpec, options: StudyOptions, settings: dict[str, Any]) -> Plan:
    from dlbench.report import terminal
    from dlbench.studies import growing
    from dlbench.studies import planning as library

    plan = growing.plan if study.looks else library.plan
    try:
        with terminal.waiting("checking the study and its data", options.quiet), _flags_named():
            return plan(study, **settings)
    except InputError as error:
        raise InputError(_place(options, str(error)) + str(error)) from None


def _place(options: StudyOptions, text: str) -> str:
    """The place in the study's file that a message about a flag means, if it is there that its value comes from."""
    from dlbench.spec import config
    from dlbench.spec.trial import FLAGS

    file = options.config or getattr(options, "target", None)
    if not file or not Path(file).is_file():
        return ""
    places = config.read(Path(file)).places
    named = re.findall(r"--[a-z-]+", text)
    meant = [name for flag in named for name in places if FLAGS.get(name) == flag]
    return next((f"{places[name]}: " for name in meant if name not in options.fields_given()), "")


@contextmanager
def _flags_named() -> Iterator[None]:
    """Say which flag a name that nobody knows came from."""
    try:
        yield
    except UnknownNameError as error:
        flag = {"model": "--model", "data set": "--dataset"}.get(error.kind)
        raise InputError(f"{flag}: {error}" if flag else str(error)) from None


def _show_plan(planned: Plan, options: StudyOptions) -> int:
    from dlbench import report
    from dlbench.report import terminal

    if options.as_json:
        print_json(report.plan_record(planned))
    else:
        terminal.show(report.plan_report(planned))
    return 0


def _perform(study: StudySpec, config: str, options: StudyOptions, settings: dict[str, Any]) -> int:
    """Run a study and print its report.

    Returns:
        The exit code: 1 where a trial failed.
    """
    from dlbench import report
    from dlbench.report import terminal
    from dlbench.report.progress import StudyProgress
    from dlbench.studies import growing
    from dlbench.studies.running import run

    persistence = options.persistence()
    planned = _planned(study, options, settings)
    if options.dry_run:
        return _show_plan(planned, options)
    _confirm(planned, options.yes)
    command = ["dlbench", *sys.argv[1:]]
    progress = StudyProgress(options.quiet)
    train = growing.run_until_separated if study.looks else run
    try:
        with progress:
            result = train(
                study, **settings, **persistence, command=command, config=config, on_event=progress
            )
    except KeyboardInterrupt:
        most = "at most " if study.looks else ""
        terminal.message(
            f"Interrupted: {progress.finished} of {most}{len(planned.trials)} trials are done and kept in "
            f"{planned.folder}\nTo go on: {shlex.join(command)}"
        )
        return 130
    if options.as_json:
        print_json(report.study_record(result))
    else:
        terminal.show(report.study_report(result))
    show_failures(result)
    return 1 if result.failed else 0


def _confirm(planned: Plan, yes: bool) -> None:
    """Ask before a study that takes long, or more of the disk than there is.

    Raises:
        InputError: there is nobody to ask.
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
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"{about}; add --yes to start, or take values away")
    if not typer.confirm(f"{about}. Start?", err=True):
        raise typer.Exit(2)


def show_failures(result: StudyResult) -> None:
    """List the trials that failed, on standard error."""
    from dlbench.report import count, terminal

    if not result.failed:
        return
    failed = count(len(result.failed), "trial")
    lines = [f"{failed} failed; 'dlbench run {result.folder} --retry-failed' tries again:"]
    for trial in result.failed:
        reason = (trial.error or "unknown").splitlines()[0]
        lines.append(f"  {trial.id}  {trial.trial.spec.model} seed {trial.seed}: {reason}")
    terminal.message("\n".join(lines))


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object, what it lists item by item: ten thousand trials are never in memory as text."""
    write = sys.stdout.write
    for number, (key, value) in enumerate(record.items()):
        write(f"{', ' if number else '{'}{to_json(key)}: ")
        if isinstance(value, Sequence) and not isinstance(value, str):
            write("[")
            sys.stdout.writelines(", " * (place > 0) + to_json(item) for place, item in enumerate(value))
            write("]")
        else:
            write(to_json(value))
    write("}\n")


def to_json(value: Any) -> str:
    """JSON, with null for what is no number and text for paths and times."""
    try:
        return _JSON.encode(value)
    except ValueError:  # some number is none
        return _JSON.encode(_plain(value))


_JSON = json.JSONEncoder(allow_nan=False, default=str)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
