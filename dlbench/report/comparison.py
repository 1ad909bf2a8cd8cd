"""The comparison of models as a table, in words, and as a record."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dlbench.analysis.comparison import ModelComparison, pair_record
from dlbench.analysis.configurations import MIN_FOR_INTERVAL, common, tally
from dlbench.analysis.convergence import censored_epoch, convergence
from dlbench.analysis.looks import ALPHA
from dlbench.analysis.outlook import has_interval, is_unpaired
from dlbench.analysis.same_images import LEVEL, SameImages, accuracy_on_new_images
from dlbench.report.baselines import baseline_rows, sources_note
from dlbench.report.outlook import seeds_in_words
from dlbench.report.tables import (
    FAILURES_NOTE,
    TIMES_NOTE,
    Column,
    Points,
    Report,
    Strip,
    StripRow,
    Table,
    amount,
    bounded,
    capitalized,
    converged,
    count,
    failure_columns,
    level,
    listed,
    means_note,
    percent,
    plus_minus,
    replicate,
    spread,
    thousands,
)
from dlbench.spec.metrics import Metric, bounds_of, metric, metric_key, noun, selection_metric, title, words
from dlbench.spec.published import Published
from dlbench.stats import PairwiseComparison, Ranking, RankingEntry, Survival, kaplan_meier

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def comparison_record(found: ModelComparison, looks: tuple[int, ...]) -> dict[str, Any]:
    """A comparison as a record for JSON.

    Args:
        found: the comparison.
        looks: the planned looks; empty for a study of fixed size.
    """
    look, ranked = found.look, found.ranking if found.is_conclusive else None
    alpha = found.ranking.alpha if found.ranking else None if looks else ALPHA
    key = metric_key(found.metric)
    return {
        "metric": found.metric,
        "figure": key,
        "looks": {"planned": list(looks), "taken": look.number if look else 0} if looks else None,
        "alpha": alpha,
        "separated": found.is_separated,
        "winner": found.winner,
        "winners": list(found.winners),
        "ranking": [
            {
                "model": entry.name,
                "place": [entry.best_rank, entry.worst_rank],
                "mean": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "num_seeds": interval.n,
                "num_collapsed": len(found.configurations[entry.name].failures),
                "survivors_mean": found.configurations[entry.name].survivors.mean(found.metric),
            }
            for entry in (ranked.entries if ranked else ())
            for interval in [entry.interval.within(*bounds_of(found.metric))]
        ],
        "differences": list(map(pair_record, ranked.comparisons if ranked else ())),
    }


def comparison_table(
    found: ModelComparison,
    baselines: Sequence[Published] = (),
    answers: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Table:
    """One row per model, the best first; then one per baseline.

    The column of places is left out if the data order no two models, and those of epochs if no trial got that far.

    Args:
        found: the comparison.
        baselines: results to show beside those of the study.
        answers: by trial id, whether each test image was classified correctly. If given, the table also has intervals
            that count the test images as a sample.
    """
    groups, ranked = found.configurations, found.ranking
    entries = {entry.name: entry for entry in ranked.entries} if ranked else {}
    order = [*entries, *(label for label in groups if label not in entries)]
    confidence = 1 - (ranked.alpha if ranked else ALPHA)
    selection = selection_metric(trial.trial.spec for trial in found.trials)
    tested = {label: groups[label].summary(found.metric, confidence) for label in order}
    validated = {label: groups[label].summary(selection, confidence) for label in order}
    two_way = {
        label: interval
        for label in order
        if (interval := accuracy_on_new_images(groups[label], answers or {}, confidence))
    }
    plateaus = {
        label: kaplan_meier(events)
        for label in order
        if (events := [e for t in groups[label].complete if (e := censored_epoch(t, "plateau_epoch"))])
    }
    if not any(plateau.num_events for plateau in plateaus.values()):
        plateaus = {}
    ends = {label: convergence(groups[label].complete) for label in order}
    converges = any(end and end.num_converged for end in ends.values())
    has_ends = converges or any("convergence_epoch" in each.values for each in baselines)
    failed = failure_columns([groups[label] for label in order], confidence)
    first, second = (
        Column(metric_key(name), title(name), partial(plus_minus, measured=metric(name)))
        for name in (found.metric, selection)
    )
    columns = (
        *([Column("place", "place", _place)] if found.supported else []),
        Column("model", "model", left=True),
        first,
        *([Column("two_way", "test acc % [seeds and images]", bounded)] if two_way else []),
        *([second] if second.key != first.key else []),
        *(column for column, _ in failed),
        Column("num_params", "parameters", thousands),
        Column("train_time_s", "time s", spread),
        *([Column("convergence_epoch", "convergence epoch", converged)] if has_ends else []),
        *([Column("plateau_epoch", "plateau epoch", _median)] if plateaus else []),
        Column("seeds", f"{replicate(groups.values())}s"),
    )
    rows = tuple(
        (
            *([entries.get(label)] if found.supported else []),
            label,
            tested[label],
            *([two_way.get(label)] if two_way else []),
            *([validated[label]] if second.key != first.key else []),
            *(values[number] for _, values in failed),
            next((trial.num_params for trial in groups[label].complete), None),
            groups[label].summary("train_time_s"),
            *([ends[label]] if has_ends else []),
            *([plateaus.get(label)] if plateaus else []),
            tally(groups[label]),
        )
        for number, label in enumerate(order)
    )
    notes = [
        f"{common(found.trials)}. {means_note([*tested.values(), *validated.values()], confidence)}",
        *([_PLACE_NOTE + (_WITHIN if ranked and ranked.num_strata > 1 else ".")] if found.supported else []),
        *([FAILURES_NOTE] if failed else []),
        *(
            [_HELD_OUT.format(column=title(selection).removesuffix(" %"), noun=noun(selection))]
            if _folded(found)
            else []
        ),
        TIMES_NOTE,
        *(
            ["Convergence epoch: the mean over the trials that converged before their last epoch."]
            if has_ends
            else []
        ),
        *(["No trial converged before its last epoch."] if any(ends.values()) and not converges else []),
        *([_TWO_WAY_NOTE.format(level=level(confidence))] if two_way else []),
        *([_PLATEAU_NOTE] if plateaus else []),
    ]
    if note := sources_note(baselines):
        notes.append(note)
    rows += baseline_rows(baselines, columns)
    by = f"cross-validated {noun(selection)}" if _folded(found) else words(found.metric)
    return Table(f"Architectures by {by}", columns, rows, " ".join(notes))


def _folded(found: ModelComparison) -> bool:
    """Whether the values come from cross-validation."""
    return any(group.overlap for group in found.configurations.values())


#: What the validation metric is where images are folded.
_HELD_OUT = (
    "{column}: the {noun} on the fold that is held out, at its best epoch, which the same fold chose; models are "
    "compared by it, and the test images take no part in the comparison."
)


_PLACE_NOTE = "Place: the ranks that the data allow"
_WITHIN = ", among the models on one data set."


_PLATEAU_NOTE = (
    "Plateau epoch: the first at which the training loss has changed by less than 0.001 for three epochs in a row; the "
    "median with its 95 % interval (Kaplan and Meier), in which trials that end before are censored."
)


_TWO_WAY_NOTE = (
    "±: over seeds, on these test images. [seeds and images]: the {level} interval that takes the test images as a "
    "sample too, of new images for new seeds (replicates x images)."
)


def _median(value: Survival) -> str:
    """30 [28, 33]; "not reached" if it is not reached by half of the trials."""
    if math.isinf(value.median):
        return f"not reached by {value.n - value.num_events} of {value.n}"
    if value.n < MIN_FOR_INTERVAL:
        return f"{value.median:g}"
    return f"{value.median:g} [{value.low:g}, {'∞' if math.isinf(value.high) else f'{value.high:g}'}]"


def _place(entry: RankingEntry) -> str:
    """1, or 2–4."""
    best, worst = entry.best_rank, entry.worst_rank
    return str(best) if best == worst else f"{best}–{worst}"


def comparison_conclusions(found: ModelComparison, looks: tuple[int, ...]) -> tuple[str, Report]:
    """What may be concluded from a comparison: the answer in a sentence or two, and what supports it.

    Args:
        found: the comparison.
        looks: the planned looks; empty for a study of fixed size.
    """
    ranked = found.ranking
    if looks and not found.look:
        early = "an earlier look was not planned."
        return f"Nothing is compared before the first look, at {looks[0]} seeds of each model: {early}", []
    if ranked is None:
        return "No trial completed, so there is nothing to compare.", []
    if not found.is_conclusive:
        return _one_seed(ranked), _without_result(found)
    answer, support = _verdict(found, ranked)
    return answer, [*_looks_taken(found, ranked), *support, *_without_result(found)]


def comparison_strip(found: ModelComparison) -> Strip | None:
    """The compared metric of each model, with its interval and every seed; ``None`` if nothing is compared."""
    if found.ranking is None:
        return None
    measured = metric(found.metric)
    rows = []
    for entry in found.ranking.entries:
        group = found.configurations[entry.name]
        trained, failed = (group.survivors, group.failures) if group.is_mixture else (group, [])
        summary = trained.summary(found.metric, 1 - found.ranking.alpha)
        if summary is not None:
            interval = summary.interval
            low, high = (interval.low, interval.high) if summary.has_interval else (None, None)
            without = tuple(trial.value(found.metric) for trial in failed)
            rows.append(StripRow(entry.name, interval.estimate, low, high, summary.values, without))
    title_ = f"{capitalized(words(found.metric))}{measured.sign}"
    note = f"{_FAILED_NOTE} {_STRIP_NOTE}" if any(row.failed for row in rows) else _STRIP_NOTE
    return Strip(title_, tuple(rows), measured.factor, measured.decimals, note)


_FAILED_NOTE = "×: a trial that diverged or collapsed, which is not in the mean;"
_STRIP_NOTE = (
    "·: a seed; ●: the mean, with its interval. Intervals that overlap do not show that there is no difference: models "
    "are compared seed by seed."
)


def _without_result(found: ModelComparison) -> Report:
    missing = found.without_result
    return [f"Not compared, because no trial has a result: {listed(missing)}."] if missing else []


def _looks_taken(found: ModelComparison, ranked: Ranking) -> Report:
    """How many looks have been taken, and the level of the last of them."""
    look = found.look
    if look is None:
        return []
    left_out = count(found.num_left_out, "trial")
    more = (
        f" The {left_out} of the next look are left out until all have ended." if found.num_left_out else ""
    )
    return [
        f"{count(look.number, 'look')} taken of {len(look.schedule)} planned (after "
        f"{listed([str(seeds) for seeds in look.schedule])} seeds). All looks together may err in {level(ALPHA)} of "
        f"studies (Lan and DeMets); the tests below are at {level(ranked.alpha)}.{more}"
    ]


def _one_seed(ranked: Ranking) -> str:
    if not ranked.comparisons:
        return ""
    return "A model with one seed has no interval, so no difference can be tested; train each model with several seeds."


def _verdict(found: ModelComparison, ranked: Ranking) -> tuple[str, Report]:
    """The answer; the significant differences, and the seeds that the others would need."""
    pairs, measured = ranked.comparisons, metric(found.metric)
    by = "seed and fold, corrected resampled t tests" if _folded(found) else "seed"
    paired = f"paired by {by}" + (" where seeds are shared" if any(map(is_unpaired, pairs)) else "")
    if any(pair.comparison.test == "crossed t" for pair in pairs):
        paired += ", in which each of the crossed seeds counts once"
    if any(pair.comparison.test in ("signed-rank", "rank-sum") for pair in pairs):
        paired += ", by ranks where some trials of a model collapsed"
    method = f"{count(len(pairs), 'comparison')}, {paired}, {_correction(ranked)}, {level(ranked.alpha)}"
    chance = _at_chance(found)
    if not found.supported:
        lead = f"These models cannot be ordered: the data support no difference between any two of them ({method})."
        return lead, [*chance, *_outlook(found)]
    by_size = sorted(found.supported, key=lambda pair: abs(pair.comparison.difference.estimate))
    differences = Points(
        f"Significant differences ({method}):",
        tuple(f"{_difference(pair, measured)}, p = {pair.p_adjusted:.2g}" for pair in found.supported),
    )
    if found.winner:
        least = next(pair for pair in by_size if found.winner in (pair.a, pair.b))
        next_best = f" The least of its leads: {_difference(least, measured)}." if len(pairs) > 1 else ""
        return f"{found.winner} is significantly better than every other model.{next_best}", [
            differences,
            *chance,
        ]
    best = f" Not significantly worse than any other: {listed(found.not_worse)}." if found.not_worse else ""
    no_winner = "No model is significantly better than every other one."
    if found.winners:
        are = "is" if len(found.winners) == 1 else "are each"
        no_winner = f"{listed([*found.winners])} {are} significantly better than every other model on the same data set"
        no_winner += "." if found.is_separated else "; on other data sets, no model is."
    answer = (
        f"{len(by_size)} of {count(len(pairs), 'difference')} {'is' if len(by_size) == 1 else 'are'} significant; the "
        f"largest: {_difference(by_size[-1], measured)}. {no_winner}{best}"
    )
    return answer, [differences, *chance, *_outlook(found)]


def _correction(ranked: Ranking) -> str:
    others = ranked.num_tests - len(ranked.comparisons)
    return f"Holm's correction over these and {count(others, 'claim')}" if others else "Holm's correction"


def _at_chance(found: ModelComparison) -> Report:
    """The models whose accuracy may be that of guessing."""
    if not found.at_chance:
        return []
    by_chance: dict[str, list[str]] = {}
    for name, chance in found.at_chance.items():
        by_chance.setdefault(percent(chance), []).append(name)
    return [
        f"At chance: {listed(names)}. The accuracy is not significantly above {chance} %, which is reached by always "
        "predicting the most frequent class."
        for chance, names in by_chance.items()
    ]


def _difference(pair: PairwiseComparison, measured: Metric) -> str:
    difference = pair.comparison.difference
    better, worse, low, high = pair.a, pair.b, difference.low, difference.high
    if (difference.estimate < 0) != measured.lower_is_better:
        better, worse = worse, better
    if difference.estimate < 0:
        low, high = -high, -low
    bounds = f" [{measured.text(low)}, {measured.text(high)}]" if has_interval(pair.comparison) else ""
    points = f"{measured.text(abs(difference.estimate))} {measured.unit}".rstrip() + bounds
    return f"{better} is better than {worse} by {points}"


def _outlook(found: ModelComparison) -> Report:
    known = metric(found.metric)
    possible = known.factor != 100 or all(each.detectable < 1 for each in found.outlook)  # two accuracies
    words = seeds_in_words(found.outlook, shown=partial(amount, measured=known) if possible else None)
    if words and found.look and found.look.is_last:
        words += " All looks are taken: more seeds would be a new study, with other seeds."
    return [words] if words else []


def same_images_report(found: tuple[SameImages, ...]) -> Report:
    """In how many seeds the networks of the first model and of each other differ on the same test images."""
    if not found:
        return []
    lead = (
        f"On the same test images, network against network with the same seed (exact McNemar tests at {level(LEVEL)} "
        "each, without correction; they are about these networks, not about the models):"
    )
    points = (
        f"{each.first} against {each.other}: fewer errors in {each.num_fewer} of {each.num_seeds} pairs, "
        f"more in {each.num_more}"
        for each in found
    )
    return [Points(lead, tuple(points))]
