"""The comparison of architectures: a ranking, and the differences that the data support, in words."""

from __future__ import annotations

from collections.abc import Sequence

from dlbench.report.configurations import axes_of, common, configurations, labelled, tally
from dlbench.report.tables import Column, Report, Table, count, listed, percent, plus_minus, tenth, thousands
from dlbench.results import TrialResult
from dlbench.stats import MAX_SEEDS, PairwiseComparison, Ranking, ranking, seeds_needed


def comparison_report(trials: Sequence[TrialResult]) -> Report:
    """A row a model, by mean test accuracy over seeds, and what may be concluded from it."""
    axes = axes_of(trials)
    groups = labelled(configurations(trials), axes)
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
        Column("train_time_s", "time s", tenth),
        Column("convergence_epoch", "convergence epoch", tenth),
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
    pairs = ranked.comparisons
    paired = "paired by seed" + (", where seeds are shared" if any(map(_is_unpaired, pairs)) else "")
    method = f"{count(len(pairs), 'comparison')}, {paired}, Holm's correction, 5 %"
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
        *_outlook(ranked),
    ]


def _difference(pair: PairwiseComparison) -> str:
    difference = pair.comparison.difference
    better, worse, low, high = pair.a, pair.b, difference.low, difference.high
    if difference.estimate < 0:
        better, worse, low, high = worse, better, -high, -low
    points = f"{percent(abs(difference.estimate))} points [{percent(low)}, {percent(high)}]"
    return f"{better} is better than {worse} by {points}, p = {pair.p_adjusted:.2g}"


def _is_unpaired(pair: PairwiseComparison) -> bool:
    return pair.comparison.test == "welch"


def _outlook(ranked: Ranking) -> list[str]:
    """How many seeds would probably tell the first from the second and from the last."""
    first, needed = ranked.entries[0].name, []
    for other in dict.fromkeys((ranked.entries[1].name, ranked.entries[-1].name)):
        pair = next(pair for pair in ranked.comparisons if {pair.a, pair.b} == {first, other})
        difference = pair.comparison.difference
        if pair.supported or _is_unpaired(pair):
            continue
        seeds = seeds_needed(difference.estimate, difference.std, num_comparisons=len(ranked.comparisons))
        if seeds is None:
            needed.append(f"no number tells {first} from {other}, equal on average")
        else:
            amount = f"{MAX_SEEDS:,} or more" if seeds >= MAX_SEEDS else f"about {seeds}"
            needed.append(f"{amount} to tell {first} from {other}")
    if not needed:
        return []
    return [
        f"Seeds that would probably settle it: {'; '.join(needed)}. That is estimated from these few seeds "
        "(power 80 %), and optimistic: differences that look large tend to shrink."
    ]
