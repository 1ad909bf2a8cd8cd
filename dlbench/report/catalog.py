"""What can be named: parts with their arguments, metrics and data sets."""

from __future__ import annotations

from typing import Any

from dlbench import data
from dlbench.errors import UnknownNameError
from dlbench.records import METRICS as KEYS
from dlbench.report.tables import Column, Table
from dlbench.spec import ranges
from dlbench.spec.declarations import Default, Signature
from dlbench.spec.metrics import KNOWN_METRICS, metric
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

#: The registries by what their parts are called together.
REGISTRIES = {
    "models": MODELS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "criteria": CRITERIA,
    "transforms": TRANSFORMS,
    "datasets": DATASETS,
    "metrics": METRICS,
}
KINDS = tuple(REGISTRIES)


def listing(kind: str) -> list[dict[str, Any]]:
    """Everything of a kind that can be named now, as records of JSON values with ``name`` and ``description``.

    Args:
        kind: one of :data:`KINDS`.

    Returns:
        Parts also have ``aliases`` and ``arguments``; metrics have ``unit`` and ``better``. Metrics of validation
        images can choose the best epoch, and are then measured on test images too; others are only measured.

    Raises:
        UnknownNameError: there is no such kind.
    """
    if kind == "datasets":
        return _parts(DATASETS) + _prepared()
    if kind == "metrics":
        parts = _parts(METRICS)
        names = {key: name for name, key in KEYS.items()}
        named = {part["name"] for part in parts}
        measured = [name for key in KNOWN_METRICS if (name := names.get(key, key)) not in named]
        others = [{"name": name, "description": "", "aliases": [], "arguments": []} for name in measured]
        return [_with_unit(record) for record in (*parts, *others)]
    if kind in REGISTRIES:
        return _parts(REGISTRIES[kind])
    raise UnknownNameError("kind", kind, KINDS)


def _with_unit(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a metric with its unit and its better direction."""
    known = metric(record["name"])
    better = "lower" if known.lower_is_better else "higher"
    unit = f"in {known.unit}" if known.unit else ""
    said = ", ".join(filter(None, (record["description"], unit, f"{better} is better")))
    return record | {"description": said, "unit": known.unit, "better": better}


def _parts(registry: Registry) -> list[dict[str, Any]]:
    built_in = [
        {
            "name": found.name,
            "description": found.description.removesuffix("."),
            "aliases": list(found.aliases),
            "arguments": _arguments(found.signature, registry.supplied),
        }
        for found in registry.built_in.values()
    ]
    others = [
        {
            "name": registry.prefix + name,
            "description": f"your own: {reference}",
            "aliases": [],
            "arguments": _arguments(registry.signature(reference), registry.supplied),
        }
        for name, reference in registry.users_own().items()
    ]
    return [*built_in, *others]


def _prepared() -> list[dict[str, Any]]:
    """The user's data sets in the cache."""
    return [
        {"name": each.name, "description": each.description, "aliases": [], "arguments": []}
        for each in data.available()
        if "@" in each.name
    ]


def _arguments(signature: Signature, supplied: frozenset[str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "default": None if isinstance(default, Default) else default,
            "range": ranges.in_words(signature.ranges[name]) if name in signature.ranges else None,
            "shares_a_program": name in signature.dynamic,
        }
        for name, default in signature.arguments.items()
        if name not in supplied
    ]


def listing_table(kind: str, rows: list[dict[str, Any]]) -> Table:
    """A listing as a table.

    Args:
        kind: one of :data:`KINDS`.
        rows: what :func:`listing` returns.
    """
    columns = (
        Column("name", "name", left=True),
        Column("arguments", "arguments", left=True),
        Column("description", "description", left=True),
    )
    cells = tuple((row["name"], _in_words(row["arguments"]), row["description"]) for row in rows)
    note = f"Arguments are written in brackets, '{_EXAMPLES[kind]}', or by path, so that they can be an axis."
    if any(each["shares_a_program"] for row in rows for each in row["arguments"]):
        note += " Trials that differ only in the values of arguments marked with * share a compiled program."
    if kind == "datasets":
        note += f" Each also takes {' and '.join(DATASETS.CLEANING)}."
    return Table("Data sets" if kind == "datasets" else kind.capitalize(), columns, cells, note)


_EXAMPLES = {
    "models": "resnet18(width=16)",
    "optimizers": "sgd(momentum=0.8)",
    "schedules": "cosine(warmup=5)",
    "criteria": "cross_entropy(label_smoothing=0.1)",
    "transforms": "flip+crop(padding=4)",
    "metrics": "top_k(k=3)",
    "datasets": 'folder(path="pictures", resize=32)',
}


def _in_words(arguments: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{each['name']}{'' if each['default'] is None else '=' + _shown(each['default'])}"
        f"{'*' if each['shares_a_program'] else ''}"
        for each in arguments
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
