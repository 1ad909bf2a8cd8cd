"""What a search found, as tables, in words, as a plot, and as a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from dlbench.analysis.configurations import MIN_FOR_INTERVAL, Configuration, Summary, common, tally
from dlbench.analysis.search import Candidate, SearchFindings, searches, sort_key
from dlbench.report.tables import (
    Column,
    Report,
    Table,
    count,
    listed,
    means_note,
    plus_minus,
    replicate,
    signed,
    thousands,
)
from dlbench.spec.metrics import metric, metric_key, report_metric, title, words
from dlbench.spec.naming import field_title, setting
from dlbench.spec.spaces import SearchSpec
from dlbench.storage.results import StudyRecord

if TYPE_CHECKING:
    from dlbench.execution.plan import Plan

#: Configurations that the table shows.
_SHOWN = 10
_SAMPLERS = {"random": "random search", "quasi": "quasi-random search (Sobol)", "tpe": "TPE"}


def search_record(found: SearchFindings) -> dict[str, Any]:
    """A search as a record for JSON."""
    search, selection_bias = found.search, found.selection_bias
    return {
        **({"model": found.name} if found.name else {}),
        **search.model_dump(mode="json", exclude={"base"}),
        "space": dict(search.space),
        "metric": search.metric,
        "candidates": [
            {
                "number": each.number,
                "settings": each.settings(search),
                "value": each.value if math.isfinite(each.value) else None,
                "is_complete": each.is_complete,
                "trial_ids": [trial.id for trial in each.configuration.trials],
            }
            for each in found.candidates
        ],
        "winner": found.winner and found.winner.number,
        "confirmation": found.confirmation
        and {
            "value": found.confirmation.mean(search.metric),
            "reported": found.confirmation.mean(report_metric(search.base)),
            "val_accuracy": found.confirmation.mean("val/accuracy"),
            "test_accuracy": found.confirmation.mean("test/accuracy"),
            "trial_ids": [trial.id for trial in found.confirmation.trials],
        },
        "selection_bias": selection_bias
        and {
            "difference": selection_bias.difference.estimate,
            "low": selection_bias.difference.low,
            "high": selection_bias.difference.high,
        },
        "expected_best": list(found.expected),
    }


def search_report(found: SearchFindings) -> tuple[str, Report]:
    """The winner; the best configurations, the winner on new seeds, and what smaller budgets would find."""
    search = found.search
    if found.winner is None:
        return "No configuration has completed, so the search has no winner.", []
    lead, *confirmed = _winner(found, found.winner)
    return lead, [_table(found), *confirmed, *_expected(found), _course(search)]


def tuning_report(found: Sequence[SearchFindings]) -> Report:
    """How the models of a comparison were tuned, each by a search of its own."""
    search = found[0].search
    paths = [path for path, _ in search.space]
    measured = metric(search.metric)
    columns = (
        Column("model", "model", left=True),
        *(Column(path, field_title(path.removeprefix("model.")), _setting(path)) for path in paths),
        Column("value", f"{title(search.metric)} in the search", measured.text),
        Column("confirmed", "on the seeds compared", measured.text),
        Column("candidates", "configurations", thousands),
    )
    rows = tuple(
        (
            each.name,
            *(each.winner.settings(each.search).values() if each.winner else [None] * len(paths)),
            each.winner and each.winner.value,
            each.confirmation and each.confirmation.mean(search.metric),
            len(each.candidates),
        )
        for each in found
    )
    caption = (
        "The settings with which each model is compared: the best of its search by the mean on validation images over "
        f"{count(len(search.seeds), 'seed')}, which take no part in the comparison. {_course(search)} Each model has "
        "the same budget."
    )
    return [Table("Tuned settings", columns, rows, caption)]


def search_in_words(plan: Plan, search: SearchSpec) -> str:
    """How far the plan of a search goes: what is done, and what comes next."""
    number, generation, new = (
        len(search.generations),
        plan.generation,
        count(len(search.new_seeds), "new seed"),
    )
    every = (
        f"{'All' if number > 2 else 'Both'} {number} generations are" if number > 1 else "The generation is"
    )
    if generation > number + 1:
        is_confirmed = any(trial.spec.seed in search.new_seeds for trial in plan.trials)
        confirmed = f", and the winner is confirmed on {new}" if is_confirmed else ""
        return f"{every} done{confirmed}: the search has ended."
    if generation > number:
        stage = f"{every} done; the winner is confirmed on {new} next."
    elif generation > 1:
        done = f"{count(generation - 1, 'generation')} of {number} {'is' if generation == 2 else 'are'} done"
        stage = f"{done}; generation {generation} is next."
    elif number > 1:
        stage = f"Generation 1 of {number}; the others are proposed from the results of earlier ones."
    else:
        stage = "All configurations are proposed at once; these are the trials that they begin with."
    return (
        f"{stage} The search has at most {count(search.most_trials, 'trial')}, those with new seeds included."
    )


def progress_of_search(search: SearchSpec, number: int, result: StudyRecord) -> str:
    """A sentence on the search after a generation."""
    best = [
        (f"{each.name}: " if each.name else "")
        + (
            f"{_text(search, each.winner)}, {value_text(search, each.winner.value)}"
            if each.winner
            else "no result"
        )
        for each in searches(result)
    ]
    return f"Generation {number} of {len(search.generations)}, the best so far: {'; '.join(best)}"


def _table(found: SearchFindings) -> Table:
    search = found.search
    names = search.metric, report_metric(search.base)
    ordered = sorted(
        (each for each in found.candidates if each.is_complete and each.configuration.complete),
        key=lambda each: sort_key(each.configuration.trials, search.metric),
    )[:_SHOWN]
    paths = [path for path, _ in search.space]
    columns = (
        Column("number", "no."),
        *(Column(path, field_title(path.removeprefix("model.")), _setting(path)) for path in paths),
        *(
            Column(metric_key(name), title(name), partial(plus_minus, measured=metric(name)))
            for name in names
        ),
        Column("seeds", f"{replicate([ordered[0].configuration])}s"),
    )
    rows = tuple(
        (
            each.number,
            *each.settings(search).values(),
            *map(each.configuration.summary, names),
            tally(each.configuration),
        )
        for each in ordered
    )
    trials = [trial for each in ordered for trial in each.configuration.trials]
    note = means_note([row[len(paths) + 1] for row in rows])
    stopped = sum(not each.is_complete for each in found.candidates)
    halved = f" {count(stopped, 'configuration')} stopped by halving." if stopped else ""
    caption = f"{common(trials)}. no.: the order of proposal. {note}{halved}"
    more = f"The best {len(rows)} of {len(found.candidates):,} configurations"
    return Table(f"{more} by {words(search.metric)}", columns, rows, caption)


def _setting(path: str) -> Any:
    return str if "." in path else lambda value: setting(path, value)


def _winner(found: SearchFindings, winner: Candidate) -> list[str]:
    search = found.search
    value = f"{words(search.metric)} {value_text(search, winner.value)}"
    lead = f"Winner: {_text(search, winner)}, with {value} in the search."
    biased = "It was selected by this value, which is therefore optimistic; the test images took no part in the choice."
    if found.confirmation is None:
        wanted = "The search has not confirmed it on new seeds yet." if search.confirm else ""
        return [" ".join(filter(None, (lead, biased, wanted)))]
    new = found.confirmation
    numbers = ", ".join(_measured(new, name) for name in (search.metric, report_metric(search.base)))
    confirmed = (
        f"On {count(len(search.new_seeds), 'new seed')} ({count(len(new.complete), 'trial')}): {numbers}."
    )
    if new.failures:
        confirmed += f" {len(new.failures)} of {count(len(new.trials), 'trial')} diverged or collapsed."
    return [f"{lead} {biased}", f"{confirmed}{_bias_in_words(found)}"]


def _bias_in_words(found: SearchFindings) -> str:
    if found.selection_bias is None or found.winner is None or found.confirmation is None:
        return ""
    name = found.search.metric
    known = metric(name)
    difference = found.selection_bias.difference
    fewest = min(len(found.winner.configuration.complete), len(found.confirmation.complete))
    enough = fewest >= MIN_FOR_INTERVAL and not math.isnan(difference.low)
    text = signed(Summary(difference, (difference.estimate,) * (MIN_FOR_INTERVAL if enough else 1)), known)
    amount = f"{text} {known.unit}".rstrip()
    method = "Welch" if found.selection_bias.test == "welch" else "rank"
    return (
        f" Selection bias: {amount} ({words(name)} in the search less that on new seeds"
        f"{f', with its 95 % {method} interval' if enough else ''})."
    )


def _measured(group: Configuration, name: str) -> str:
    summary, known = group.summary(name), metric(name)
    return f"{words(name)} {plus_minus(summary, known) + known.sign if summary else '-'}"


def _expected(found: SearchFindings) -> Report:
    if not found.expected:
        return []
    budgets = [each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if each < len(found.expected)]
    budgets.append(len(found.expected))
    columns = (
        Column("budget", "configurations"),
        Column(
            "expected", f"expected best {words(found.search.metric)}", lambda v: value_text(found.search, v)
        ),
    )
    caption = (
        "The expected best of so many configurations drawn from this space, estimated from those that were tried "
        "(Dodge et al., 2019); optimistic, because configurations are selected by it."
    )
    return [
        Table("Expected best by budget", columns, tuple((b, found.expected[b - 1]) for b in budgets), caption)
    ]


def _course(search: SearchSpec) -> str:
    generations = len(search.generations)
    several = f"in {generations} generations of {search.generation}" if generations > 1 else "at once"
    space = listed([f"{_title(path)}={text}" for path, text in search.space])
    kind = "Hyperband with rungs at" if search.hyperband else "halving after"
    *earlier, last = search.rungs[:-1] or (0,)
    resource = search.resource.removesuffix("s")
    halving = (
        f", {kind} {listed([*map(str, earlier), count(last, resource)])}" if search.reduction_factor else ""
    )
    return (
        f"Searched by {_SAMPLERS[search.sampler]} (Optuna {search.optuna}, seed {search.search_seed}): "
        f"{count(search.num_configurations, 'proposal')} {several}{halving}, from {space}."
    )


def _text(search: SearchSpec, candidate: Candidate) -> str:
    values = candidate.settings(search).items()
    return ", ".join(f"{_title(path)}={_setting(path)(value)}" for path, value in values)


def _title(path: str) -> str:
    return field_title(path) if "." not in path else path.removeprefix("model.")


def value_text(search: SearchSpec, value: float) -> str:
    """A value of the metric of a search, with its unit."""
    known = metric(search.metric)
    return known.text(value) + known.sign
