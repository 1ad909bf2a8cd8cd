"""What people call fields and values: in commands, files, tables, captions and messages. No jax."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from dlbench.errors import printable
from dlbench.spec import registry

#: Short names of fields, accepted wherever a field is named; ``seeds`` may also be their number.
ALIASES = {"lr": "learning_rate", "epochs": "num_epochs", "seeds": "seed"}
_TITLES = {"learning_rate": "lr", "num_epochs": "epochs"}

#: Fields whose values say little without the field's title.
_SAY_LITTLE = (
    "class_weights",
    "vary",
    "decay_on",
    "normalize",
    "selection_metric",
    "sampling",
    "val_from",
    "val_transform",
    "test_transform",
)


def field_title(name: str) -> str:
    """What tables call a field: its short name, in words."""
    return _TITLES.get(name, name).replace("_", " ")


def model_names(references: Iterable[str]) -> dict[str, str]:
    """What tables call models, by reference: "Net" for nets:Net, unless another module has a model called Net too."""
    found = {reference: registry.label(reference) for reference in references}
    times = Counter(found.values())
    return {reference: name if times[name] == 1 else reference for reference, name in found.items()}


def setting(name: str, value: Any, models: Mapping[str, str] | None = None) -> str:
    """A field's value as its user would write it.

    Args:
        name: the field.
        value: its value.
        models: the names of the models beside which it is shown (:func:`model_names`).
    """
    if name == "model":
        return printable((models or {}).get(value) or registry.label(value))
    if isinstance(value, str) and ":" in value:
        return printable(registry.label(value))
    if name.endswith("_args"):
        return printable(" ".join(f"{key}={argument}" for key, argument in value)) or "-"
    if isinstance(value, tuple):
        return printable(str(dict(value)))
    if value is None:
        return "model's own" if name == "dropout" else "none"
    short = f"{value:g}" if isinstance(value, float) else printable(str(value))
    return short if not isinstance(value, float) or float(short) == value else repr(value)


def phrase(name: str, value: Any, models: Mapping[str, str] | None = None) -> str:
    """The same in a sentence: with the field's title where the value alone says little."""
    if name == "split_seed" and value is not None:
        return f"one split (seed {value})"
    shown = setting(name, value, models)
    if name.endswith("_args"):
        part = name.removesuffix("_args").replace("_", " ")
        return f"{part} at its defaults" if not value else shown if part == "model" else f"{part} {shown}"
    says_itself = isinstance(value, str) and name not in _SAY_LITTLE
    return shown if says_itself else f"{field_title(name)} {shown}"
