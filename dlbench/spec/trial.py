"""What to train: trials, studies, their validation and their content-addressed ids. No jax.

A :class:`TrialSpec` is one training run as its user writes it. Planning resolves it against the data
(sizes made explicit, digests attached) into a :class:`Trial`, whose id is a digest of everything that
determines its result; the environment it ran in is recorded beside it, not in the id.
"""

from __future__ import annotations

import contextlib
import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dlbench.errors import InputError, SpecError, shown, unknown
from dlbench.records import digest
from dlbench.spec import parts
from dlbench.spec.naming import ALIASES
from dlbench.spec.parts import Scalar
from dlbench.spec.registry import MODELS, OPTIMIZERS, Registry

#: Raised whenever a change of the code changes the numbers a trial yields.
NUMERICS_VERSION = 3
#: The last release that computes with each version of the numerics.
NUMERICS_RELEASES = {3: "0.1.0"}

MAX_SEED = 2**32 - 1


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


def _split(fields: Mapping[str, Any], name: str, registry: Registry) -> Mapping[str, Any]:
    """Take a part's arguments out of its text, in their one form where the part is known."""
    given = fields.get(f"{name}_args", ())
    try:
        part = parts.parse(fields[name])
        beside = dict(given)
    except (ValueError, TypeError):
        return fields  # whoever resolves the name, or the field's own check, says what is wrong
    if beside.keys() & dict(part.arguments).keys():
        return fields
    reference, arguments = registry.find(part.name), part.arguments
    if reference is not None:
        with contextlib.suppress(InputError):  # whoever names a trial checks its arguments
            arguments = registry.arguments(reference, part.arguments)
    return {**fields, name: part.name, f"{name}_args": {**beside, **dict(arguments)}}


#: The fields that name a part, and where such parts are registered; ``FIELD_args`` holds the part's arguments.
PARTS = {"model": MODELS, "optimizer": OPTIMIZERS}

Finite = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False), AfterValidator(_float32)]
Whole = Annotated[int, BeforeValidator(_number)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Arguments = Annotated[tuple[tuple[str, Scalar], ...], BeforeValidator(_arguments)]


class TrialSpec(BaseModel):
    """One training run: fixed hyper-parameters and one seed.

    ``train_size`` and ``val_size`` count images; ``None`` stands for a fifth of the training half (at most
    10,000) for validation and all the rest for training. ``learning_rate`` and ``weight_decay`` are
    dimensionless. ``dropout`` of ``None`` keeps the model's own rate. ``vary`` names the one source of
    randomness that follows ``seed`` while the others keep seed 0 ("all": every one follows it; "split": which
    images train and validate). ``split_seed`` of ``None`` draws the split with ``seed`` where the split varies.
    ``model`` and ``optimizer`` may be written with arguments, ``sgd(momentum=0.8)``; these are kept in ``model_args``
    and ``optimizer_args``. ``test_augmented`` has the trial tested on augmented test images too, as every augmented
    trial is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model: Name = "Baseline"
    model_args: Arguments = ()
    dropout: Annotated[Finite, Field(ge=0, lt=1)] | None = None
    dataset: Name = "mnist5k"
    train_size: Annotated[Whole, Field(ge=1)] | None = None
    val_size: Annotated[Whole, Field(ge=1)] | None = None
    split_seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] | None = None
    transform: Literal["standard", "augmented"] = "standard"
    test_augmented: bool = False
    criterion: Literal["cross_entropy", "manual"] = "cross_entropy"
    optimizer: Annotated[Literal["adam", "sgd"], BeforeValidator(_name)] = "adam"
    optimizer_args: Arguments = ()  # static: each value compiles another program
    learning_rate: Annotated[Finite, Field(gt=0, le=1e6)] = 1e-3
    weight_decay: Annotated[Finite, Field(ge=0, le=1e6)] = 0.0
    decay_mode: Literal["decoupled", "l2"] = "decoupled"
    batch_size: Annotated[Whole, Field(ge=1, le=65536)] = 16
    num_epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 5
    seed: Annotated[Whole, Field(ge=0, le=MAX_SEED)] = 0
    vary: Literal["all", "init", "order", "dropout", "augment", "split"] = "all"

    @property
    def default_split_seed(self) -> int:
        """The seed that the split is drawn with where ``split_seed`` is not given."""
        return self.seed if self.vary in ("all", "split") else 0

    @model_validator(mode="before")
    @classmethod
    def _take_calls_apart(cls, fields: Any) -> Any:
        for name, registry in PARTS.items():
            if isinstance(fields, Mapping) and parts.is_call(fields.get(name)):
                fields = _split(fields, name, registry)
        return fields

    def static(self) -> tuple[object, ...]:
        """Everything that makes another XLA program; equal values share one."""
        return _STATIC(self)


#: An array inside the program: trials that differ in these alone share it. The loop over epochs is outside.
DYNAMIC_FIELDS = (
    "learning_rate",
    "weight_decay",
    "seed",
    "split_seed",
    "vary",
    "num_epochs",
    "test_augmented",
)
STATIC_FIELDS = tuple(name for name in TrialSpec.model_fields if name not in DYNAMIC_FIELDS)
_STATIC: Callable[[TrialSpec], tuple[object, ...]] = operator.attrgetter(*STATIC_FIELDS)
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
_LATER_FIELDS = tuple(name for name in TrialSpec.model_fields if name not in FIRST_FIELDS)


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


def _explained(error: ValidationError, place: str | None) -> SpecError:
    problem = error.errors()[0]
    field, value = str(problem["loc"][0]), problem["input"]
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
        model_digest: SHA-256 of the source a user's model comes from; "" for the built-in ones.
        lanes: how many trials share the vmapped axis; bits are promised at equal ``lanes`` only.
        numerics: the version of the numerics that it is trained with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    spec: TrialSpec
    data_digest: str
    model_digest: str = ""
    lanes: int = 1
    numerics: int = NUMERICS_VERSION

    @functools.cached_property
    def id(self) -> str:
        """Digest (16 hexadecimal digits) of everything that determines the result."""
        record = self.model_dump()
        for name in _LATER_FIELDS:
            if record["spec"][name] == TrialSpec.model_fields[name].default:
                del record["spec"][name]
        return digest(record)[:16]

    def with_numerics(self, version: int) -> Trial:
        """The same trial, trained with another version of the numerics."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Trial(**fields | {"numerics": version})

    def recorded_as(self, trial_id: str) -> Trial:
        """The same trial with the version of the numerics that its recorded id was computed with.

        Early records do not state the version; their ids tell it. The trial itself if no version gives that id.
        """
        versions = range(NUMERICS_VERSION, 0, -1)
        candidates = map(self.with_numerics, versions)
        return next((trial for trial in candidates if trial.id == trial_id), self)
