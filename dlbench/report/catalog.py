"""What can be named: parts with their arguments, metrics and data sets."""

from __future__ import annotations

from typing import Any

from dlbench import data
from dlbench.errors import UnknownNameError
from dlbench.records import METRICS
from dlbench.report.tables import Column, Table
from dlbench.spec import ranges
from dlbench.spec.declarations import Default, Signature
from dlbench.spec.metrics import KNOWN_METRICS
from dlbench.spec.registry import CRITERIA, DATASETS, MODELS, OPTIMIZERS, SCHEDULES, TRANSFORMS, Registry

#: The registries by what their parts are called together.
REGISTRIES = {
    "models": MODELS,
    "optimizers": OPTIMIZERS,
    "schedules": SCHEDULES,
    "criteria": CRITERIA,
    "transforms": TRANSFORMS,
    "datasets": DATASETS,
}
KINDS = (*REGISTRIES, "metrics")


def listing(kind: str) -> list[dict[str, Any]]:
    """Everything of a kind that can be named now, as records of JSON values with ``name`` and ``description``.

    Args:
        kind: one of :data:`KINDS`.

    Returns:
        Parts also have ``aliases`` and ``arguments``; metrics have ``unit`` and ``better``.

    Raises:
        UnknownNameError: there is no such kind.
    """
    if kind == "datasets":
        return _parts(DATASETS) + _prepared()
    if kind in REGISTRIES:
        return _parts(REGISTRIES[kind])
    if kind == "metrics":
        names = {key: name for name, key in METRICS.items()}
        return [
            {
                "name": names.get(key, key),
                "description": f"in {metric.unit}",
                "unit": metric.unit,
                "better": "lower" if metric.lower_is_better else "higher",
            }
            for key, metric in KNOWN_METRICS.items()
        ]
    raise UnknownNameError("kind", kind, KINDS)


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
            "name": name,
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
    columns = [Column("name", "name", left=True), Column("description", "description", left=True)]
    if kind in REGISTRIES:
        columns.insert(1, Column("arguments", "arguments", left=True))
        cells = [(row["name"], _in_words(row["arguments"]), row["description"]) for row in rows]
        example = {
            "models": "resnet18(width=16)",
            "optimizers": "sgd(momentum=0.8)",
            "schedules": "cosine(warmup=5)",
            "criteria": "cross_entropy(label_smoothing=0.1)",
            "transforms": "flip+crop(padding=4)",
            "datasets": 'folder(path="pictures", resize=32)',
        }[kind]
        note = f"Arguments are written in brackets, '{example}', or by path, so that they can be an axis."
        if any(each["shares_a_program"] for row in rows for each in row["arguments"]):
            note += (
                " Trials that differ only in the values of arguments marked with * share a compiled program."
            )
        return Table(kind.capitalize(), tuple(columns), tuple(cells), note)
    return Table(kind.capitalize(), tuple(columns), tuple((row["name"], row["description"]) for row in rows))


def _in_words(arguments: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{each['name']}{'' if each['default'] is None else '=' + _shown(each['default'])}"
        f"{'*' if each['shares_a_program'] else ''}"
        for each in arguments
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
