"""Names of models → where their code lives. No jax, and no import of anybody's code until it is asked for.

A model is known by a *reference*: the canonical name of a built-in one, or ``module:attribute`` for a
user's. Users reach their own by that reference, by the decorator, or by an entry point of the group
``dlbench.models``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import inspect
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from dlbench.errors import Field, InputError, UnknownNameError

#: Canonical name → reference of the five built-in networks, and of the two families they come from.
BUILT_IN = {
    "SimpleCNN": "dlbench.models:SimpleCNN",
    "Baseline": "dlbench.models:baseline",
    "Stabilized": "dlbench.models:stabilized",
    "High-Vision": "dlbench.models:high_vision",
    "Modernist": "dlbench.models:modernist",
    "ExperimentalCNN": "dlbench.models:ExperimentalCNN",
}
#: The architectures that are compared when none is named.
ARCHITECTURES = ("SimpleCNN", "Baseline", "Stabilized", "High-Vision", "Modernist")

_registered: dict[str, str] = {}
#: References of users' models that this process has named itself: those whose code may be run.
_named: set[str] = set()
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
F = TypeVar("F", bound=Callable[..., Any])


def name_key(name: str) -> str:
    """The form in which names are compared: no case, hyphens, underscores or spaces."""
    return re.sub(r"[-_ ]", "", name).casefold()


def register_model(name: str) -> Callable[[F], F]:
    """Decorator: make a Flax module (or a function that returns one) known under ``name``.

    It is called with ``num_classes`` and whatever ``model_args`` and ``dropout`` (as ``dropout_rate``) the
    trial names. Worker processes import the module that defines it.

    Raises:
        InputError: the name is taken by a built-in model.
    """
    if name_key(name) in map(name_key, BUILT_IN):
        raise InputError(f"the model name {name!r} belongs to a built-in model; choose another")

    def decorate(factory: F) -> F:
        _registered[name] = f"{factory.__module__}:{factory.__qualname__}"
        return factory

    return decorate


def model_names() -> list[str]:
    """Every model that is known by name now: built in, registered, or offered by an entry point."""
    return [*BUILT_IN, *_registered, *(point.name for point in entry_points(group="dlbench.models"))]


def resolve_model(name: str) -> str:
    """The reference of a model: a built-in's canonical name or ``module:attribute``.

    Raises:
        UnknownNameError: with the known names and the nearest.
    """
    if _REFERENCE.fullmatch(name):
        _named.add(name)
        return name
    wanted = name_key(name)
    for known in BUILT_IN:
        if name_key(known) == wanted:
            return known
    users = _registered | {point.name: point.value for point in entry_points(group="dlbench.models")}
    for known, reference in users.items():
        if name_key(known) == wanted:
            _named.add(reference)
            return reference
    if ":" in name:
        raise InputError.must_be("model", "a known name, or of the form package.module:Attribute", name)
    raise UnknownNameError("model", name, model_names(), field="model")


def check_trusted(reference: str) -> None:
    """Refuse to run somebody's code because a stored study names it.

    Raises:
        InputError: the model is neither built in nor named by this process.
    """
    if reference not in BUILT_IN and reference not in _named:
        raise InputError(
            f"the stored study names the model {reference!r}, which is code outside dlbench",
            field="model",
            value=reference,
            remedy=(
                *("if you trust it, name it yourself: ", Field("model"), f" {reference}, or "),
                f"dlbench.resolve_model({reference!r}) from Python",
            ),
        )


def label(reference: str) -> str:
    """What tables call a model: a built-in's name, or the attribute of a user's."""
    return reference.partition(":")[2] or reference


def import_model(reference: str) -> Callable[..., Any]:
    """Import what a reference points to (this runs the module's code).

    Raises:
        InputError: no such module or attribute.
    """
    module_name, _, attribute = BUILT_IN.get(reference, reference).partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise
        raise InputError(
            f"model {reference!r}: there is no module {module_name!r} on the path of {sys.executable}; "
            "install it, or start in the folder that holds it"
        ) from None
    except Exception as error:
        raise InputError(
            f"model {reference!r}: importing {module_name!r} raised {type(error).__name__}: {error}"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise InputError(f"model {reference!r}: module {module_name!r} has no attribute {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"model {reference!r} is no class or function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]


def source_digest(reference: str) -> str:
    """SHA-256 of the file that defines a user's model, found without importing it; "" for built-in ones.

    It goes into the trial's id, so that an edited model is trained again.

    Raises:
        InputError: no such module.
    """
    if reference in BUILT_IN:
        return ""
    module_name = reference.partition(":")[0]
    if module_name == "__main__":
        return hashlib.sha256(inspect.getsource(import_model(reference)).encode()).hexdigest()
    path = None
    spec = None
    for part in _prefixes(module_name):
        spec = importlib.machinery.PathFinder.find_spec(part, path)
        if spec is None:
            raise InputError(
                f"model {reference!r}: there is no module {module_name!r} on the path of {sys.executable}; "
                "install it, or start in the folder that holds it"
            )
        path = list(spec.submodule_search_locations or [])
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(f"model {reference!r}: {module_name!r} has no source file")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _prefixes(module_name: str) -> list[str]:
    parts = module_name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
