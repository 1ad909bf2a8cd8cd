"""The effects of an ablation or a factorial design as tables, in words, and as a record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from dlbench.analysis.ablation import Ablation, Effect, change_text
from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Summary, common, tally
from dlbench.report.tables import (
    FAILURES_NOTE,
    Column,
    Points,
    Report,
    Table,
    count,
    failure_columns,
    means_note,
    plus_minus,
    replicate,
    signed,
    signed_interval,
)
from dlbench.spec.metrics import Metric, metric, metric_key, noun, words


def ablation_record(found: Ablation) -> dict[str, Any]:
    """An ablation as a record for JSON."""
    return {
        "metric": found.metric,
        "num_replicates": found.num_replicates,
        "configurations": [
            {"changes": dict(changes), "mean": group.mean(found.metric), "num_trials": len(group.complete)}
            for changes, group in found.configurations
        ],
        "effects": list(map(_record, found.effects)),
        "interactions": list(map(_record, found.interactions)),
    }


def _record(effect: Effect) -> dict[str, Any]:
    difference = effect.comparison.difference if effect.comparison else None
    return {
        "changes": dict(effect.changes),
        "effect": difference and difference.estimate,
        "low": difference and difference.low,
        "high": difference and difference.high,
        "p_adjusted": effect.p_adjusted,
        "supported": effect.supported,
    }


def ablation_report(found: Ablation) -> tuple[str, Report]:
    """Which effects the data support; the configurations, and all effects."""
    effects = {} if found.is_factorial else {change_text(each.changes): each for each in found.effects}
    summaries = {change_text(changes): group.summary(found.metric) for changes, group in found.configurations}
    base, measured = found.configurations[0][1], metric(found.metric)
    failed = failure_columns([group for _, group in found.configurations])
    columns = (
        Column("change", "change", left=True),
        Column(
            metric_key(found.metric),
            f"{_title(found)}{measured.sign}",
            partial(plus_minus, measured=measured),
        ),
        *(column for column, _ in failed),
        *(_effect_columns(found) if effects else ()),
        Column("seeds", f"{replicate([base])}s"),
    )
    rows = tuple(
        (
            change_text(changes),
            summaries[change_text(changes)],
            *(values[number] for _, values in failed),
            *(_effect_cells(effects.get(change_text(changes))) if effects else ()),
            tally(group),
        )
        for number, (changes, group) in enumerate(found.configurations)
    )
    notes = [f"base: {common(base.trials)}.", means_note([*summaries.values()])]
    notes += [*([FAILURES_NOTE] if failed else []), *([_effects_note(found)] if effects else [])]
    table = Table(f"Changes of {base.label(['model'])} by {_title(found)}", columns, rows, " ".join(notes))
    answer, support = _conclusions(found)
    return answer, [table, *(_factorial(found) if found.is_factorial else ()), *support]


def _title(found: Ablation) -> str:
    if any(group.overlap for _, group in found.configurations):
        return f"cross-validated {noun(found.metric)}"
    return words(found.metric)


def _effect_columns(found: Ablation) -> tuple[Column, ...]:
    measured = metric(found.metric)
    return (
        Column("effect", f"effect{measured.in_heading} [95 %]", partial(signed, measured=measured)),
        Column("p_adjusted", "p (Holm)", lambda p: f"{p:.2g}"),
    )


def _effect_cells(effect: Effect | None) -> tuple[Any, ...]:
    if effect is None or effect.comparison is None:
        return None, None
    difference = effect.comparison.difference
    return Summary(
        difference, (difference.estimate,) * max(difference.n, MIN_FOR_INTERVAL)
    ), effect.p_adjusted


def _effects_note(found: Ablation) -> str:
    return f"Effect: the changed configuration less the base, {_pairing(found)}; intervals are not corrected."


def _pairing(found: Ablation) -> str:
    if found.configurations[0][1].overlap:
        return "by seed and fold, with the corrected resampled t test"
    ranks = any(
        effect.comparison and effect.comparison.test == "signed-rank"
        for effect in (*found.effects, *found.interactions)
    )
    return f"seed by seed{', by ranks where some trials of a configuration collapsed' if ranks else ''}"


def _factorial(found: Ablation) -> Report:
    """Main effects and interactions."""

    def table(title: str, effects: Sequence[Effect], caption: str) -> Table:
        columns = (Column("change", "change", left=True), *_effect_columns(found))
        rows = tuple((" with ".join(_names(each)), *_effect_cells(each)) for each in effects)
        return Table(title, columns, rows, caption)

    replicates = count(found.num_replicates, "replicate")
    main = (
        f"With the change less without it, averaged over the values of the other settings, {_pairing(found)} "
        f"({replicates} of which every configuration has a result); intervals are not corrected."
    )
    between = (
        "The effect of one change where the other is made too, less its effect where it is not, averaged over the "
        "values of the other settings. Interactions of three changes or more are not tested."
    )
    tables: Report = [table("Main effects", found.effects, main)]
    return tables + ([table("Interactions", found.interactions, between)] if found.interactions else [])


def _names(effect: Effect) -> list[str]:
    return [change_text({path: value}) for path, value in effect.changes.items()]


def _conclusions(found: Ablation) -> tuple[str, Report]:
    """The answer, and the significant effects."""
    if all(effect.comparison is None for effect in found.effects):
        return "An effect cannot be tested with one seed; train each configuration with several.", []
    said: list[str] = []
    lists: Report = []
    for family, word in ((found.effects, "effect"), (found.interactions, "interaction")):
        if not family:
            continue
        method = f"{count(len(family), word)}, {_pairing(found)}, Holm's correction, 5 %"
        supported = sorted((effect for effect in family if effect.supported), key=_size, reverse=True)
        if not supported:
            said.append(f"The data support no {word} ({method}).")
            continue
        points = tuple(_sentence(effect, metric(found.metric)) for effect in family if effect.supported)
        lists.append(Points(f"Significant {word}s ({method}):", points))
        be = "is" if len(supported) == 1 else "are"
        said.append(
            f"{len(supported)} of {count(len(family), word)} {be} significant; the largest is that of "
            f"{_sentence(supported[0], metric(found.metric))}."
        )
    return " ".join(said), lists


def _size(effect: Effect) -> float:
    assert effect.comparison
    return abs(effect.comparison.difference.estimate)


def _sentence(effect: Effect, measured: Metric) -> str:
    assert effect.comparison
    size = f"{signed_interval(effect.comparison.difference, measured)} {measured.unit}".rstrip()
    return f"{' with '.join(_names(effect))}: {size}, p = {effect.p_adjusted:.2g}"
