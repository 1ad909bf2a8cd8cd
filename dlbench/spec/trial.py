"""What to train: trials, studies, their validation and their content-addressed ids. No jax.

A :class:`TrialSpec` is one training run as its user writes it. Planning resolves it against the data
(sizes made explicit, digests attached) into a :class:`Trial`, whose id is a digest of everything that
determines its result; the environment it ran in is recorded beside it, not in the id.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from dlbench.errors import InputError, SpecError, shown, unknown
from dlbench.records import digest
from dlbench.spec import parts
from dlbench.spec.naming import ALIASES
from dlbench.spec.parts import Scalar
from dlbench.spec.registry import (
    CRITERIA,
    DATASETS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    SCHEDULES,
    TRANSFORMS,
    Registry,
)

#: Raised whenever a change of the code changes the numbers a trial yields.
NUMERICS_VERSION = 3
#: The last release that computes with each version of the numerics.
NUMERICS_RELEASES = {3: "0.1.0"}

MAX_SEED = 2**32 - 1
#: More folds than this are refused.
MAX_FOLDS = 1000


def _plain(value: Any) -> object:
    """A scalar of numpy, or of another array library, as Python has it: what ``float32(0.1)`` shows as 0.1 is 0.1."""
    if getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    item = value.item()
    return float(str(value)) if isinstance(item, float) else item


def _number(value: object) -> object:
    """Read numbers out of text, as flags give them; refuse truth values as numbers."""
    value = _plain(value)
    if isinstance(value, bool):
        raise ValueError("a number, not a truth value")
    if isinstance(value, str):
        try:
            return float(value) if not value.strip().lstrip("+-").isdigit() else int(value)
        except ValueError:
            raise ValueError("a number") from None
    return value


def _arguments(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    if not all(isinstance(name, str) for name in value):
        raise ValueError("arguments by name")
    value = {name: _plain(argument) for name, argument in value.items()}
    for name, argument in value.items():
        if not isinstance(argument, bool | int | float | str):
            raise ValueError(
                f"arguments by name, each one number, text or truth value ({shown(name)} is not)"
            )
        if isinstance(argument, float) and not math.isfinite(argument):
            raise ValueError(f"arguments by name, every number of them finite ({shown(name)} is not)")
    return tuple(sorted(value.items()))


def _float32(value: float) -> float:
    """Refuse what training, in float32, would take for zero; and make one zero of two."""
    if 0 < abs(value) < 1e-37:
        raise ValueError("0, or at least 1e-37 to be told from 0 in float32")
    return value + 0.0


def _name(value: object) -> object:
    """Refuse a call that :func:`_split` has left: it is malformed, or its arguments are given beside it too."""
    return parts.parse_name(value) if isinstance(value, str) else value


def _known(kind: str, registry: Registry) -> AfterValidator:
    """Refuse a name that no part has; references to users' parts are followed by whoever needs the part."""

    def check(name: str) -> str:
        for piece in registry.pieces(name):
            parts.parse(piece)
            if ":" not in piece and not registry.find(piece):
                reason = unknown(kind, piece, registry.names())
                raise PydanticCustomError("unknown_part", "{reason}", {"reason": reason})
        return name

    return AfterValidator(check)


def _split(fields: Mapping[str, Any], name: str, registry: Registry) -> Mapping[str, Any]:
    """Take a part's arguments out of its text, in their one form where the part is known."""
    given = fields.get(f"{name}_args", ())
    try:
        found = registry.parse(fields[name])
        beside = dict(given)
    except (ValueError, TypeError):
        return fields  # whoever resolves the name, or the field's own check, says what is wrong
    if found is None:
        return fields
    called, arguments = found
    if beside.keys() & dict(arguments).keys():
        return fields
    reference = registry.find(called)
    if reference is not None:
        with contextlib.suppress(InputError):  # whoever names a trial checks its arguments
            arguments = registry.arguments(reference, arguments)
    return {**fields, name: called, f"{name}_args": {**beside, **dict(arguments)}}


def _class_weights(value: object) -> object:
    """One form of class weights: "balanced", pairs of class and weight in order, or ``None``."""
    if isinstance(value, str) and value.strip().lower() in ("none", "balanced"):
        return "balanced" if value.strip().lower() == "balanced" else None
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            value = ast.literal_eval(value)
    with contextlib.suppress(ValueError, TypeError):
        given = {int(label): float(_float32(weight)) for label, weight in dict(value).items()}  # type: ignore[call-overload]
        if given and min(given) >= 0 and all(0 < weight <= 1e6 for weight in given.values()):
            return tuple(sorted(given.items()))
    if value is None:
        return None
    raise ValueError("'balanced', 'none', or weights above 0 by class, such as {0: 1, 1: 5}")


#: The fields that name a part, and where such parts are registered; ``FIELD_args`` holds the part's arguments.
PARTS = {
    "model": MODELS,
    "dataset": DATASETS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "criterion": CRITERIA,
    "transform": TRANSFORMS,
    "val_transform": TRANSFORMS,
    "test_transform": TRANSFORMS,
    "selection_metric": METRICS,
}

Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False), AfterValidator(_float32)]
Whole = Annotated[int, BeforeValidator(_number)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Arguments = Annotated[tuple[tuple[str, Scalar], ...], BeforeValidator(_arguments)]
PartName = Annotated[Name, BeforeValidator(_name)]


#: What trials share instead of the set of the fields that each was given; of these, only ``numerics`` is asked for.
_GIVEN: set[str] = set()
_STATED = {"numerics"}


class TrialSpec(BaseModel):
    """One training run: fixed hyper-parameters and one seed.

    ``model``, ``dataset``, ``optimizer``, ``schedule``, ``criterion``, ``transform``, ``val_transform``,
    ``test_transform`` and ``selection_metric`` name parts, and may be written with arguments, ``sgd(momentum=0.8)``;
    these are kept in ``model_args``, ``optimizer_args`` and so on. Transforms can be sums, ``flip+crop(padding=4)``,
    with the arguments ``crop.padding``. Planning replaces a data set that is not built in by the reference to its
    arrays, ``name@digest``.

    Attributes:
        dropout: the model's argument ``dropout_rate``; ``None`` keeps its own.
        train_size: number of training images; ``None`` stands for all that are not for validation.
        val_size: number of validation images; ``None`` stands for a fifth of the training half, at most 10,000.
        test_size: number of test images, the same for every trial; ``None`` stands for the whole test half.
        split_seed: the seed that the split is drawn with; ``None`` draws it with ``seed`` where the split varies.
        sampling: how the images of the split are drawn: "stratified" by class, "random", or the "first" ones in the
            order of the data set, which no seed changes.
        val_from: the half that validation images come from, "train" or "test". With "test", the epoch is chosen on
            images that the trial is tested on as well: the protocol of studies that have no validation images.
        folds: the number of folds of cross-validation; ``None`` for one split. ``train_size`` images are divided into
            folds of equal size. Once resolved, ``val_size`` is the size of one and ``train_size`` that of the others.
        fold: the fold that validates, counted from 0.
        transform: what happens to the training images.
        val_transform: what happens to the validation images, anew in every epoch.
        test_augmented: whether the trial is tested on test images with the transform "augmented" too, as every
            augmented trial is.
        test_transform: the trial is tested on test images with this transform too, unless it is "standard".
        schedule: how the learning rate changes; ``learning_rate`` is its highest value.
        learning_rate: dimensionless, like ``weight_decay``.
        decay_on: which parameters decay: "all", or "weights", those with two axes or more, which leaves out biases
            and the scales of normalization.
        clip_norm: the largest global norm of a step's gradients; ``None`` for no limit.
        ema_decay: the decay of the exponential moving average of the parameters, with which the trial is evaluated;
            0 for no average.
        class_weights: how much images of each class count in the loss: "balanced", inversely to the number of its
            training images; or a mapping from class to weight, 1 for the classes that it leaves out; ``None`` for all
            alike.
        mixup: the parameter α of the Beta distribution of mixup; 0 for no mixup.
        selection_metric: the validation metric that chooses the best epoch, stops a trial, and ranks configurations.
        patience: a trial ends after this number of epochs without improvement; ``None`` for all epochs.
        min_delta: how much better the metric must be to count as an improvement.
        normalize: "half" maps pixels to [-1, 1]; "dataset" gives every channel of the training images mean 0 and
            standard deviation 1.
        vary: the one source of randomness that follows ``seed`` while the others keep seed 0 ("all": every one
            follows it; "split": which images train and validate).
        init_seed: the seed of the first parameters, ``order_seed`` of the order of the images, ``dropout_seed`` of
            dropout, ``augment_seed`` of the transform and mixup; ``None`` for what ``seed`` and ``vary`` say.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: Name = "Baseline"
    model_args: Arguments = ()
    dropout: Annotated[Finite, Field(ge=0, lt=1)] | None = None
    dataset: Name = "mnist5k"
    dataset_args: Arguments = ()
    train_size: Annotated[Whole, Field(ge=1)] | None = None
    val_size: Annotated[Whole, Field(ge=1)] | None = None
    test_size: Annotated[Whole, Field(ge=1)] | None = None
    split_seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] | None = None
    sampling: Literal["stratified", "random", "first"] = "stratified"
    val_from: Literal["train", "test"] = "train"
    folds: Annotated[Whole, Field(ge=2, le=MAX_FOLDS)] | None = None
    fold: Annotated[Whole, Field(ge=0, lt=MAX_FOLDS)] = 0
    transform: Annotated[PartName, _known("transform", TRANSFORMS)] = "standard"
    transform_args: Arguments = ()
    val_transform: Annotated[PartName, _known("transform", TRANSFORMS)] = "standard"
    val_transform_args: Arguments = ()
    test_augmented: bool = False
    test_transform: Annotated[PartName, _known("transform", TRANSFORMS)] = "standard"
    test_transform_args: Arguments = ()
    normalize: Literal["half", "dataset"] = "half"
    criterion: Annotated[PartName, _known("criterion", CRITERIA)] = "cross_entropy"
    criterion_args: Arguments = ()
    class_weights: Annotated[
        Literal["balanced"] | tuple[tuple[int, float], ...] | None, BeforeValidator(_class_weights)
    ] = None
    mixup: Annotated[Finite, Field(ge=0, le=1e3)] = 0.0
    optimizer: Annotated[PartName, _known("optimizer", OPTIMIZERS)] = "adam"
    optimizer_args: Arguments = ()
    learning_rate: Annotated[Finite, Field(gt=0, le=1e6)] = 1e-3
    schedule: Annotated[PartName, _known("schedule", SCHEDULES)] = "constant"
    schedule_args: Arguments = ()
    weight_decay: Annotated[Finite, Field(ge=0, le=1e6)] = 0.0
    decay_mode: Literal["decoupled", "l2"] = "decoupled"
    decay_on: Literal["all", "weights"] = "all"
    clip_norm: Annotated[Finite, Field(gt=0, le=1e12)] | None = None
    ema_decay: Annotated[Finite, Field(ge=0, lt=1)] = 0.0
    batch_size: Annotated[Whole, Field(ge=1, le=65536)] = 16
    num_epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 5
    selection_metric: Annotated[PartName, _known("metric", METRICS)] = "val/accuracy"
    selection_metric_args: Arguments = ()
    patience: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    min_delta: Annotated[Finite, Field(ge=0, le=1e6)] = 0.0
    seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] = 0
    vary: Literal["all", "init", "order", "dropout", "augment", "split"] = "all"
    init_seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] | None = None
    order_seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] | None = None
    dropout_seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] | None = None
    augment_seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] | None = None

    # Studies have up to 100,000 trials, so a trial keeps the values that are not defaults, which its class has
    # (_DEFAULTS), and shares the set of the fields that were given, which nobody asks for.

    def model_post_init(self, context: object, /) -> None:
        """Drop what the class has."""
        kept = {name: value for name, value in self.__dict__.items() if value != _DEFAULTS[name]}
        object.__setattr__(self, "__dict__", kept)
        object.__setattr__(self, "__pydantic_fields_set__", _GIVEN)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, which are not checked; it shares what both have in common."""
        values = {**self.__dict__, **(update or {})}
        for name in update or ():
            if values[name] == _DEFAULTS[name]:
                del values[name]
        made = object.__new__(type(self))
        object.__setattr__(made, "__dict__", values)
        object.__setattr__(made, "__pydantic_fields_set__", _GIVEN)
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made

    def __iter__(self) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """All fields with their values, for ``dict(spec)``."""
        return ((name, getattr(self, name)) for name in _DEFAULTS)

    def __hash__(self) -> int:
        return hash(frozenset(self.__dict__.items()))

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        return iter(self)

    @model_serializer(mode="wrap")
    def _serialized(self, serialize: SerializerFunctionWrapHandler) -> Any:
        whole = self.model_copy()
        object.__setattr__(whole, "__dict__", dict(self))
        return serialize(whole)

    @property
    def default_split_seed(self) -> int:
        """The seed that the split is drawn with where ``split_seed`` is not given."""
        return self.seed if self.vary in ("all", "split") else 0

    @model_validator(mode="before")
    @classmethod
    def _take_calls_apart(cls, fields: Any) -> Any:
        for name, registry in PARTS.items():
            if isinstance(fields, Mapping) and isinstance(fields.get(name), str):
                fields = _split(fields, name, registry)
        return fields

    def to_record(self) -> dict[str, Any]:
        """The fields as JSON values, the arguments of parts as mappings."""
        return dict(self) | {f"{name}_args": dict(getattr(self, f"{name}_args")) for name in PARTS}

    def arguments(self, part: str) -> parts.Arguments:
        """The arguments that the part in a field is made with, where they are not its defaults; sorted by name."""
        given: parts.Arguments = getattr(self, f"{part}_args")
        if part == "model" and self.dropout is not None:
            return tuple(sorted({**dict(given), "dropout_rate": self.dropout}.items()))
        return given

    def dynamic(self) -> dict[str, float]:
        """The numbers that are arrays in the compiled program, besides learning rate and weight decay.

        Arguments of parts are named by their path, ``optimizer.momentum``. What is off (0, or ``None``) is left out:
        without it the program is another one.
        """
        found = dict(_parts(*_PART_FIELDS(self))[1])
        for name in _SWITCHES:
            if value := getattr(self, name):
                found[name] = value
        if self.schedule != "constant":
            found["num_epochs"] = float(self.num_epochs)
        return found

    def static(self) -> tuple[object, ...]:
        """Everything that makes another XLA program; equal values share one."""
        return _static(_STATIC(self), _PART_FIELDS(self), _SWITCHED(self))


#: The default of each field.
_DEFAULTS = {name: field.default for name, field in TrialSpec.model_fields.items()}
for _field, _default in _DEFAULTS.items():
    setattr(TrialSpec, _field, _default)


@functools.lru_cache(maxsize=4096)  # trials by the ten thousand share a few programs
def _static(
    fields: tuple[object, ...], parts: tuple[Any, ...], switched: tuple[object, ...]
) -> tuple[object, ...]:
    return *fields, _parts(*parts)[0], *map(bool, switched)


@functools.lru_cache(maxsize=4096)  # trials by the ten thousand share a few parts
def _parts(*fields: Any) -> tuple[tuple[object, ...], Mapping[str, float]]:
    """What the parts of a trial make static, and their dynamic arguments by path.

    Args:
        fields: the values of :data:`_PART_FIELDS`.
    """
    spec = TrialSpec.model_construct(**dict(zip(_PART_NAMES, fields, strict=True)))
    static: list[object] = []
    dynamic: dict[str, float] = {}
    for field in _TRAINED:
        given, name = spec.arguments(field), getattr(spec, field)
        arrays = PARTS[field].dynamic(PARTS[field].find(name) or name, given)
        static.append((tuple(each for each in given if each[0] not in arrays), tuple(arrays)))
        dynamic |= {f"{field}.{name}": value for name, value in arrays.items()}
    return tuple(static), dynamic


#: The parts that a compiled program is made of.
_TRAINED = tuple(name for name in PARTS if name not in ("dataset", "test_transform"))
#: Numbers that are arrays in the program where they are on, and that make another program where they are off.
_SWITCHES = ("clip_norm", "ema_decay", "mixup")
#: The seeds of a trial: that of everything, and those of single sources of randomness.
SEEDS = ("seed", "split_seed", "init_seed", "order_seed", "dropout_seed", "augment_seed")
#: An array inside the program: trials that differ in these alone share it. The loop over epochs is outside.
DYNAMIC_FIELDS = (
    "learning_rate",
    "weight_decay",
    *SEEDS,
    "sampling",
    "folds",
    "fold",
    "vary",
    "num_epochs",
    "test_augmented",
    "test_transform",
    "patience",
    "min_delta",
)
_OF_PARTS = (*(f"{name}_args" for name in PARTS), "dropout", "class_weights", *_SWITCHES)
_PART_NAMES = (*_TRAINED, *(f"{name}_args" for name in _TRAINED), "dropout")
_PART_FIELDS: Callable[[TrialSpec], tuple[Any, ...]] = operator.attrgetter(*_PART_NAMES)
STATIC_FIELDS = tuple(name for name in TrialSpec.model_fields if name not in (*DYNAMIC_FIELDS, *_OF_PARTS))
_STATIC: Callable[[TrialSpec], tuple[object, ...]] = operator.attrgetter(*STATIC_FIELDS)
_SWITCHED: Callable[[TrialSpec], tuple[object, ...]] = operator.attrgetter(*_SWITCHES, "class_weights")
#: The fields that every id has been made of since the first release. Those that came later are left out of a trial's
#: id at their defaults, so that it stays what it was.
FIRST_FIELDS = frozenset(
    (
        "model",
        "model_args",
        "dropout",
        "dataset",
        "train_size",
        "val_size",
        "split_seed",
        "transform",
        "criterion",
        "optimizer",
        "learning_rate",
        "weight_decay",
        "decay_mode",
        "batch_size",
        "num_epochs",
        "seed",
        "vary",
    )
)
#: Fields that distinguish the trials of one configuration.
REPLICATES = (*SEEDS, "fold")
_LATER_FIELDS = tuple(name for name in TrialSpec.model_fields if name not in FIRST_FIELDS)
_LATER_DEFAULTS = tuple(TrialSpec.model_fields[name].default for name in _LATER_FIELDS)
_LATER: Callable[[TrialSpec], tuple[Any, ...]] = operator.attrgetter(*_LATER_FIELDS)
_FIRST_NAMES = tuple(sorted(FIRST_FIELDS))
_FIRST: Callable[[TrialSpec], tuple[Any, ...]] = operator.attrgetter(*_FIRST_NAMES)


def make_trial_spec(fields: Mapping[str, Any], place: str | None = None) -> TrialSpec:
    """Check the fields of one trial.

    Args:
        fields: values by field name.
        place: where they come from, to name in an error ("configs/x.yaml").

    Raises:
        SpecError: naming the field, the rule, the value and the fields that exist.
    """
    try:
        return TrialSpec(**fields)
    except ValidationError as error:
        raise _explained(error, place) from None


def check_values(field: str, values: Iterable[Any], place: str | None = None) -> list[Any]:
    """Check values of one field that names no part; arguments and errors as of :func:`make_trial_spec`."""
    values = [*values]
    try:
        return _values(field).validate_python(values)
    except ValidationError:
        for value in values:
            make_trial_spec({field: value}, place)
        raise


@functools.cache
def _values(field: str) -> TypeAdapter[list[Any]]:
    hint: Any = get_type_hints(TrialSpec, include_extras=True)[field]
    return TypeAdapter(list[hint])


def _explained(error: ValidationError, place: str | None) -> SpecError:
    problem = error.errors()[0]
    field, value = str(problem["loc"][0]), problem["input"]
    if problem["type"] == "unknown_part":
        return SpecError(problem["msg"], field=field, value=value, place=place)
    if problem["type"] == "extra_forbidden":
        known = (*TrialSpec.model_fields, *ALIASES)
        return SpecError(unknown("field", field, known), value=field, place=place)
    if problem["type"] == "literal_error":
        choices = get_args(TrialSpec.model_fields[field].annotation)
        kind = field.replace("_", " ")
        return SpecError(unknown(kind, value, choices), field=field, value=value, place=place)
    rule = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return SpecError.must_be(field, rule, value, place=place)


class Trial(BaseModel):
    """A trial resolved against its data, ready to be trained anywhere.

    Args:
        spec: the trial as asked for, its sizes explicit.
        data_digest: SHA-256 of the data set's arrays.
        model_digest: SHA-256 of the source of a user's model; "" for the built-in ones.
        part_digests: the same of other parts that are the user's, by field, sorted.
        lanes: how many trials share the vmapped axis; bits are promised at equal ``lanes`` only.
        numerics: the version of the numerics that it is trained with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    spec: TrialSpec
    data_digest: str
    model_digest: str = ""
    part_digests: tuple[tuple[str, str], ...] = ()
    lanes: int = 1
    numerics: int = NUMERICS_VERSION

    def model_post_init(self, context: object, /) -> None:
        """Share the set of the fields that were given; see :class:`TrialSpec`."""
        given = _STATED if "numerics" in self.model_fields_set else _GIVEN
        object.__setattr__(self, "__pydantic_fields_set__", given)

    @functools.cached_property
    def id(self) -> str:
        """Digest (16 hexadecimal digits) of everything that determines the result."""
        spec = dict(zip(_FIRST_NAMES, _FIRST(self.spec), strict=True))
        if (later := _LATER(self.spec)) != _LATER_DEFAULTS:
            pairs = zip(_LATER_FIELDS, later, _LATER_DEFAULTS, strict=True)
            spec |= {name: value for name, value, default in pairs if value != default}
        record = {**vars(self), "spec": spec}
        if not self.part_digests:
            del record["part_digests"]
        return digest(record)[:16]

    def with_numerics(self, version: int) -> Trial:
        """The same trial, trained with another version of the numerics."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Trial(**fields | {"numerics": version})

    def of_length(self, num_epochs: int) -> Trial:
        """The same trial with another number of epochs."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Trial(**fields | {"spec": self.spec.model_copy(update={"num_epochs": num_epochs})})

    def recorded_as(self, trial_id: str) -> Trial:
        """The same trial with the version of the numerics that its recorded id was computed with.

        Early records do not state the version; their ids tell it. The trial itself if no version gives that id.
        """
        versions = range(NUMERICS_VERSION, 0, -1)
        candidates = map(self.with_numerics, versions)
        return next((trial for trial in candidates if trial.id == trial_id), self)
