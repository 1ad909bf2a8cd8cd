"""The flags of the commands that train, and the parsing of several values after one flag."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

from dlbench.cli.completion import completer
from dlbench.errors import InputError, UnknownNameError
from dlbench.spec import parts, seeds

if TYPE_CHECKING:
    from dlbench.studies.options import RunOptions

WHAT, DATA, HOW, OUTPUT = "Model and training", "Data and seeds", "Execution", "Output"
CHANGES, SEARCH = "Base and changes", "Search"

#: The defaults shown by ``--help``; a test compares them with TrialSpec, whose import takes 0.2 s.
DEFAULTS = {
    "model": "Baseline",
    "dropout": "the model's own",
    "optimizer": "adam",
    "learning_rate": "0.001",
    "schedule": "constant",
    "weight_decay": "0",
    "decay_mode": "decoupled",
    "decay_on": "all",
    "clip_norm": "no limit",
    "ema_decay": "0",
    "batch_size": "16",
    "num_epochs": "5",
    "patience": "train all epochs",
    "min_delta": "0",
    "selection_metric": "val/accuracy",
    "criterion": "cross_entropy",
    "class_weights": "none",
    "transform": "standard",
    "mixup": "0",
    "normalize": "half",
    "val_transform": "standard",
    "test_augmented": "no",
    "test_transform": "standard",
    "dataset": "mnist5k",
    "train_size": "all others",
    "val_size": "a fifth, at most 10000",
    "test_size": "all",
    "split_seed": "follows the seed",
    "sampling": "stratified",
    "val_from": "train",
    "folds": "one split",
    "fold": "every one",
    "seed": "0",
    "vary": "all",
    "init_seed": "follows the seed",
    "order_seed": "follows the seed",
    "dropout_seed": "follows the seed",
    "augment_seed": "follows the seed",
}
#: The fields that name a part, whose arguments have flags by their path; a test compares them with TrialSpec's.
PART_FIELDS = (
    "model",
    "dataset",
    "optimizer",
    "schedule",
    "criterion",
    "transform",
    "val_transform",
    "test_transform",
    "selection_metric",
)
#: The flag that stands for those of all arguments: ``--model.width 8`` becomes ``--PART.ARG model.width=8``.
_ARGUMENT = "--PART.ARG"

#: The flag of each field, for error messages; filled by :func:`takes`.
FLAGS: dict[str, str] = {}

Values = list[str] | None

#: Parameters that several commands have.
Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's folder, or its name in runs/.")]
TrialId = Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's id, or the beginning of it.")]
DataDir = Annotated[
    str | None, typer.Option("--data-dir", metavar="DIR", help="Folder of original data files.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _values(flag: str, panel: str, metavar: str, text: str, *aliases: str) -> Any:
    return typer.Option(flag, *aliases, metavar=metavar, help=text, rich_help_panel=panel)


def _option(flag: str, panel: str, text: str, **more: Any) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=panel, show_default=False, **more)


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The flags of ``train``, ``grid`` and ``compare-archs``; those in :data:`DEFAULTS` are fields of a trial."""

    model: Annotated[
        Values, _values("--model", WHAT, "NAME...", "Names of models, or MODULE:ATTRIBUTE for your own.")
    ] = None
    arguments: Annotated[
        Values,
        _values(
            _ARGUMENT,
            WHAT,
            "VALUE...",
            "An argument of a part, as in --model.dropout_rate 0.1 0.2 or --schedule.warmup 5.",
        ),
    ] = None
    dropout: Annotated[Values, _values("--dropout", WHAT, "RATE...", "Dropout rates.")] = None
    optimizer: Annotated[Values, _values("--optimizer", WHAT, "NAME...", "Optimizers.")] = None
    learning_rate: Annotated[
        Values,
        _values(
            "--lr",
            WHAT,
            "NUMBER...",
            "Learning rates; the highest ones where a schedule changes them.",
            "--learning-rate",
        ),
    ] = None
    schedule: Annotated[Values, _values("--schedule", WHAT, "NAME...", "Learning rate schedules.")] = None
    weight_decay: Annotated[Values, _values("--weight-decay", WHAT, "NUMBER...", "Weight decays.")] = None
    decay_mode: Annotated[
        Values,
        _values(
            "--decay-mode", WHAT, "NAME...", "Kinds of weight decay: decoupled, l2 (added to the gradient)."
        ),
    ] = None
    decay_on: Annotated[
        Values,
        _values(
            "--decay-on",
            WHAT,
            "NAME...",
            "Parameters that decay: all, weights (without biases and scales of normalization).",
        ),
    ] = None
    clip_norm: Annotated[
        Values, _values("--clip-norm", WHAT, "NUMBER...", "Largest global norms of the gradients.")
    ] = None
    ema_decay: Annotated[
        Values,
        _values(
            "--ema-decay",
            WHAT,
            "RATE...",
            "Decays of the average of the parameters that is evaluated; 0 for no average.",
        ),
    ] = None
    batch_size: Annotated[Values, _values("--batch-size", WHAT, "N...", "Images per training step.")] = None
    num_epochs: Annotated[
        Values, _values("--epochs", WHAT, "N...", "Passes over the training set.", "--num-epochs")
    ] = None
    patience: Annotated[
        Values, _values("--patience", WHAT, "N...", "Epochs without improvement after which a trial ends.")
    ] = None
    min_delta: Annotated[
        Values, _values("--min-delta", WHAT, "NUMBER...", "How much better counts as an improvement.")
    ] = None
    selection_metric: Annotated[
        Values,
        _values(
            "--metric",
            WHAT,
            "NAME...",
            "Validation metrics that choose the best epoch and rank trials; 'dlbench list metrics' lists all.",
        ),
    ] = None
    criterion: Annotated[Values, _values("--criterion", WHAT, "NAME...", "Losses.")] = None
    class_weights: Annotated[
        Values,
        _values(
            "--class-weights",
            WHAT,
            "WEIGHTS...",
            "Weights of classes in the loss: none, balanced, or by class, '{0: 1, 1: 5}'.",
        ),
    ] = None
    transform: Annotated[
        Values, _values("--transform", WHAT, "NAME...", "Transforms of training images; A+B composes.")
    ] = None
    mixup: Annotated[Values, _values("--mixup", WHAT, "ALPHA...", "Strengths of mixup; 0 for none.")] = None
    normalize: Annotated[
        Values,
        _values(
            "--normalize",
            WHAT,
            "NAME...",
            "Range of pixels: half ([-1, 1]), dataset (mean 0, deviation 1).",
            "--normalise",
        ),
    ] = None
    val_transform: Annotated[
        Values,
        _values(
            "--val-transform",
            WHAT,
            "NAME...",
            "Transforms of validation images, drawn anew in every epoch.",
        ),
    ] = None
    test_augmented: Annotated[
        bool, _option("--test-augmented", WHAT, "Test on augmented test images as well.")
    ] = False
    test_transform: Annotated[
        Values,
        _values(
            "--test-transform",
            WHAT,
            "NAME...",
            "Transforms of test images, on which trials are tested as well.",
        ),
    ] = None
    dataset: Annotated[
        Values, _values("--dataset", DATA, "NAME...", "Data sets: names, folder:PATH, MODULE:FUNCTION.")
    ] = None
    drop_duplicates: Annotated[
        bool,
        _option(
            "--drop-duplicates",
            DATA,
            "Leave out training images that are test images too, or are there twice.",
        ),
    ] = False
    train_size: Annotated[Values, _values("--train-size", DATA, "N...", "Numbers of training images.")] = None
    val_size: Annotated[Values, _values("--val-size", DATA, "N...", "Numbers of validation images.")] = None
    test_size: Annotated[
        Values, _values("--test-size", DATA, "N...", "Numbers of test images, the same ones for all trials.")
    ] = None
    split_seed: Annotated[
        Values,
        _values("--split-seed", DATA, "SEED...", "Seeds of the split into training and validation images."),
    ] = None
    sampling: Annotated[
        Values,
        _values(
            "--sampling", DATA, "NAME...", "How images are drawn: stratified, random, first (as they come)."
        ),
    ] = None
    val_from: Annotated[
        Values,
        _values(
            "--val-from",
            DATA,
            "HALF...",
            "The half that validation images come from: train, test (which are then tested on as well).",
        ),
    ] = None
    folds: Annotated[
        Values,
        _values(
            "--folds",
            DATA,
            "K",
            "Number of folds of cross-validation, into which --train-size images are divided.",
        ),
    ] = None
    fold: Annotated[Values, _values("--fold", DATA, "N...", "Folds that validate, counted from 0.")] = None
    seed: Annotated[
        Values, _values("--seed", DATA, "SEED...", "Seeds of everything else; 'random' draws one.")
    ] = None
    vary: Annotated[
        Values,
        _values(
            "--vary", DATA, "NAME...", "What follows the seed: all, init, order, dropout, augment, split."
        ),
    ] = None
    init_seed: Annotated[
        Values, _values("--init-seed", DATA, "SEED...", "Seeds of the first parameters, to be crossed.")
    ] = None
    order_seed: Annotated[
        Values, _values("--order-seed", DATA, "SEED...", "Seeds of the order of the images.")
    ] = None
    dropout_seed: Annotated[Values, _values("--dropout-seed", DATA, "SEED...", "Seeds of dropout.")] = None
    augment_seed: Annotated[
        Values, _values("--augment-seed", DATA, "SEED...", "Seeds of the transform and of mixup.")
    ] = None
    seeds: Annotated[str | None, _option("--seeds", DATA, "Short for --seed 0 1 ... N-1.", metavar="N")] = (
        None
    )
    data_dir: Annotated[
        str | None, _option("--data-dir", DATA, "Folder of original data files.", metavar="DIR")
    ] = None
    config: Annotated[
        str | None,
        _option("--config", HOW, "YAML file of a study; flags override its values.", metavar="FILE"),
    ] = None
    device: Annotated[
        str, _option("--device", HOW, "Device to train on [auto].", metavar="auto|cpu|gpu|tpu|metal")
    ] = "auto"
    workers: Annotated[
        str | None,
        _option("--workers", HOW, "Worker processes, 0 for none [one per core or accelerator].", metavar="N"),
    ] = None
    cluster: Annotated[
        str | None,
        _option(
            "--cluster", HOW, "Train on the nodes of a Ray cluster [none].", metavar="auto|local|HOST:PORT"
        ),
    ] = None
    mixed: Annotated[
        bool,
        _option(
            "--mixed",
            HOW,
            "Use nodes and keep results of several environments, between which bits can differ.",
        ),
    ] = False
    lanes: Annotated[
        str,
        _option(
            "--lanes", HOW, "Trials that run as one vmapped program on accelerators [auto].", metavar="N|auto"
        ),
    ] = "auto"
    checkpoint_every: Annotated[
        str | None,
        _option(
            "--checkpoint-every", HOW, "Epochs between saved states of a trial [once a minute].", metavar="N"
        ),
    ] = None
    keep_state: Annotated[
        bool,
        _option(
            "--keep-state", HOW, "Keep the state of each trial at its end, to continue with more epochs."
        ),
    ] = False
    data_memory: Annotated[
        str | None,
        _option(
            "--data-memory",
            HOW,
            "Memory for a data set in each process; larger ones are streamed [2GiB].",
            metavar="SIZE",
        ),
    ] = None
    retry_failed: Annotated[
        bool,
        _option(
            "--retry-failed",
            HOW,
            "Train trials of this study again that failed, or whose files are missing or damaged.",
        ),
    ] = False
    reuse: Annotated[
        bool,
        _option(
            "--reuse/--no-reuse",
            HOW,
            "Copy results of the same trials from other studies in runs/ [--reuse].",
        ),
    ] = True
    yes: Annotated[bool, _option("--yes", HOW, "Start long studies without confirmation.")] = False
    dry_run: Annotated[
        bool, _option("--dry-run", HOW, "Check the study and show its plan; train and write nothing.")
    ] = False
    out: Annotated[
        str | None,
        _option("--out", OUTPUT, "The study's folder [runs/COMMAND-DIGEST].", metavar="DIR"),
    ] = None
    name: Annotated[str | None, _option("--name", OUTPUT, "Short for --out runs/NAME.", metavar="NAME")] = (
        None
    )
    as_json: Annotated[
        bool,
        _option(
            "--json",
            OUTPUT,
            "Print one JSON object with 'study', 'trials' and, for comparisons, 'comparison'.",
        ),
    ] = False
    quiet: Annotated[bool, _option("--quiet", OUTPUT, "Show no progress and no messages.")] = False

    def __post_init__(self) -> None:
        for name in seeds.FIELDS:
            if values := getattr(self, name):
                object.__setattr__(self, name, seeds.drawn(values))

    def fields_given(self) -> dict[str, Any]:
        """The values given by flags, by field of TrialSpec, as text; TrialSpec checks them.

        Raises:
            InputError: two flags give the seeds, or --seeds is not a number.
        """
        given = {name: values for name in DEFAULTS if (values := getattr(self, name))}
        for text in self.arguments or ():
            path, _, value = text.partition("=")
            given.setdefault(path, []).append(parts.literal(value))
        if self.test_augmented:
            given["test_augmented"] = [True]
        if self.drop_duplicates:
            given["dataset.drop_duplicates"] = [True]
        if self.seeds is not None:
            from dlbench.spec.designs import first_seeds

            if "seed" in given:
                raise InputError(
                    f"--seeds {self.seeds[:100]} and --seed both name the seeds", remedy="give one of them"
                )
            given["seed"] = first_seeds(_whole(self.seeds))
        return given

    def design_options(self) -> dict[str, Any]:
        """What the design needs beside fields of trials (:data:`dlbench.spec.layouts.OPTIONS`), where it is given."""
        return {}

    def run_options(self) -> RunOptions:
        """The options for running the study.

        Raises:
            InputError: two flags give the folder, the name is a path, or a value is invalid.
        """
        from dlbench.studies.options import RunOptions

        if self.out and self.name:
            raise InputError(
                f"--out {self.out} and --name {self.name} both name the folder", remedy="give one of them"
            )
        if self.name and (Path(self.name).name != self.name or self.name == ".."):
            raise InputError(
                f"--name must be a name without slashes; got {self.name!r}", remedy="use --out for a path"
            )
        out = self.out or (self.name and f"runs/{self.name}")
        given = {name: getattr(self, name) for name in ("workers", "lanes", "checkpoint_every")}
        numbers: dict[str, Any] = {name: _whole(text) for name, text in given.items() if text is not None}
        if self.data_memory is not None:
            numbers["data_memory"] = self.data_memory
        return RunOptions(
            out=Path(out) if out else None,
            device=self.device,
            data_dir=self.data_dir,
            retry_failed=self.retry_failed,
            reuse=self.reuse,
            keep_state=self.keep_state,
            cluster=self.cluster,
            mixed=self.mixed,
            **numbers,
        )


#: Parameters that are paths, or become part of one.
_PATHS = ("chart", "config", "data_dir", "html", "markdown", "name", "out", "target")


def check_given(command: Any, context: Any) -> None:
    """Refuse empty values, which would count as not given, and paths that no file can have.

    Args:
        command: the command that was parsed.
        context: its context, with the values.

    Raises:
        InputError: a value is empty, or a path is not printable or too long for a file name.
    """
    for param in command.params:
        given = context.params.get(param.name)
        flag = (
            param.opts[0] if param.param_type_name == "option" else (param.metavar or param.name).strip("[].")
        )
        for text in given if isinstance(given, list | tuple) else [given]:
            if isinstance(text, str) and not text.strip():
                raise InputError(f"{flag} is empty", remedy="give a value, or leave it out")
            if isinstance(text, str) and param.name in _PATHS:
                _check_path(flag, text)


def _check_path(flag: str, text: str) -> None:
    if not text.isprintable():
        raise InputError(f"{flag} must be printable text; got {text[:100]!r}")
    if len(text.encode()) > 4000 or any(len(part.encode()) > 255 for part in Path(text).parts):
        raise InputError(f"{flag} is too long for a file name; got {text[:100]!r}...")


def _whole(text: str) -> int | str:
    """Convert text to an integer if it is one; other text is kept for the error message of a later check."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


@dataclass(frozen=True, kw_only=True)
class GrowingOptions(StudyOptions):
    """The flags of commands that can also add seeds."""

    until_separated: Annotated[
        bool,
        _option(
            "--until-separated",
            HOW,
            "Add seeds until the best model is separated from all others, up to --max-seeds.",
        ),
    ] = False
    max_seeds: Annotated[
        str | None,
        _option(
            "--max-seeds", HOW, "With --until-separated: the largest number of seeds per model.", metavar="N"
        ),
    ] = None

    def budget(self) -> int | None:
        """The largest number of seeds per model; ``None`` if the number of seeds is fixed.

        Raises:
            InputError: only one of the two flags is given, or --max-seeds is not a number.
        """
        if self.max_seeds is None and not self.until_separated:
            return None
        if self.max_seeds is None:
            raise InputError("--until-separated needs --max-seeds N, the largest number of seeds per model")
        if not self.until_separated:
            raise InputError(
                f"--max-seeds {self.max_seeds[:100]} needs --until-separated; for a fixed number use --seeds"
            )
        from dlbench.spec.designs import first_seeds

        return len(first_seeds(_whole(self.max_seeds), "max_seeds"))

    def run_options(self) -> RunOptions:
        """The options for running the study, after checking the number of seeds."""
        self.budget()
        return StudyOptions.run_options(self)


@dataclass(frozen=True, kw_only=True)
class AblateOptions(StudyOptions):
    """The flags of ``ablate``."""

    base: Annotated[
        str | None,
        _option("--base", CHANGES, "The model that is changed; short for --model.", metavar="NAME"),
    ] = None
    without: Annotated[
        Values,
        _values("--without", CHANGES, "NAME...", "Arguments of the model, or other settings, to turn off."),
    ] = None
    change: Annotated[
        Values, _values("--change", CHANGES, "NAME=VALUE...", "Settings to change, with their new values.")
    ] = None
    factorial: Annotated[
        bool, _option("--factorial", CHANGES, "Combine the changes in every way, to find interactions.")
    ] = False

    def fields_given(self) -> dict[str, Any]:
        """As for other studies; ``--base`` gives the model.

        Raises:
            InputError: two flags give one field.
        """
        given = StudyOptions.fields_given(self)
        if self.base is None:
            return given
        if "model" in given:
            raise InputError(
                f"--base {self.base[:100]} and --model both name the model", remedy="give one of them"
            )
        return {**given, "model": [self.base]}

    def design_options(self) -> dict[str, Any]:
        """The changes, where they are given."""
        given = {"without": self.without, "change": self.change, "factorial": self.factorial}
        return {name: value for name, value in given.items() if value}


@dataclass(frozen=True, kw_only=True)
class SpaceOptions(StudyOptions):
    """The flags of a space and of how it is searched."""

    space: Annotated[
        Values,
        _values(
            "--space",
            SEARCH,
            "NAME=DIST...",
            "Settings and their distributions: uniform(a,b), log(a,b), int(a,b), logint(a,b), choice(a,b,c).",
        ),
    ] = None
    sampler: Annotated[
        Literal["random", "quasi", "tpe"] | None,
        _option("--sampler", SEARCH, "How configurations are proposed [tpe]."),
    ] = None
    generation: Annotated[
        str | None,
        _option(
            "--generation",
            SEARCH,
            "Configurations proposed at once [tpe: a tenth, at least 10; others: all].",
            metavar="N",
        ),
    ] = None
    search_seed: Annotated[
        str | None, _option("--search-seed", SEARCH, "Seed of the sampler [0].", metavar="SEED")
    ] = None
    reduction_factor: Annotated[
        str | None,
        _option(
            "--reduction-factor",
            SEARCH,
            "Successive halving: the best one in N continues with N times as many seeds or epochs [none].",
            metavar="N",
        ),
    ] = None
    resource: Annotated[
        Literal["seeds", "epochs"] | None,
        _option("--resource", SEARCH, "What configurations that continue get more of [seeds]."),
    ] = None
    hyperband: Annotated[
        bool, _option("--hyperband", SEARCH, "Halving in brackets that begin with more and more of it.")
    ] = False

    def design_options(self) -> dict[str, Any]:
        """The space and how it is searched, where they are given."""
        from dlbench.spec.layouts import OPTIONS

        own = {name: getattr(self, name, None) for names in OPTIONS.values() for name in names}
        return {name: value for name, value in own.items() if value not in (None, False)}


@dataclass(frozen=True, kw_only=True)
class SearchOptions(SpaceOptions):
    """The flags of ``search``."""

    trials: Annotated[
        str | None, _option("--trials", SEARCH, "Configurations that are proposed [50].", metavar="N")
    ] = None
    confirm: Annotated[
        str | None, _option("--confirm", SEARCH, "New seeds that confirm the winner [5].", metavar="N")
    ] = None


@dataclass(frozen=True, kw_only=True)
class CompareOptions(SpaceOptions, GrowingOptions):
    """The flags of ``compare-archs``, which can tune each model first."""

    tune: Annotated[
        str | None,
        _option(
            "--tune",
            SEARCH,
            "First tune each model by a search of N configurations; compare the best of each [none].",
            metavar="N",
        ),
    ] = None
    tune_seeds: Annotated[
        str | None,
        _option(
            "--tune-seeds", SEARCH, "With --tune: seeds of the search, not those compared [1].", metavar="N"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TargetOptions(GrowingOptions):
    """The flags of ``run`` and ``plan``, which also accept a file or a folder."""

    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[CONFIG.yaml|STUDY]", help="A study's YAML file, or the folder of a study to continue."
        ),
    ] = None


Options = TypeVar("Options")
Command = Callable[..., int | None]


def takes(
    record: type[Options], defaults: Mapping[str, str] | None = None
) -> Callable[[Callable[[Options], int | None]], Command]:
    """Decorator that gives a command the flags declared by a dataclass, and calls it with one instance.

    Args:
        record: a dataclass whose fields are annotated as Typer parameters; values of literal types are checked.
        defaults: the defaults that ``--help`` shows, by field.
    """
    shown = defaults or {}

    def decorate(command: Callable[[Options], int | None]) -> Command:
        choices: dict[str, tuple[str, ...]] = {}
        kinds: dict[str, str] = {}

        @functools.wraps(command)
        def wrapper(**values: Any) -> int | None:
            for name, known in choices.items():
                if values[name] is not None and values[name] not in known:
                    raise UnknownNameError(kinds[name], values[name], known, field=name)
            return command(record(**values))

        hints = get_type_hints(record, include_extras=True)
        parameters = []
        for field in fields(record):  # type: ignore[arg-type]
            annotation, info = get_args(hints[field.name])
            info = copy.copy(info)
            if field.name in shown:
                info.help = f"{info.help.rstrip('.')} [{shown[field.name]}]."
            info.autocompletion = completer(field.name, _literals(annotation))
            if known := _literals(annotation):
                choices[field.name] = known
                kinds[field.name] = (
                    field.name if str(info.default).startswith("--") else info.metavar
                ).lower()
                annotation, info.metavar = str | None, info.metavar or "|".join(known)
            if str(info.default).startswith(
                "--"
            ):  # inside Annotated, Typer stores the first flag as the default
                FLAGS[field.name] = info.default
            hints[field.name] = Annotated[annotation, info]
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=inspect.Parameter.empty if field.default is MISSING else field.default,
                    annotation=hints[field.name],
                )
            )
        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = hints
        return wrapper

    return decorate


def _literals(annotation: Any) -> tuple[str, ...]:
    """The values of a literal type or an optional literal type; empty for other types."""
    parts = [part for part in get_args(annotation) or () if part is not NoneType]
    if get_origin(annotation) is Literal:
        return tuple(parts)
    return _literals(parts[0]) if len(parts) == 1 and get_origin(parts[0]) is Literal else ()


#: Where a context keeps the flag to which a further value would belong.
_OPEN = "dlbench.open_flag"


class ManyValuesCommand(TyperCommand):
    """A command whose flags can take several values: ``--lr 1e-3 1e-2``, ``--lr 1e-3,1e-2``, or repeated flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters; while a shell completes a further value of a flag, only the options."""
        found = super().get_params(ctx)
        return [param for param in found if param.param_type_name == "option"] if _OPEN in ctx.meta else found

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete a further value of the last flag, or the name of a flag."""
        if _OPEN in ctx.meta and not incomplete.startswith("-"):
            (param,) = (param for param in self.params if ctx.meta[_OPEN] in param.opts)
            return list(param.shell_complete(ctx, incomplete))
        return list(super().shell_complete(ctx, incomplete))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Rewrite flags with several values to the repeated form that Typer supports, then parse."""
        flags = {flag for param in self.params if getattr(param, "multiple", False) for flag in param.opts}
        try:
            _check_seeds(args)
            args = split_values(args, flags)
        except InputError as error:
            if not ctx.resilient_parsing:
                ctx.fail(str(error))
        last = next((arg for arg in reversed(args) if _is_flag(arg)), "")
        is_open = ctx.resilient_parsing and last in flags and args[-1] != last
        if ctx.resilient_parsing and args and _is_flag(args[-1]):
            args = args[:-1]  # whose value a shell completes; without it, the arguments before are not parsed
        left = super().parse_args(ctx, args)
        if is_open:
            ctx.meta[_OPEN] = last
        if not ctx.resilient_parsing:
            check_given(self, ctx)
        return left

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """List the options by panel."""
        records = [(param, param.get_help_record(ctx)) for param in self.get_params(ctx)]

        def panel(entry: tuple[Any, Any]) -> str:
            kind = "Arguments" if entry[0].param_type_name == "argument" else "Options"
            return getattr(entry[0], "rich_help_panel", None) or kind

        for title, group in itertools.groupby((entry for entry in records if entry[1]), panel):
            with formatter.section(title):
                formatter.write_dl([record for _, record in group])


#: Dashes that word processors insert for two hyphens.
_DASHES = ("\u2013", "\u2014")


def split_values(args: Iterable[str], flags: set[str]) -> list[str]:
    """Rewrite ``--lr a b,c`` to ``--lr a --lr b --lr c`` for flags that take several values.

    Commas inside brackets belong to the value. ``--model.width 8`` becomes ``--PART.ARG model.width=8``.

    Raises:
        InputError: one of these flags has no value, or an argument begins with a dash that is not a hyphen.
    """
    rewritten: list[str] = []
    current, count, prefix = "", 1, ""
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            rewritten += [arg, *rest]
            break
        if arg[:1] in _DASHES and arg[1:2].isalpha():
            raise InputError(f"{arg[:100]!r} begins with a dash that is not a hyphen; use --{arg[1:100]}")
        name, equals, value = arg.partition("=")
        if _is_flag(arg):
            _has_value(current, count)
            path = _path_of(name) if _ARGUMENT in flags else ""
            prefix = f"{path}=" if path else ""
            name = _ARGUMENT if path else name
            current, count = (name, 0) if name in flags else ("", 1)
            if not current:
                rewritten.append(arg)
                continue
            if not equals:
                continue
        else:
            value = arg
        if current:
            values = parts.split(value, ",")
            if re.fullmatch(r"[0-9]+,0[0-9]+", value):
                raise InputError(
                    f"{current} {value}: a comma separates values; did you mean {value.replace(',', '.')}?"
                )
            count += len(values)
            rewritten += [text for each in values for text in (current, prefix + each)]
        else:
            rewritten.append(arg)
    _has_value(current, count)
    return rewritten


def _path_of(flag: str) -> str:
    """The path of the argument that a flag names (``--test-transform.crop.padding``); empty for other flags."""
    part, dot, argument = flag.partition(".")
    field = next((field for field in PART_FIELDS if dot and FLAGS[field] == part), "")
    return f"{field}.{argument}" if field else ""


def flag_of(field: str) -> str:
    """The flag of a field, or of an argument by its path (``test_transform.crop.padding``); else the field itself."""
    part, dot, argument = field.partition(".")
    return f"{FLAGS[part]}.{argument}" if dot and part in PART_FIELDS else FLAGS.get(field, field)


def _check_seeds(args: list[str]) -> None:
    """Refuse ``--seeds 0 1 2``, which means ``--seed 0 1 2``."""
    following = args[args.index("--seeds") + 1 :] if "--seeds" in args else []
    seeds = list(itertools.takewhile(str.isdigit, following))
    if len(seeds) > 1:
        raise InputError(
            f"--seeds takes one number, how many seeds; did you mean --seed {' '.join(seeds)[:100]}?"
        )


def _has_value(flag: str, count: int) -> None:
    if flag and not count:
        raise InputError(f"{flag} has no value; give at least one, such as {flag} A B")


def _is_flag(arg: str) -> bool:
    if not arg.startswith("-") or arg == "-":
        return False
    try:
        float(arg)
    except ValueError:
        return not arg.split(",")[0][1:2].isdigit()
    return False
