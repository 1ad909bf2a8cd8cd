"""The comparison of architectures: a ranking, and the differences that the data support, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dlbench.report.configurations import axes_of, common, configurations, tally
from dlbench.report.tables import (
    Column,
    Report,
    Table,
    count,
    percent,
    plus_minus,
    seconds,
    thousands,
)
from dlbench.results import TrialResult
from dlbench.stats import (
    MAX_SEEDS,
    PairwiseComparison,
    Ranking,
    ranking,
    seeds_needed,
)


def comparison_report(trials: Sequence[TrialResult]) -> Report:
    """A row a model, by mean test accuracy over seeds, and what may be concluded from it."""
    axes = axes_of(trials)
    groups = {group.label(axes): group for group in configurations(trials)}
    measured = {label: group.by_seed("test_accuracy") for label, group in groups.items() if group.complete}
    ranked = ranking(measured) if measured else None
    entries = {entry.name: entry for entry in ranked.entries} if ranked else {}
    order = [*entries, *(label for label in groups if label not in entries)]
    judged = len(entries) > 1 and all(len(values) > 1 for values in measured.values())
    columns = (
        Column("place", "place"),
        Column("model", "model", left=True),
        Column("test_accuracy", "test acc %", plus_minus),
        Column("best_val_accuracy", "val acc %", plus_minus),
        Column("num_params", "parameters", thousands),
        Column("train_time_s", "time s", seconds),
        Column("convergence_epoch", "convergence epoch", seconds),
        Column("seeds", "seeds"),
    )
    rows = tuple(
        (
            entries[label].place if judged and label in entries else None,
            label,
            groups[label].interval("test_accuracy"),
            groups[label].interval("best_val_accuracy"),
            next((trial.num_params for trial in groups[label].complete), None),
            groups[label].mean("train_time_s"),
            groups[label].mean("convergence_epoch"),
            tally(groups[label]),
        )
        for label in order
    )
    caption = (
        f"{common(trials)}. Means over seeds ± their 95 % Student t intervals; "
        "place: the ranks that the data leave open; time: training alone."
    )
    table = Table("Architectures by test accuracy", columns, rows, caption)
    if ranked is None:
        return [table, "No trial completed, so nothing can be compared."]
    return [table, *(_verdict(ranked) if judged else _no_verdict(len(entries)))]


def _no_verdict(compared: int) -> list[str]:
    if compared < 2:
        return []
    return ["A model with one seed has no interval, so no difference can be judged; --seeds 5 repeats each."]


def _verdict(ranked: Ranking) -> list[str]:
    """Which differences the data support, in words, and what it would take to settle the rest."""
    pairs = [_ordered(pair) for pair in ranked.comparisons]
    supported = sorted((pair for pair in pairs if pair[2].supported), key=lambda pair: pair[2].p_adjusted)
    said = []
    method = f"{count(len(pairs), 'comparison')}, paired by seed, Holm's correction, 5 %"
    if supported:
        lines = [
            f"{better} is better than {worse} by {_points(pair)} (p = {pair.p_adjusted:.2g})"
            for better, worse, pair in supported
        ]
        said.append(f"Differences that the data support ({method}):\n  " + "\n  ".join(lines))
    else:
        said.append(f"The data support no difference between these models ({method}).")
    first, second = ranked.entries[0].name, ranked.entries[1].name
    if ranked.winner:
        said.append(f"{ranked.winner} is better than every other model here.")
        return said
    unbeaten = [entry.name for entry in ranked.entries if entry.best_rank == 1]
    said.append(f"No model is the best with the support of these data: it may be {_any_of(unbeaten)}.")
    return [*said, *_outlook(ranked, {first: [second, ranked.entries[-1].name]})]


def _outlook(ranked: Ranking, wanted: dict[str, list[str]]) -> list[str]:
    """How many seeds would probably tell the first from the second and from the last."""
    (first, others), *_ = wanted.items()
    needed = []
    for other in dict.fromkeys(others):
        pair = next(p for p in ranked.comparisons if {p.a, p.b} == {first, other})
        difference = pair.comparison.difference
        if pair.supported or not math.isfinite(difference.std):
            continue
        seeds = seeds_needed(difference.estimate, difference.std, num_comparisons=len(ranked.comparisons))
        if seeds is None:
            needed.append(f"no number for {first} and {other}, which were equal on average")
        else:
            amount = f"{MAX_SEEDS:,} or more" if seeds >= MAX_SEEDS else f"about {seeds}"
            needed.append(f"{amount} to tell {first} from {other}")
    if not needed:
        return []
    return [
        f"Seeds that would probably settle it: {'; '.join(needed)}. That is an estimate from these few seeds "
        "(power 80 %), and an optimistic one: differences that look large tend to shrink."
    ]


def _ordered(pair: PairwiseComparison) -> tuple[str, str, PairwiseComparison]:
    """The better one, the worse one, and their comparison."""
    better = pair.comparison.difference.estimate > 0
    return (pair.a, pair.b, pair) if better else (pair.b, pair.a, pair)


def _points(pair: PairwiseComparison) -> str:
    bounds = pair.comparison.difference
    low, high = sorted((abs(bounds.low), abs(bounds.high)))
    if bounds.low * bounds.high < 0:
        low = -low
    return f"{percent(abs(bounds.estimate))} points [{percent(low)}, {percent(high)}]"


def _any_of(names: list[str]) -> str:
    return " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
