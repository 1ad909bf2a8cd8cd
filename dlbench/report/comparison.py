"""The comparison of architectures: a ranking, and the differences that the data support, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dlbench.analysis.comparison import ALPHA, Judged, judge
from dlbench.analysis.configurations import Configuration, common, tally
from dlbench.analysis.looks import alpha_of
from dlbench.report.outlook import is_unpaired, seeds_to_settle
from dlbench.report.tables import (
    Column,
    Report,
    Table,
    count,
    level,
    listed,
    percent,
    plus_minus,
    tenth,
    thousands,
)
from dlbench.spec.looks import Look
from dlbench.stats import PairwiseComparison, Ranking
from dlbench.storage.results import StudyRecord


def comparison_record(result: StudyRecord) -> dict[str, Any]:
    """What may be concluded from a comparison, as a record."""
    judged = judge(result)
    looks, look, ranked = result.spec.looks, judged.look, judged.ranked
    alpha = (alpha_of(look) if look else None) if looks else ALPHA
    return {
        "figure": "test_accuracy",
        "looks": {"planned": list(looks), "taken": look.number if look else 0} if looks else None,
        "alpha": alpha,
        "separated": judged.winner is not None,
        "winner": judged.winner,
        "ranking": [
            {
                "model": entry.name,
                "place": [entry.best_rank, entry.worst_rank],
                "mean": entry.interval.estimate,
                "low": entry.interval.low,
                "high": entry.interval.high,
                "num_seeds": entry.interval.n,
            }
            for entry in (ranked.entries if ranked and judged.is_conclusive else ())
        ],
        "differences": [
            {
                "a": pair.a,
                "b": pair.b,
                "difference": pair.comparison.difference.estimate,
                "low": pair.comparison.difference.low,
                "high": pair.comparison.difference.high,
                "p_adjusted": pair.p_adjusted,
                "supported": pair.supported,
            }
            for pair in (ranked.comparisons if ranked and judged.is_conclusive else ())
        ],
    }


def comparison_report(result: StudyRecord) -> Report:
    """A row a model, by mean test accuracy over seeds, and what may be concluded from it."""
    judged = judge(result)
    groups, ranked = judged.groups, judged.ranked
    entries = {entry.name: entry for entry in ranked.entries} if ranked else {}
    order = [*entries, *(label for label in groups if label not in entries)]
    confidence = 1 - (ranked.alpha if ranked else ALPHA)
    columns = (
        Column("place", "place"),
        Column("model", "model", left=True),
        Column("test_accuracy", "test acc %", plus_minus),
        Column("best_val_accuracy", "val acc %", plus_minus),
        Column("num_params", "parameters", thousands),
        Column("train_time_s", "time s", tenth),
        Column("convergence_epoch", "convergence epoch", tenth),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            entries[label].place if judged.is_conclusive and label in entries else None,
            label,
            groups[label].interval("test_accuracy", confidence),
            groups[label].interval("best_val_accuracy", confidence),
            next((trial.num_params for trial in groups[label].complete), None),
            groups[label].mean("train_time_s"),
            groups[label].mean("convergence_epoch"),
            tally(groups[label]),
        )
        for label in order
    )
    caption = (
        f"{common(judged.trials)}. Means over seeds ± their {level(confidence)} Student t intervals; "
        "place: the ranks that the data leave open; time: training alone."
    )
    table = Table("Architectures by test accuracy", columns, rows, caption)
    return [table, *_conclusions(result, judged)]


def _conclusions(result: StudyRecord, judged: Judged) -> list[str]:
    looks, ranked = result.spec.looks, judged.ranked
    if looks and not judged.look:
        return [
            f"Nothing is judged before the first look, at {looks[0]} seeds of each model: a look at fewer was not "
            "planned."
        ]
    if ranked is None:
        return ["No trial completed, so nothing can be compared."]
    if not judged.is_conclusive:
        return _no_verdict(len(ranked.entries))
    return [*_looks_taken(result, judged), *_verdict(ranked, judged.look), *_without_result(judged.groups)]


def _without_result(groups: Mapping[str, Configuration]) -> list[str]:
    """The models that no comparison could take in."""
    without = [label for label, group in groups.items() if not group.complete]
    return [f"In no comparison, for want of a completed trial: {listed(without)}."] if without else []


def _looks_taken(result: StudyRecord, judged: Judged) -> list[str]:
    """How often the data were looked at, and what that leaves of the 5 %."""
    look = judged.look
    if look is None:
        return []
    waiting = len(result.trials) - len(judged.trials)
    more = f" The next look's {count(waiting, 'trial')} are left out until all have ended." if waiting else ""
    return [
        f"{count(look.number, 'look')} taken of {len(look.schedule)} planned (after "
        f"{listed([str(seeds) for seeds in look.schedule])} seeds). All together may err in {level(ALPHA)} of studies; "
        f"this one may in {level(alpha_of(look))}, the level of all that follows.{more}"
    ]


def _no_verdict(compared: int) -> list[str]:
    if compared < 2:
        return []
    return [
        "A model with one seed has no interval, so no difference can be judged; train each with several seeds."
    ]


def _verdict(ranked: Ranking, look: Look | None) -> list[str]:
    """Which differences the data support, in words, and what it would take to settle the rest."""
    pairs = ranked.comparisons
    paired = "paired by seed" + (", where seeds are shared" if any(map(is_unpaired, pairs)) else "")
    method = f"{count(len(pairs), 'comparison')}, {paired}, Holm's correction, {level(ranked.alpha)}"
    supported = sorted((pair for pair in pairs if pair.supported), key=lambda pair: pair.p_adjusted)
    said = [
        f"Differences that the data support ({method}):\n  " + "\n  ".join(map(_difference, supported))
        if supported
        else f"The data support no difference between these models ({method})."
    ]
    if ranked.winner:
        return [*said, f"{ranked.winner} is better than each of the others."]
    unbeaten = [entry.name for entry in ranked.entries if entry.best_rank == 1]
    return [
        *said,
        f"No model is shown to be the best. Beaten by none: {listed(unbeaten)}.",
        *_outlook(ranked, look),
    ]


def _difference(pair: PairwiseComparison) -> str:
    difference = pair.comparison.difference
    better, worse, low, high = pair.a, pair.b, difference.low, difference.high
    if difference.estimate < 0:
        better, worse, low, high = worse, better, -high, -low
    points = f"{percent(abs(difference.estimate))} points [{percent(low)}, {percent(high)}]"
    return f"{better} is better than {worse} by {points}, p = {pair.p_adjusted:.2g}"


def _outlook(ranked: Ranking, look: Look | None) -> list[str]:
    """How many seeds would probably tell the first from the second and from the last."""
    first = ranked.entries[0].name
    others = dict.fromkeys((ranked.entries[1].name, ranked.entries[-1].name))
    said = seeds_to_settle(ranked, first, list(others))
    if said and look and look.is_last:
        said += " All the looks are taken: more would be a new study, with seeds of its own."
    return [said] if said else []
